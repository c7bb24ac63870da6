//! Rates as lines of JSON: what `lora-rates evaluate` and `variance` are asked about.

use crate::failure::Failure;
use anyhow::{Context as _, anyhow};
use lora_rates_common::block::BLOCKS;
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Rates, and what the user calls them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// The `id` of the line, else its number, counted from 1.
    pub(super) id: Value,
    /// 20 for each network.
    pub(super) rates: Vec<f64>,
}

/// The lines of a file, or of standard input, one after the other as they come. Empty ones are passed over.
///
/// `live` says which of the 20 N slots have a module.
///
/// # Errors
/// The file can't be read.
pub(super) fn read(
    path: Option<&Path>,
    live: Vec<bool>,
) -> Result<impl Iterator<Item = Result<Asked, Failure>>, Failure> {
    let (name, lines): (String, Box<dyn BufRead>) = match path {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("can't read {}; check --rates", path.display()))?;
            (path.display().to_string(), Box::new(BufReader::new(file)))
        }
        None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
    };
    let asked = move |(number, line): (u64, io::Result<String>)| {
        let line = match line {
            Ok(line) if line.trim().is_empty() => return None,
            Ok(line) => line,
            Err(error) => return Some(Err(anyhow!("can't read {name}: {error}").into())),
        };
        Some(parse(&line, number, &live).map_err(|why| anyhow!("{name}, line {number}: {why}").into()))
    };
    Ok((1..).zip(lines.lines()).filter_map(asked))
}

/// One line: a list of 20 N rates, or of N rates, one for all slots of each network; or an object with such a list as
/// `rates` and, if wanted, an `id`.
fn parse(line: &str, number: u64, live: &[bool]) -> Result<Asked, String> {
    let networks = live.len() / BLOCKS;
    let expected = format!("give a list of {} rates, or of {networks}, one a network", live.len());
    let (id, list) = match serde_json::from_str(line).map_err(|error| format!("no JSON ({error}); {expected}"))? {
        Value::Object(mut fields) => {
            let (id, rates) = (fields.remove("id"), fields.remove("rates"));
            if let Some(name) = fields.keys().next() {
                return Err(format!("the field {name:?} is none of id and rates"));
            }
            (id, rates.ok_or_else(|| format!("the field \"rates\" is missing; {expected}"))?)
        }
        list => (None, list),
    };
    let list: Vec<f64> = serde_json::from_value(list).map_err(|_| format!("this is no list of numbers; {expected}"))?;
    if let Some(rate) = list.iter().find(|rate| !(**rate as f32).is_finite()) {
        return Err(format!("the rate {rate:e} is beyond what F32 holds"));
    }
    let rates = match list.len() {
        found if found == live.len() => list,
        found if found == networks => {
            let of_network = list.iter().zip(live.chunks(BLOCKS));
            of_network.flat_map(|(rate, live)| live.iter().map(|live| if *live { *rate } else { 0.0 })).collect()
        }
        found => return Err(format!("the list has {found} numbers; {expected}")),
    };
    Ok(Asked { id: id.unwrap_or_else(|| number.into()), rates })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Vec<bool> {
        (0..40).map(|slot| slot != 1).collect()
    }

    #[test]
    fn a_line_is_all_rates_or_one_for_each_network() {
        let all: Vec<f64> = (0..40).map(f64::from).collect();
        let line = serde_json::to_string(&all).unwrap();
        assert_eq!(parse(&line, 3, &live()), Ok(Asked { id: 3.into(), rates: all }));
        let scales = parse(r#"{"id": "both", "rates": [0.5, 1]}"#, 1, &live()).unwrap();
        assert_eq!((scales.id, scales.rates.len()), ("both".into(), 40));
        assert_eq!((scales.rates[0], scales.rates[1], scales.rates[20]), (0.5, 0.0, 1.0));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, part) in [
            ("[1, 2", "no JSON"),
            ("[1]", "the list has 1 numbers; give a list of 40 rates, or of 2, one a network"),
            ("3", "no list of numbers"),
            ("[1, null]", "no list of numbers"),
            ("[1, 1e39]", "the rate 1e39 is beyond"),
            (r#"{"id": 1}"#, "\"rates\" is missing"),
            (r#"{"rate": [1, 2], "rates": [1, 2]}"#, "the field \"rate\" is none"),
        ] {
            let why = parse(line, 1, &live()).unwrap_err();
            assert!(why.contains(part), "{line}: {why}");
        }
    }
}
