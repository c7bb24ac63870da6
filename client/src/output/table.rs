//! The rates as a table: a row for each network, a column for each block.

use super::NetworkRates;
use lora_rates_common::block::{BLOCKS, NAMES};
use std::fmt::Write as _;

/// Most characters of a network's name that are shown.
const NAME_WIDTH: usize = 16;
/// Characters of a column; `-0.500` and a space.
const COLUMN: usize = 7;

/// The table, with a line of headings. A block in which a network has no module shows `-`. Where the lines would be
/// longer than `width`, there are several tables, of some blocks each.
pub fn table(networks: &[NetworkRates<'_>], width: Option<usize>) -> String {
    let names: Vec<String> = networks.iter().map(|network| shortened(network.name)).collect();
    let name = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let fitting = width.map_or(BLOCKS, |width| width.saturating_sub(name) / COLUMN).clamp(1, BLOCKS);
    // As many tables as needed, about equally wide.
    let columns = BLOCKS.div_ceil(BLOCKS.div_ceil(fitting));
    let blocks: Vec<usize> = (0..BLOCKS).collect();
    blocks.chunks(columns).map(|blocks| part(networks, &names, name, blocks)).collect()
}

/// The columns of these blocks.
fn part(networks: &[NetworkRates<'_>], names: &[String], width: usize, blocks: &[usize]) -> String {
    let mut text = " ".repeat(width);
    // Writing to a String can't fail.
    let headings = blocks.iter().filter_map(|block| NAMES.get(*block));
    let _ = headings.into_iter().try_for_each(|heading| write!(text, "{heading:>COLUMN$}"));
    text.push('\n');
    for (name, network) in names.iter().zip(networks) {
        let _ = write!(text, "{name:<width$}");
        for block in blocks {
            let _ = match (network.live.get(*block), network.rates.get(*block)) {
                (Some(true), Some(rate)) => write!(text, "{rate:>COLUMN$.3}"),
                _ => write!(text, "{:>COLUMN$}", "-"),
            };
        }
        text.push('\n');
    }
    text
}

/// The name, or its beginning and an ellipsis, with nothing in it that could move the cursor.
fn shortened(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    if name.chars().count() <= NAME_WIDTH {
        return name.chars().map(plain).collect();
    }
    name.chars().take(NAME_WIDTH - 1).map(plain).chain(['…']).collect()
}
