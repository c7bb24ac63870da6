//! The rates as lines that other programs read.

use super::NetworkRates;
use lora_rates_common::block::BLOCKS;
use std::fmt::Write as _;

/// Places of BASE, IN04, IN05, IN07, IN08, MID, OUT00..OUT05: the blocks of a network on transformers alone.
const TWELVE: [usize; 12] = [0, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// The line of values that `sd-webui-lora-block-weight` takes as a preset, `NAME:v,v,...`.
///
/// Twelve values if the network has modules in no other than the twelve blocks that hold transformers, else all twenty.
/// A block without modules has 0.
pub fn preset(network: &NetworkRates<'_>) -> String {
    // A colon ends the name there and a comma a value; a line is a preset.
    let name = network.name.replace(|c: char| c == ':' || c == ',' || c.is_control(), "_");
    format!("{name}:{}", values(network))
}

/// The values of [`preset`] alone, for `<lora:name:1:1:lbw=...>`.
pub fn values(network: &NetworkRates<'_>) -> String {
    let elsewhere = |place: &usize| !TWELVE.contains(place);
    let all: Vec<usize> = (0..BLOCKS).collect();
    let needs_all = all.iter().filter(|place| elsewhere(place)).any(|place| network.live.get(*place) == Some(&true));
    let rates = network.effective();
    let chosen = if needs_all { &all[..] } else { &TWELVE[..] };
    join(chosen.iter().filter_map(|place| rates.get(*place)))
}

/// The line of the reference program, `Network i weights: 0.500,...`; `number` counts from 0.
pub fn reference_line(number: usize, network: &NetworkRates<'_>) -> String {
    format!("Network {number} weights: {}", join(&network.rates))
}

fn join<'a>(rates: impl IntoIterator<Item = &'a f64>) -> String {
    let mut text = String::new();
    for rate in rates {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String can't fail. Adding 0 makes a zero of a negative one.
        let _ = write!(text, "{comma}{:.3}", round(*rate) + 0.0);
    }
    text
}

/// To three decimals, so that nothing prints as -0.000.
fn round(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}
