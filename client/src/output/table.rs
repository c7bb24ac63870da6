//! The rates as a table: a row for each network, a column for each block.

use super::NetworkRates;
use lora_rates_common::block::NAMES;
use std::fmt::Write as _;

/// Most characters of a network's name that are shown.
const NAME_WIDTH: usize = 16;
/// Characters of a column; `-0.500` and a space.
const COLUMN: usize = 7;

/// The table, with a line of headings. A block in which a network has no module shows `-`.
pub fn table(networks: &[NetworkRates<'_>]) -> String {
    let names: Vec<String> = networks.iter().map(|network| shortened(network.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let mut text = " ".repeat(width);
    // Writing to a String can't fail.
    let _ = NAMES.iter().try_for_each(|name| write!(text, "{name:>COLUMN$}"));
    text.push('\n');
    for (name, network) in names.iter().zip(networks) {
        let _ = write!(text, "{name:<width$}");
        for (rate, live) in network.rates.iter().zip(network.live) {
            let _ = if live { write!(text, "{rate:>COLUMN$.3}") } else { write!(text, "{:>COLUMN$}", "-") };
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
