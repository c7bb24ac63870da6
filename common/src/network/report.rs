//! What networks have, for people to read.

use super::error::shown;
use super::{Module, Network};
use crate::block::{BLOCKS, Block};
use std::fmt::{self, Write as _};

/// A network's modules in one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockSummary {
    /// How many.
    pub modules: usize,
    /// Least rank among them; 0 if there are none.
    pub min_rank: usize,
    /// Greatest rank among them; 0 if there are none.
    pub max_rank: usize,
}

impl BlockSummary {
    fn add(&mut self, rank: usize) {
        self.min_rank = if self.modules == 0 { rank } else { self.min_rank.min(rank) };
        self.max_rank = self.max_rank.max(rank);
        self.modules += 1;
    }
}

impl fmt::Display for BlockSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.modules == 1 { ' ' } else { 's' };
        write!(f, "{:>4} module{plural}  rank {}", self.modules, self.min_rank)?;
        if self.max_rank > self.min_rank {
            write!(f, " to {}", self.max_rank)?;
        }
        Ok(())
    }
}

/// Modules by slot of the rates.
pub(super) fn blocks(modules: &[Module]) -> [BlockSummary; BLOCKS] {
    let mut blocks = [BlockSummary::default(); BLOCKS];
    for module in modules {
        if let Some(summary) = blocks.get_mut(module.block.index()) {
            summary.add(module.rank);
        }
    }
    blocks
}

/// A table over several lines: for each network its modules and ranks by block, and the slots that do nothing.
pub fn report(networks: &[Network]) -> String {
    let mut text = String::new();
    for network in networks {
        // Writing to a String can't fail.
        let _ = write_network(&mut text, network);
    }
    text
}

fn write_network(text: &mut String, network: &Network) -> fmt::Result {
    let live = network.live();
    let count = live.iter().filter(|live| **live).count();
    let modules = network.modules.len();
    writeln!(text, "{}: {modules} modules, {count} of {BLOCKS} blocks live", network.name)?;
    for (block, summary) in Block::all().zip(network.blocks()).filter(|(_, summary)| summary.modules > 0) {
        writeln!(text, "  {block:<5} {summary}")?;
    }
    let dead = Block::all().zip(live).filter(|(_, live)| !live);
    let dead: Vec<&str> = dead.map(|(block, _)| block.name()).collect();
    if !dead.is_empty() {
        writeln!(text, "  dead: {}", dead.join(" "))?;
    }
    if let Some(first) = network.skipped.first() {
        let count = network.skipped.len();
        writeln!(text, "  skipped {count} keys that match no layer, the first {}", shown(first))?;
    }
    Ok(())
}
