//! A search by a coordinator: its files are sent there, and what happens is watched.

use super::follow::{End, OnInterrupt, follow};
use super::inputs::{self, Inputs, Model};
use super::record::Record;
use super::results::{Outcome, Place, Results};
use super::{ANEW, print_rates};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::shell::quoted;
use crate::progress::note;
use crate::remote::{Remote, Target, nameless, upload};
use crate::settings::{Existing, Settings};
use anyhow::anyhow;
use lora_rates_common::convert::{CreateSearch, SearchState, SearchStatus};
use lora_rates_common::spec::{ModelRef, SearchSpec};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Submits the search, or finds it if it was submitted before, and watches it until it ends.
pub(super) async fn search(
    settings: Settings,
    target: &Target,
    interrupts: &mut Interrupts,
) -> Result<Outcome, Failure> {
    let submitted = tokio::select! {
        submitted = submit(&settings, target) => submitted?,
        () = interrupts.asked() => {
            note("stopped before the search was submitted; the same command goes on from here");
            return Err(Failure::Interrupted);
        }
    };
    let (remote, spec, status) = submitted;
    print_rates(&settings, &spec, &status)?;
    let (rates, place) = (spec.initial_rates(), Place::of(&settings));
    let mut results = Results::new(spec, rates, Some(place.clone()), settings.json);
    let gone = std::future::pending();
    let end = follow(&remote, &status, &mut results, interrupts, OnInterrupt::Detach, gone).await?;
    results.write(explained(end, &status.search_id, target, Some(&place)))
}

/// Says what can be done about an end that is none.
pub(crate) fn explained(end: End, search_id: &str, target: &Target, place: Option<&Place>) -> End {
    match end {
        End::Detached => {
            note(&detached(search_id, target, place));
            End::Detached
        }
        End::Broken { what: what @ ("was paused" | "failed"), why } => {
            let why = format!("{why}; `{}` goes on with it", commands::resume(search_id, target));
            End::Broken { what, why }
        }
        end => end,
    }
}

fn detached(search_id: &str, target: &Target, place: Option<&Place>) -> String {
    format!(
        "search {search_id} goes on without this terminal\n  come back:  {}\n  end it:     {}",
        commands::watch(search_id, target, place),
        commands::cancel(search_id, target)
    )
}

/// Commands that the user is shown.
pub(crate) mod commands {
    use super::{Place, Target, quoted};

    pub(crate) fn watch(search_id: &str, target: &Target, place: Option<&Place>) -> String {
        let place = place.map(|Place { output_dir, output_name, save_every }| {
            let every = save_every.map(|every| format!(" --save_every_n_steps {every}")).unwrap_or_default();
            let folder = quoted(&output_dir.display().to_string());
            format!(" --output_dir {folder} --output_name {}{every}", quoted(output_name))
        });
        format!("lora-rates watch {search_id} {}{}", target.options(), place.unwrap_or_default())
    }

    pub(crate) fn resume(search_id: &str, target: &Target) -> String {
        format!("lora-rates resume {search_id} {}", target.options())
    }

    pub(crate) fn cancel(search_id: &str, target: &Target) -> String {
        format!("lora-rates cancel {search_id} {}", target.options())
    }
}

/// Opens everything, sends what the coordinator lacks, and makes or finds the search.
async fn submit(settings: &Settings, target: &Target) -> Result<(Remote, SearchSpec, SearchStatus), Failure> {
    let remote = Remote::connect(target).await?;
    let model = describe(&remote, settings).await?;
    let local = settings.clone();
    let opened = spawn_blocking(move || inputs::open_with_own_seed(&local, &model));
    let Inputs { spec, report } = opened.await.map_err(|_| anyhow!("opening the files failed"))??;
    note(&format!("{report}\nseed {}, by {}", spec.options.seed, target.url));
    let status = find_or_create(&remote, settings, target, &spec).await?;
    let record = Record { coordinator: target.url.clone(), search_id: status.search_id.clone(), spec: spec.clone() };
    record.save(&settings.output_dir, &settings.output_name)?;
    Ok((remote, spec, status))
}

/// What the model is, as the workers see it.
pub(crate) async fn describe(remote: &Remote, settings: &Settings) -> Result<Model, Failure> {
    let mut said = false;
    let waiting = |why: &crate::remote::Error| {
        if !std::mem::replace(&mut said, true) {
            note(&format!("waiting for a worker that can say what the model is: {why}"));
        }
    };
    let (path, vae) = (settings.model.clone(), settings.vae.clone());
    let description = remote.describe_model(&path, vae.as_deref(), waiting).await?;
    Ok(Model { reference: ModelRef { path, vae, digest: description.digest }, config: description.config })
}

/// The search of this specification, in a state in which it goes on or is finished.
async fn find_or_create(
    remote: &Remote,
    settings: &Settings,
    target: &Target,
    spec: &SearchSpec,
) -> Result<SearchStatus, Failure> {
    upload(target, spec).await?;
    let create = CreateSearch {
        request_id: spec.fingerprint(),
        spec: Arc::new(nameless(spec, &settings.dataset.train_data_dir)),
        name: settings.name.clone(),
    };
    let status = remote.create(&create).await?;
    let id = &status.search_id;
    let (step, steps) = (status.step, status.max_train_steps);
    let at = format!("search {id} of these files and options is {} at step {step} of {steps}", status.state);
    let usage = |advice: &str| Err(Failure::Usage(anyhow!("{at}: {advice}")));
    match (status.state, settings.existing) {
        (SearchState::Preparing | SearchState::Running, Existing::Overwrite) if step > 0 => usage(&format!(
            "leave out --overwrite to watch it, or end it first with `{}`",
            commands::cancel(id, target)
        )),
        (SearchState::Preparing | SearchState::Running, _) => {
            note(&if step > 0 { at } else { format!("search {id} is submitted") });
            note("Ctrl-C detaches: the search goes on without this terminal");
            Ok(status)
        }
        (SearchState::Finished, Existing::Refuse | Existing::Resume) => {
            note(&format!("the search was finished: its {step} steps are written out again"));
            Ok(status)
        }
        (_, Existing::Overwrite) => {
            remote.delete(id).await?;
            // What only it needed is gone with it.
            upload(target, spec).await?;
            Ok(remote.create(&create).await?)
        }
        (SearchState::Paused | SearchState::Failed, Existing::Resume) => {
            note(&format!("going on at step {step} of {steps}"));
            Ok(remote.resume(id).await?)
        }
        (SearchState::Paused | SearchState::Failed, Existing::Refuse) => {
            let why = status.failure.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            usage(&format!("pass --resume to go on, or --overwrite to start anew{why}"))
        }
        (SearchState::Cancelled, Existing::Refuse | Existing::Resume) => usage(ANEW),
    }
}
