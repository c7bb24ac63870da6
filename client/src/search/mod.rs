//! A whole search on this machine: a coordinator and a worker in this process, and what a user sees of it.

mod client;
mod differences;
mod existing;
mod inputs;
mod interrupt;
mod local;
mod results;
mod state;
#[cfg(test)]
mod tests;
mod watch;

pub use results::Outcome;

use crate::failure::Failure;
use crate::output::stdout::print;
use crate::output::{NetworkRates, table};
use crate::progress::note;
use crate::settings::Settings;
use anyhow::{Context as _, anyhow};
use inputs::Inputs;
use interrupt::Interrupts;
use local::Local;
use lora_rates_common::convert::{SearchState, SearchStatus};
use lora_rates_common::spec::SearchSpec;
use lora_rates_worker::device;
use results::Results;
use state::StateFolder;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use tokio::task::spawn_blocking;

/// Threads that carry messages; the model is computed on threads of its own.
const THREADS: usize = 2;

/// Searches until all steps are made. Rates go to standard output and to files, everything else to standard error.
///
/// # Errors
/// Settings or files that make no sense; [`Failure::Interrupted`] when the user stopped it, after all was saved.
pub fn run(settings: Settings) -> Result<Outcome, Failure> {
    settings.validate().map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let result = runtime.block_on(search(settings));
    // A picture may still be being decoded, or a microbatch computed: nobody waits for the result.
    runtime.shutdown_background();
    result
}

async fn search(settings: Settings) -> Result<Outcome, Failure> {
    let mut interrupts = Interrupts::listen().context("can't listen for Ctrl-C")?;
    let ready = tokio::select! {
        ready = prepare(settings.clone()) => ready?,
        () = interrupts.asked() => {
            note("stopped before the first step");
            return Err(Failure::Interrupted);
        }
    };
    let Ready { spec, status, local } = ready;
    print(&table::table(&NetworkRates::of(&spec.networks, &status.rates)))?;
    let mut results = Results::new(&settings, spec);
    let end = watch::watch(&local, &status, &mut results, &mut interrupts).await;
    local.shut_down().await;
    results.write(end?)
}

/// A search that is there, and has not begun or not gone on yet.
struct Ready {
    spec: SearchSpec,
    status: SearchStatus,
    local: Local,
}

/// Opens everything, decides about what an earlier search left, and makes or finds the search.
async fn prepare(settings: Settings) -> Result<Ready, Failure> {
    let state = StateFolder::new(&settings.output_dir, &settings.output_name);
    let plan = existing::plan(&state, settings.existing)?;
    let seed = settings.seed.or(plan.seed()).unwrap_or_else(new_seed);
    let device = settings.device;
    let opened = spawn_blocking(move || {
        let device = device.unwrap_or_else(device::best);
        inputs::open(&settings, seed).map(|inputs| (inputs, device))
    });
    let (Inputs { spec, report }, device) = opened.await.map_err(|_| anyhow!("opening the files failed"))??;
    note(&format!("{report}\nseed {seed}, on {device}"));

    let spec = plan.apply(&state, spec)?;
    let local = Local::start(state.path(), device).await?;
    let status = local.client().create(&spec).await?;
    let (step, steps) = (status.step, status.max_train_steps);
    if status.state == SearchState::Finished {
        note(&format!("the search was finished: its {steps} steps are written out again"));
    } else if step > 0 {
        note(&format!("going on at step {step} of {steps}"));
    }
    Ok(Ready { spec, status, local })
}

/// What to do about a search that can't go on.
const ANEW: &str = "pass --overwrite to start anew";

/// A seed that the user didn't choose: small enough to be copied by hand.
fn new_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}
