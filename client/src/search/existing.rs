//! What becomes of a search that an earlier run left in the state folder.

use super::differences::differences;
use super::local::{self, Local};
use super::state::StateFolder;
use super::ANEW;
use crate::failure::Failure;
use crate::progress::note;
use crate::settings::Existing;
use anyhow::anyhow;
use lora_rates_common::convert::SearchState;
use lora_rates_common::spec::SearchSpec;

/// What is to be done with it once everything else is known to be in order.
#[derive(Debug)]
pub enum Plan {
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
pub async fn plan(state: &StateFolder, existing: Existing) -> Result<Plan, Failure> {
    if existing == Existing::Overwrite {
        return Ok(Plan::Replace);
    }
    let Some(stored) = state.stored()? else {
        if existing == Existing::Resume {
            note(&format!("nothing to resume in {}: starting from the beginning", state.path().display()));
        }
        return Ok(Plan::Create);
    };
    if existing == Existing::Resume {
        return Ok(Plan::GoOn(Box::new(stored)));
    }
    let local = Local::open(state.path()).await?;
    let found = local.client().create(&stored).await;
    local.shut_down().await;
    let found = found?;
    if found.state == SearchState::Finished || found.step == 0 {
        // Its results are written, or there are none.
        return Ok(Plan::Replace);
    }
    let (folder, step, steps) = (state.path().display(), found.step, found.max_train_steps);
    Err(Failure::Usage(anyhow!(
        "{folder} holds an unfinished search, at step {step} of {steps}: pass --resume to go on, or --overwrite to \
         start anew"
    )))
}

impl Plan {
    /// The seed of a search that goes on.
    pub fn seed(&self) -> Option<u64> {
        match self {
            Self::GoOn(stored) => Some(stored.options.seed),
            Self::Create | Self::Replace => None,
        }
    }

    /// Makes the folder ready for this search, and returns what is to be searched.
    ///
    /// # Errors
    /// A search that goes on was made with other options or files, or the operating system refuses.
    pub fn apply(self, state: &StateFolder, spec: SearchSpec) -> Result<SearchSpec, Failure> {
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
                local::refuse_busy(state.path())?;
                state.remove()?;
            }
            Self::Create => {}
        }
        state.create(&spec)?;
        Ok(spec)
    }
}
