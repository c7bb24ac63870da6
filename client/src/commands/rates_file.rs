//! Rates given in a file: as a search writes them, or as a JSON list.

use super::gradient::read_rates;
use super::tensors::{Axis, Inputs};
use crate::failure::Failure;
use crate::output::weights::TENSOR;
use anyhow::{Context as _, anyhow};
use lora_rates_common::block::{BLOCKS, NAMES};
use serde_json::Value;
use std::path::Path;

/// The 20 N rates of a file: `NAME.safetensors` (one tensor, `weights`) or `NAME.json` of a search, or a JSON list of a
/// list of 20 numbers for each network.
///
/// # Errors
/// It can't be read, or has the rates of another number of networks.
pub(super) fn read(path: &Path, networks: usize) -> Result<Vec<f64>, Failure> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
        let weights = Inputs::open(path)?.floats(TENSOR, [Axis::Is(BLOCKS * networks)])?.values;
        return Ok(weights.into_iter().map(f64::from).collect());
    }
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown} can't be read"))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(report)) => of_report(&report, networks).map_err(|what| {
            Failure::Run(anyhow!("{shown} {what}; give NAME.safetensors or NAME.json of a search with these networks"))
        }),
        _ => read_rates(path, networks),
    }
}

/// The rates of a search's report.
fn of_report(report: &serde_json::Map<String, Value>, networks: usize) -> Result<Vec<f64>, String> {
    let found = report.get("networks").and_then(Value::as_array).ok_or("is no report of a search")?;
    if found.len() != networks {
        return Err(format!("has the rates of {} networks, and {networks} are given", found.len()));
    }
    let mut rates = Vec::new();
    for network in found {
        for name in NAMES {
            // Where a network has no module, its rate has no effect and is null.
            rates.push(match network.get("rates").and_then(|rates| rates.get(name)) {
                Some(Value::Null) => 0.0,
                Some(rate) => rate.as_f64().ok_or_else(|| format!("has a rate of {name} that is no number"))?,
                None => return Err(format!("has a network without a rate of {name}")),
            });
        }
    }
    Ok(rates)
}
