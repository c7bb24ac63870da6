//! Following a search from its first event to its last.

use super::interrupt::Interrupts;
use super::local::{Local, Worker};
use super::results::Results;
use crate::failure::Failure;
use crate::progress::Progress;
use lora_rates_common::convert::{SearchEvent, SearchState, SearchStatus};

/// How a search ended, as far as this process is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All steps are made.
    Finished,
    /// The user stopped it.
    Stopped,
    /// It can't go on, for this reason.
    Failed(String),
}

/// Starts or resumes the search, hands every step to `results` and shows the progress.
///
/// # Errors
/// The coordinator refuses, or a step's rates can't be saved.
pub(super) async fn watch(
    local: &Local,
    status: &SearchStatus,
    results: &mut Results,
    interrupts: &mut Interrupts,
) -> Result<End, Failure> {
    let id = &status.search_id;
    let progress = Progress::new(status.step, status.max_train_steps);
    let mut watcher = Watcher { known: status.step, progress, results, end: None };
    // Past steps come first, from wherever the search stands now.
    if status.state == SearchState::Paused {
        local.client().resume(id).await?;
    }
    let mut worker = (!status.state.is_over()).then(|| local.work());
    let mut events = local.client().watch(id).await?;
    let mut asked = false;
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(event) => watcher.take(event, asked)?,
                None => break,
            },
            why = gone(&mut worker) => {
                watcher.end = Some(End::Failed(why));
                break;
            }
            () = interrupts.asked(), if !asked => {
                asked = true;
                watcher.progress.say("stopping: every step so far is kept; Ctrl-C again to end at once");
                // A search that ended in this very moment can't be paused; its last event says so.
                let _ = local.client().pause(id).await;
            }
        }
    }
    let Watcher { progress, end, .. } = watcher;
    progress.finish();
    Ok(end.unwrap_or_else(|| End::Failed("the coordinator stopped telling of it".to_owned())))
}

/// Why the worker left, once it has.
async fn gone(worker: &mut Option<Worker>) -> String {
    match worker {
        Some(worker) => worker.gone().await,
        None => std::future::pending().await,
    }
}

struct Watcher<'a> {
    /// Steps that were made before this process began.
    known: u64,
    progress: Progress,
    results: &'a mut Results,
    end: Option<End>,
}

impl Watcher<'_> {
    fn take(&mut self, event: SearchEvent, asked: bool) -> Result<(), Failure> {
        match event {
            SearchEvent::Step(record) => {
                self.results.add(&record)?;
                if record.step > self.known {
                    self.progress.step(&record);
                }
            }
            SearchEvent::Progress(progress) => self.progress.preparing(&progress),
            SearchEvent::Validation(_) => {}
            SearchEvent::Status(status) => {
                let failure = || status.failure.clone().unwrap_or_else(|| format!("it is {}", status.state));
                self.end = match status.state {
                    SearchState::Preparing | SearchState::Running => None,
                    SearchState::Finished => Some(End::Finished),
                    SearchState::Paused if asked && status.failure.is_none() => Some(End::Stopped),
                    SearchState::Paused | SearchState::Failed | SearchState::Cancelled => Some(End::Failed(failure())),
                };
            }
        }
        Ok(())
    }
}
