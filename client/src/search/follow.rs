//! Following a search from its first event to its last.

use super::crowd::Crowd;
use super::pictures;
use super::results::Results;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::json;
use crate::progress::Progress;
use crate::remote::{Remote, Seen};
use lora_rates_common::convert::{SamplePicture, SearchEvent, SearchState, SearchStatus};
use serde_json::json;
use std::sync::Arc;

/// How a search ended, as far as this process is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It came to its end; if that was before the last step, this says why.
    Finished(Option<String>),
    /// The user stopped it.
    Stopped,
    /// The user no longer follows it.
    Detached,
    /// It stands still.
    Broken {
        /// What became of it: `failed`, `was paused`, `was cancelled`.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl End {
    /// It can't go on, for this reason.
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::Broken { what: "failed", why: why.into() }
    }
}

/// What the first Ctrl-C does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// Pauses the search, and ends once that is done.
    Pause,
    /// Ends at once; the search goes on.
    Detach,
}

/// Hands every step to `results` and shows the progress, until the search ends or `gone` says why it can't go on.
///
/// # Errors
/// The coordinator refuses or is gone, or a step's rates can't be saved.
pub(crate) async fn follow(
    remote: &Remote,
    status: &SearchStatus,
    results: &mut Results,
    interrupts: &mut Interrupts,
    on_interrupt: OnInterrupt,
    gone: impl Future<Output = String>,
) -> Result<End, Failure> {
    let id = &status.search_id;
    let progress = Progress::new(status.step, status.max_train_steps);
    let mut follower = Follower { known: status.step, progress, results, end: None, asked: false, lost: false };
    let mut events = remote.watch(id, 0);
    let mut crowd = Crowd::of(remote, id);
    let mut gone = std::pin::pin!(gone);
    loop {
        tokio::select! {
            seen = events.next() => match seen? {
                Some(Seen::Event(SearchEvent::SamplePicture(picture))) => follower.picture(remote, &picture).await?,
                Some(seen) => follower.see(seen)?,
                None => break,
            },
            why = &mut gone => {
                follower.end = Some(End::failed(why));
                break;
            }
            workers = crowd.changed() => follower.progress.workers(workers),
            () = interrupts.asked(), if !follower.asked => {
                follower.asked = true;
                if on_interrupt == OnInterrupt::Detach {
                    follower.end = Some(End::Detached);
                    break;
                }
                follower.progress.say("stopping: every step so far is kept; Ctrl-C again to end at once");
                // A search that ended in this very moment can't be paused; its last event says so.
                let _ = remote.pause(id).await;
            }
        }
    }
    let Follower { progress, end, .. } = follower;
    progress.finish();
    Ok(end.unwrap_or_else(|| End::failed("the coordinator stopped telling of it")))
}

struct Follower<'a> {
    /// Steps that were made before this process began.
    known: u64,
    progress: Progress,
    results: &'a mut Results,
    end: Option<End>,
    /// Whether the user asked to stop.
    asked: bool,
    /// Whether the connection is broken.
    lost: bool,
}

impl Follower<'_> {
    fn see(&mut self, seen: Seen) -> Result<(), Failure> {
        match seen {
            Seen::Event(event) => return self.take(event),
            Seen::Lost(_) if self.lost => {}
            Seen::Lost(error) => {
                self.lost = true;
                let why = error.to_string();
                self.progress.say(&format!("{why}; trying again, the search goes on meanwhile"));
                self.tell(|| json!({ "event": "lost", "why": why }))?;
            }
            Seen::Back => {
                self.lost = false;
                self.progress.say("the connection is back");
                self.tell(|| json!({ "event": "back" }))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, event: SearchEvent) -> Result<(), Failure> {
        self.tell(|| json::event(&event))?;
        match event {
            SearchEvent::Step(record) => {
                self.results.add(&record)?;
                if record.step > self.known {
                    self.progress.step(&record);
                }
            }
            SearchEvent::Progress(progress) => self.progress.preparing(&progress),
            SearchEvent::Validation(validation) => {
                let best = self.results.add_validation(&validation);
                self.progress.validation(&validation, best);
            }
            // Those are fetched where they come in.
            SearchEvent::SamplePicture(_) => {}
            SearchEvent::Status(status) => {
                self.progress.workers(status.workers);
                if let Some(conclusion) = &status.conclusion {
                    self.results.conclude(conclusion);
                }
                self.end = self.ended(status);
            }
        }
        Ok(())
    }

    /// Fetches a sample picture. One that is not there is no reason to stop.
    async fn picture(&mut self, remote: &Remote, picture: &SamplePicture) -> Result<(), Failure> {
        self.tell(|| json::event(&SearchEvent::SamplePicture(Arc::new(picture.clone()))))?;
        let SamplePicture { step, item, seed, result } = picture;
        let place = self.results.picture_path(*step, *item, *seed);
        match pictures::fetch(remote, result, place.as_deref()).await {
            Ok(Some(path)) => {
                if self.results.add_picture(path.clone()) {
                    self.progress.say(&format!("step {step}: sampled {}", path.display()));
                }
            }
            Ok(None) => {}
            Err(why) => self.progress.say(&format!("step {step}: there is no picture of prompt {}: {why}", item + 1)),
        }
        Ok(())
    }

    /// Whether a search in this state goes on.
    fn ended(&self, status: SearchStatus) -> Option<End> {
        let SearchStatus { state, failure, .. } = status;
        let broken = |what| Some(End::Broken { what, why: failure.clone().unwrap_or_else(|| "by a user".to_owned()) });
        match state {
            SearchState::Preparing | SearchState::Running => None,
            SearchState::Finished => Some(End::Finished(failure)),
            SearchState::Paused if self.asked && failure.is_none() => Some(End::Stopped),
            SearchState::Paused => broken("was paused"),
            SearchState::Failed => broken("failed"),
            SearchState::Cancelled => broken("was cancelled"),
        }
    }

    fn tell(&self, event: impl FnOnce() -> serde_json::Value) -> Result<(), Failure> {
        if self.results.json() {
            json::line(&event())?;
        }
        Ok(())
    }
}
