//! `lora-rates pause`, `resume`, `cancel` and `delete`: what becomes of a search that a coordinator has.

use crate::failure::Failure;
use crate::output::json;
use crate::progress::note;
use crate::remote::{Remote, TargetArgs};
use crate::search::block_on;

/// A search, and where it is.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Args {
    /// The search's id, or the beginning of it; lora-rates list shows it
    id: String,
    #[command(flatten)]
    target: TargetArgs,
    /// Print the search as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Stop after what is committed.
    Pause,
    /// Go on with what was paused or failed.
    Resume,
    /// End for good.
    Cancel,
    /// Forget what is over.
    Delete,
}

/// Does it.
///
/// # Errors
/// There is no such search, its state doesn't allow it, or the coordinator can't be reached.
pub(crate) fn run(args: Args, order: Order) -> Result<(), Failure> {
    let Args { id, target, json } = args;
    let target = target.required()?;
    block_on(async {
        let remote = Remote::connect(&target).await?;
        let found = remote.find(&id).await?;
        let id = found.search_id.clone();
        let status = match order {
            Order::Pause => remote.pause(&id).await?,
            Order::Resume => remote.resume(&id).await?,
            Order::Cancel => remote.cancel(&id).await?,
            Order::Delete => {
                remote.delete(&id).await?;
                found
            }
        };
        if json {
            return Ok(json::line(&json::search(&status))?);
        }
        let (step, steps) = (status.step, status.max_train_steps);
        note(&match order {
            Order::Delete => format!("search {id} is forgotten"),
            _ => format!("search {id} is {} at step {step} of {steps}", status.state),
        });
        Ok(())
    })
}
