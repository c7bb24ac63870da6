//! `lora-rates watch`: a search that a coordinator has, followed from any machine.

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::Subject;
use crate::progress::note;
use crate::remote::{Remote, TargetArgs};
use crate::search::{OnInterrupt, Place, Record, Results, block_on, explained, follow};
use anyhow::Context as _;
use lora_rates_common::convert::RatesOf;
use std::path::PathBuf;

/// Watch a search until it ends
///
/// Ctrl-C ends the watching, not the search. With --output_dir the results are written there when the search ends, as
/// `lora-rates search` does; without it they are only shown. `lora-rates rates` gets them at any time.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Args {
    /// The search's id, or the beginning of it
    id: String,
    #[command(flatten)]
    target: TargetArgs,
    /// Folder for the results
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    output_dir: Option<PathBuf>,
    /// Name of the results: NAME.safetensors and NAME.json
    #[arg(long, value_name = "NAME", default_value = "rates", help_heading = "Output", requires = "output_dir")]
    output_name: String,
    /// Save the rates every N steps, as NAME-stepNNNNNNNN.safetensors
    #[arg(long, value_name = "N", help_heading = "Output", requires = "output_dir",
        value_parser = clap::value_parser!(u64).range(1..))]
    save_every_n_steps: Option<u64>,
    /// Print everything that happens as JSON, a line each
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Watches it.
///
/// # Errors
/// There is no such search, the coordinator can't be reached, the search fails, or a file can't be written.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let Args { id, target, output_dir, output_name, save_every_n_steps: save_every, json } = args;
    let target = target.required()?;
    let place = output_dir.map(|output_dir| Place { output_dir, output_name, save_every });
    block_on(async {
        let mut interrupts = Interrupts::listen().context("can't listen for Ctrl-C")?;
        let found = async {
            let remote = Remote::connect(&target).await?;
            let status = remote.find(&id).await?;
            let rates = remote.rates(&status.search_id, RatesOf::Step(0)).await;
            // A coordinator that keeps no rates of the beginning has at least the last.
            let rates = match rates {
                Err(error) if !error.is_passing() => remote.rates(&status.search_id, RatesOf::Last).await?,
                rates => rates?,
            };
            Ok::<_, Failure>((remote, status, rates))
        };
        let (remote, status, rates) = tokio::select! {
            found = found => found?,
            () = interrupts.asked() => return Err(Failure::Interrupted),
        };
        let id = &status.search_id;
        let spec = place.as_ref().and_then(|place| Record::spec_of(id, &place.output_dir, &place.output_name));
        let subject = match spec {
            Some(spec) => spec.into(),
            None => {
                let names = rates.networks.iter().map(|network| (network.name.clone(), network.sha256.clone()));
                Subject::named(names, status.max_train_steps)
            }
        };
        let start = rates.networks.into_iter().flat_map(|network| network.rates).collect();
        note(&format!("search {id} {} is {} at step {}", status.name, status.state, status.step));
        let mut results = Results::new(subject, start, place.clone(), json);
        let never = std::future::pending();
        let end = follow(&remote, &status, &mut results, &mut interrupts, OnInterrupt::Detach, never).await?;
        results.write(explained(end, id, &target, place.as_ref())).map(|_| ())
    })
}
