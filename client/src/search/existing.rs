//! What becomes of a search that an earlier run left in the state folder.

use super::ANEW;
use super::differences::differences;
use super::state::StateFolder;
use crate::failure::Failure;
use crate::progress::note;
use crate::settings::Existing;
use anyhow::anyhow;
use lora_rates_common::convert::SearchState;
use lora_rates_common::optimizer::State;
use lora_rates_common::spec::SearchSpec;
use lora_rates_coordinator::store::{self, Store, Stored};

/// What is to be done with it once everything else is known to be in order.
#[derive(Debug)]
pub(super) enum Plan {
    /// There is none.
    Create,
    /// It goes on.
    GoOn(Box<SearchSpec>),
    /// It is removed.
    Replace,
}

/// Decides, without changing anything yet.
///
/// # Errors
/// There is a search that the user said nothing about, another process is at it, or it can't be read.
pub(super) fn plan(state: &StateFolder, existing: Existing) -> Result<Plan, Failure> {
    if existing == Existing::Overwrite {
        return Ok(Plan::Replace);
    }
    let Some(stored) = state.stored()? else {
        if existing == Existing::Resume {
            note(&format!("nothing to resume in {}: starting from the beginning", state.path().display()));
        }
        return Ok(Plan::Create);
    };
    let found = Store::open(state.path())?.searches()?.into_iter().find(|one| one.fingerprint == stored.fingerprint());
    let (folder, resume) = (state.path().display(), existing == Existing::Resume);
    match found {
        // Nothing was done before it failed, and what made it fail is hopefully mended.
        Some(found) if gave_up(found.state) && found.optimizer.step == 0 => Ok(Plan::Replace),
        Some(Stored {
            state: SearchState::Cancelled, optimizer: State { step, .. }, max_train_steps: steps, ..
        }) => Err(Failure::Usage(anyhow!("the search in {folder} was cancelled at step {step} of {steps}; {ANEW}"))),
        Some(Stored {
            state: SearchState::Failed,
            failure,
            optimizer: State { step, .. },
            max_train_steps: steps,
            ..
        }) if !resume => {
            let why = failure.map(|why| format!(" ({why})")).unwrap_or_default();
            let message = format!("the search in {folder} failed at step {step} of {steps}{why}");
            Err(Failure::Usage(anyhow!(
                "{message}: pass --resume to try again from there, or --overwrite to start anew"
            )))
        }
        _ if resume => Ok(Plan::GoOn(Box::new(stored))),
        Some(Stored { state, optimizer: State { step: step @ 1.., .. }, max_train_steps: steps, .. })
            if state != SearchState::Finished =>
        {
            let message = format!("{folder} holds an unfinished search, at step {step} of {steps}");
            Err(Failure::Usage(anyhow!("{message}: pass --resume to go on, or --overwrite to start anew")))
        }
        // Its results are written, or there are none.
        _ => Ok(Plan::Replace),
    }
}

/// Whether a search of this state doesn't go on by itself.
fn gave_up(state: SearchState) -> bool {
    matches!(state, SearchState::Failed | SearchState::Cancelled)
}

impl Plan {
    /// The seed of a search that goes on.
    pub(super) fn seed(&self) -> Option<u64> {
        match self {
            Self::GoOn(stored) => Some(stored.options.seed),
            Self::Create | Self::Replace => None,
        }
    }

    /// Makes the folder ready for this search, and returns what is to be searched.
    ///
    /// # Errors
    /// A search that goes on was made with other options or files, or the operating system refuses.
    pub(super) fn apply(self, state: &StateFolder, spec: SearchSpec) -> Result<SearchSpec, Failure> {
        match self {
            Self::GoOn(stored) => match differences(&stored, &spec) {
                None => return Ok(*stored),
                Some(different) => {
                    let folder = state.path().display();
                    let message = format!("can't resume {folder}, it was made with other settings: {different}");
                    return Err(Failure::Usage(anyhow!("{message}; use the same again, or {ANEW}")));
                }
            },
            Self::Replace => {
                refuse_busy(state)?;
                state.remove()?;
            }
            Self::Create => {}
        }
        state.create(&spec)?;
        Ok(spec)
    }
}

/// Fails if another process is at the search. A damaged store is no reason to keep it.
fn refuse_busy(state: &StateFolder) -> Result<(), Failure> {
    if !state.holds_search() {
        return Ok(());
    }
    match Store::open(state.path()) {
        Err(error @ store::Error::Locked { .. }) => Err(error.into()),
        _ => Ok(()),
    }
}
