//! A whole search, on this machine or by a coordinator, and what a user sees of it.

mod crowd;
mod differences;
mod elsewhere;
mod existing;
mod follow;
mod here;
pub(crate) mod inputs;
pub(crate) mod local;
mod pictures;
mod record;
mod results;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use elsewhere::{describe, explained};
pub(crate) use follow::{OnInterrupt, follow};
pub(crate) use here::{devices, on};
pub(crate) use record::Record;
pub use results::Outcome;
pub(crate) use results::{Place, Results, lines};

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::listing::terminal_width;
use crate::output::stdout::print;
use crate::output::{NetworkRates, table};
use crate::settings::Settings;
use anyhow::Context as _;
use lora_rates_common::convert::SearchStatus;
use lora_rates_common::spec::SearchSpec;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Threads that carry messages; the model is computed on threads of its own.
const THREADS: usize = 2;

/// Searches until all steps are made. Rates go to standard output and to files, everything else to standard error.
///
/// # Errors
/// Settings or files that make no sense; [`Failure::Interrupted`] when the user stopped it, after all was saved, or no
/// longer follows it.
pub fn run(settings: Settings) -> Result<Outcome, Failure> {
    settings.validate().map_err(Failure::usage)?;
    block_on(async {
        let mut interrupts = Interrupts::listen().context("can't listen for Ctrl-C")?;
        match settings.coordinator.clone() {
            None => here::search(settings, &mut interrupts).await,
            Some(target) => elsewhere::search(settings, &target, &mut interrupts).await,
        }
    })
}

/// Does it on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let result = runtime.block_on(work);
    // A picture may still be being decoded, or a microbatch computed: nobody waits for the result.
    runtime.shutdown_background();
    result
}

impl Place {
    /// Where a search's results go.
    fn of(settings: &Settings) -> Self {
        Self {
            output_dir: settings.output_dir.clone(),
            output_name: settings.output_name.clone(),
            save_every: settings.save_every_n_steps,
        }
    }
}

/// The rates that a search begins or goes on with, as a table.
fn print_rates(settings: &Settings, spec: &SearchSpec, status: &SearchStatus) -> Result<(), Failure> {
    if !settings.json {
        print(&table::table(&NetworkRates::of(&spec.networks, &status.rates), terminal_width()))?;
    }
    Ok(())
}

/// What to do about a search that can't go on.
const ANEW: &str = "pass --overwrite to start anew";

/// A seed that the user didn't choose: small enough to be copied by hand.
fn new_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}
