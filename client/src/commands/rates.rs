//! `lora-rates rates`: the rates of a search that a coordinator has.

use crate::failure::Failure;
use crate::output::listing::terminal_width;
use crate::output::report::{NetworkReport, networks};
use crate::output::{Subject, file, json, stdout::print, table, weights};
use crate::progress::note;
use crate::remote::{Remote, StepRates, TargetArgs};
use crate::search::{block_on, lines};
use anyhow::Context as _;
use lora_rates_common::convert::RatesOf;
use serde::Serialize;
use std::path::PathBuf;

/// Show the rates of a search, and write them to files
///
/// Prints them as a table and as lines for sd-webui-lora-block-weight: those after the last step, after another one, or
/// those of the lowest held-out loss.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Args {
    /// The search's id, or the beginning of it
    id: String,
    #[command(flatten)]
    target: TargetArgs,
    /// Those of the lowest held-out loss
    #[arg(long, conflicts_with = "step")]
    best: bool,
    /// Those after this many steps
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Folder to write NAME.safetensors and NAME.json to
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    output_dir: Option<PathBuf>,
    /// Name of the files
    #[arg(long, value_name = "NAME", default_value = "rates", help_heading = "Output", requires = "output_dir")]
    output_name: String,
    /// Print them as JSON, in one line
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// What is printed as JSON, and written.
#[derive(Debug, Serialize)]
struct Rates {
    search_id: String,
    name: String,
    step: u64,
    networks: Vec<NetworkReport>,
}

/// Gets them.
///
/// # Errors
/// There is no such search or step, the coordinator can't be reached, or a file can't be written.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let Args { id, target, best, step, output_dir, output_name, json } = args;
    let target = target.required()?;
    let of = match step {
        Some(step) => RatesOf::Step(step),
        None if best => RatesOf::Best,
        None => RatesOf::Last,
    };
    let (status, found) = block_on(async {
        let remote = Remote::connect(&target).await?;
        let status = remote.find(&id).await?;
        let rates = remote.rates(&status.search_id, of).await?;
        Ok((status, rates))
    })?;
    let StepRates { step, networks: named } = found;
    let names = named.iter().map(|network| (network.name.clone(), network.sha256.clone()));
    let subject = Subject::named(names, status.max_train_steps);
    let numbers: Vec<f64> = named.into_iter().flat_map(|network| network.rates).collect();
    let networks = networks(&subject, &numbers);
    let rates = Rates { search_id: status.search_id, name: status.name, step, networks };
    if let Some(folder) = output_dir {
        let path = |ending: &str| folder.join(format!("{output_name}.{ending}"));
        let (tensor, report) = (path("safetensors"), path("json"));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("can't make {}; check --output_dir", folder.display()))?;
        weights::save(&tensor, &numbers)?;
        let text = serde_json::to_string_pretty(&rates)? + "\n";
        file::replace(&report, text.as_bytes()).with_context(|| format!("can't write {}", report.display()))?;
        note(&format!("wrote {} and {}", tensor.display(), report.display()));
    }
    if json {
        return Ok(json::line(&serde_json::to_value(&rates)?)?);
    }
    let shown = subject.with_rates(&numbers);
    note(&format!("after step {step}"));
    Ok(print(&format!("{}{}", table::table(&shown, terminal_width()), lines(&shown)))?)
}
