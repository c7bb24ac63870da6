//! A whole search on this machine: a coordinator and workers in this process.

use super::follow::{OnInterrupt, follow};
use super::inputs::{self, Inputs};
use super::local::Local;
use super::results::{Outcome, Place, Results};
use super::state::StateFolder;
use super::{existing, new_seed, print_rates};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::progress::note;
use crate::settings::Settings;
use anyhow::anyhow;
use lora_rates_common::convert::{CreateSearch, SearchState, SearchStatus};
use lora_rates_common::spec::SearchSpec;
use lora_rates_worker::device::{self, Device};
use lora_rates_worker::engine::EngineKind;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Searches until all steps are made.
pub(super) async fn search(settings: Settings, interrupts: &mut Interrupts) -> Result<Outcome, Failure> {
    let ready = tokio::select! {
        ready = prepare(settings.clone()) => ready?,
        () = interrupts.asked() => {
            note("stopped before the first step");
            return Err(Failure::Interrupted);
        }
    };
    let Ready { spec, status, local, devices } = ready;
    let engine = settings.engine;
    print_rates(&settings, &spec, &status)?;
    let (rates, place) = (spec.initial_rates(), Place::of(&settings));
    let mut results = Results::new(spec, rates, Some(place), settings.json);
    let end = run(&local, &status, (&devices, engine), &mut results, interrupts).await;
    local.shut_down().await;
    results.write(end?)
}

async fn run(
    local: &Local,
    status: &SearchStatus,
    (devices, engine): (&[Device], EngineKind),
    results: &mut Results,
    interrupts: &mut Interrupts,
) -> Result<super::follow::End, Failure> {
    let remote = local.remote();
    if matches!(status.state, SearchState::Paused | SearchState::Failed) {
        remote.resume(&status.search_id).await?;
    }
    let over = matches!(status.state, SearchState::Finished | SearchState::Cancelled);
    let workers = (!over).then(|| local.work(devices, engine));
    let gone = async {
        match workers {
            Some(workers) => workers.gone().await,
            None => std::future::pending().await,
        }
    };
    follow(remote, status, results, interrupts, OnInterrupt::Pause, gone).await
}

/// A search that is there, and has not begun or not gone on yet.
struct Ready {
    spec: SearchSpec,
    status: SearchStatus,
    local: Local,
    devices: Vec<Device>,
}

/// Opens everything, decides about what an earlier search left, and makes or finds the search.
async fn prepare(settings: Settings) -> Result<Ready, Failure> {
    let state = StateFolder::new(&settings.output_dir, &settings.output_name);
    let plan = existing::plan(&state, settings.existing)?;
    let seed = settings.seed.or(plan.seed()).unwrap_or_else(new_seed);
    let name = settings.name.clone();
    let opened = spawn_blocking(move || {
        let devices = devices(&settings)?;
        let model = inputs::open_model(&settings)?;
        inputs::open(&settings, seed, &model).map(|inputs| (inputs, devices))
    });
    let (Inputs { spec, report }, devices) = opened.await.map_err(|_| anyhow!("opening the files failed"))??;
    note(&format!("{report}\nseed {seed}, on {}", on(&devices)));

    let spec = plan.apply(&state, spec)?;
    let local = Local::start(state.path()).await?;
    let create = CreateSearch { request_id: spec.fingerprint(), spec: Arc::new(spec.clone()), name };
    let status = local.remote().create(&create).await?;
    let (step, steps) = (status.step, status.max_train_steps);
    if status.state == SearchState::Finished {
        note(&format!("the search was finished: its {step} steps are written out again"));
    } else if step > 0 {
        note(&format!("going on at step {step} of {steps}"));
    }
    Ok(Ready { spec, status, local, devices })
}

/// Where the model is computed; all of it is there.
///
/// # Errors
/// One that was asked for is not.
pub(crate) fn devices(settings: &Settings) -> Result<Vec<Device>, Failure> {
    if settings.devices.is_empty() {
        let all = device::all();
        for &device in &all {
            check_engine(device, settings)?;
        }
        return Ok(all);
    }
    for &wanted in &settings.devices {
        device::check(wanted).map_err(|why| anyhow!("--device {wanted}: {why}"))?;
        check_engine(wanted, settings)?;
    }
    Ok(settings.devices.clone())
}

fn check_engine(device: Device, settings: &Settings) -> Result<(), Failure> {
    let engine = settings.engine;
    let checked = device::check_engine(device, engine, settings.options.fp8_base);
    Ok(checked.map_err(|why| anyhow!("--engine {engine}: {why}"))?)
}

/// `cuda:0`, `2 workers: cuda:0 and cuda:1`.
pub(crate) fn on(devices: &[Device]) -> String {
    match devices {
        [device] => device.to_string(),
        devices => {
            let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
            format!("{} workers: {}", devices.len(), names.join(", "))
        }
    }
}
