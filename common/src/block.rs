//! The twenty blocks of SDXL that have a rate of their own.

use std::fmt;
use std::str::FromStr;

/// Rates per network: one for each [`Block`].
pub const BLOCKS: usize = 20;

/// Printed names of the blocks, in the order of the rates.
pub const NAMES: [&str; BLOCKS] = [
    "BASE", "IN00", "IN01", "IN02", "IN03", "IN04", "IN05", "IN06", "IN07", "IN08", "MID", "OUT00", "OUT01", "OUT02",
    "OUT03", "OUT04", "OUT05", "OUT06", "OUT07", "OUT08",
];

/// A slot of a network's rates: BASE (both text encoders), IN00..IN08, MID, OUT00..OUT08, as an index from 0 to 19.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(u8);

impl Block {
    /// Both text encoders.
    pub const BASE: Self = Self(0);
    /// `middle_block` of the UNet.
    pub const MID: Self = Self(10);

    /// `input_blocks.k` of the UNet; `None` when k is over 8.
    pub fn input(k: usize) -> Option<Self> {
        (k < 9).then(|| Self(1 + k as u8))
    }

    /// `output_blocks.k` of the UNet; `None` when k is over 8.
    pub fn output(k: usize) -> Option<Self> {
        (k < 9).then(|| Self(11 + k as u8))
    }

    /// The block at this place of a network's rates; `None` from 20 on.
    pub fn from_index(index: usize) -> Option<Self> {
        (index < BLOCKS).then_some(Self(index as u8))
    }

    /// Place among a network's twenty rates.
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// `BASE`, `IN00`, ..., `OUT08`.
    pub fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// All twenty, in the order of the rates.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..BLOCKS as u8).map(Self)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = NAMES.iter().position(|name| *name == s).and_then(Self::from_index);
        found.ok_or_else(|| format!("{s} is no block; blocks are {}", NAMES.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_agree_for_every_block() {
        for block in Block::all() {
            assert_eq!(block.name().parse::<Block>(), Ok(block));
            assert_eq!(Block::from_index(block.index()), Some(block));
        }
        assert_eq!(Block::input(4).map(Block::name), Some("IN04"));
        assert_eq!(Block::output(8).map(Block::name), Some("OUT08"));
        assert_eq!(Block::input(9), None);
        assert_eq!(Block::MID.name(), "MID");
        assert!("IN09".parse::<Block>().is_err());
    }
}
