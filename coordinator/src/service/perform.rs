//! Doing what a search says.

use super::message::Done;
use super::{Service, ToWorker};
use crate::metrics::Outcome;
use crate::search::{Command, Event, WorkerId};
use crate::store;
use lora_rates_common::convert::{Prepare, SearchEvent, SearchState};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a search's commands came of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Order,
    Worker,
    /// A worker's result, that came at this time.
    Result(Instant),
    Store,
    Clock,
}

/// Resolves once a state is stored, or is not.
pub(super) type Stored = oneshot::Receiver<Result<(), store::Error>>;

impl Service {
    /// Does what a search says. Returns what is on its way to the store and nobody else will hear of.
    pub(super) fn perform_all(&mut self, id: &str, commands: Vec<Command>, cause: Cause) -> Vec<Stored> {
        commands.into_iter().filter_map(|command| self.perform(id, command, cause)).collect()
    }

    fn perform(&mut self, id: &str, command: Command, cause: Cause) -> Option<Stored> {
        let entry = self.catalog.any(id)?;
        match command {
            Command::Prepare(worker) => {
                if let Some(spec) = entry.spec() {
                    let prepare = Prepare { search_id: id.to_owned(), spec: spec.clone() };
                    self.workers.tell(worker, ToWorker::Prepare(prepare));
                }
            }
            Command::Rates(worker, rates) => {
                entry.clock.rates();
                self.workers.voided(worker);
                self.workers.tell(worker, ToWorker::Rates(rates));
            }
            Command::Lease(worker, lease) => {
                self.settings.metrics.result(Outcome::Leased);
                self.lease(id, worker, ToWorker::Lease(lease));
            }
            Command::Encode(worker, encode) => self.lease(id, worker, ToWorker::Encode(encode)),
            Command::Evaluate(worker, evaluate) => self.lease(id, worker, ToWorker::Evaluate(evaluate)),
            Command::Draw(worker, draw) => self.lease(id, worker, ToWorker::Draw(draw)),
            Command::Release(worker) => self.release(id, worker),
            Command::Expel(worker, reason) => {
                tracing::warn!(search = id, %worker, reason, "a worker gets no more work for a search");
                entry.expelled = Some(reason);
                self.workers.expel(worker, id);
                if let Cause::Result(_) = cause {
                    self.workers.quarantine(worker, self.settings.quarantine);
                }
                self.release(id, worker);
            }
            Command::Commit(commit) => {
                if let Cause::Result(begun) = cause {
                    entry.clock.computed(begun, &self.settings.metrics);
                }
                self.write(id, move |store, id| store.commit(id, &commit));
            }
            Command::Validated(validation) => self.write(id, move |store, id| store.add_validation(id, &validation)),
            Command::Sampled(pictures) => self.write(id, move |store, id| store.add_pictures(id, &pictures)),
            Command::Concluded(conclusion) => {
                self.write(id, move |store, id| store.conclude(id, &conclusion));
            }
            Command::Publish(record) => {
                tracing::debug!(search = id, step = record.step, loss = record.loss, "step");
                self.settings.metrics.step(id, &record);
                entry.publish(SearchEvent::Step(record));
            }
            Command::PublishValidation(validation) => {
                tracing::debug!(search = id, step = validation.step, loss = validation.loss, "evaluation");
                self.settings.metrics.validation(id, &validation);
                entry.publish(SearchEvent::Validation(validation));
            }
            Command::PublishPicture(picture) => {
                let (step, item) = (picture.step, picture.item);
                match &picture.result {
                    Ok(_) => tracing::debug!(search = id, step, item, "sample picture"),
                    Err(why) => tracing::warn!(search = id, step, item, why, "a picture could not be sampled"),
                }
                entry.publish(SearchEvent::SamplePicture(picture));
            }
            Command::Progress(progress) => entry.publish(SearchEvent::Progress(progress)),
            Command::State(state, failure) => return Some(self.enter(id, state, failure)),
            Command::Refused(worker, refusal) if refusal.is_fault() => {
                tracing::warn!(search = id, %worker, %refusal, "a result was refused");
            }
            Command::Refused(worker, refusal) => tracing::debug!(search = id, %worker, %refusal, "a late result"),
        }
        None
    }

    fn lease(&mut self, id: &str, worker: WorkerId, message: ToWorker) {
        if let Some(entry) = self.catalog.any(id) {
            entry.clock.leased();
        }
        self.workers.leased(worker);
        self.workers.tell(worker, message);
    }

    /// A worker is free for others.
    fn release(&mut self, id: &str, worker: WorkerId) {
        if self.workers.works_for(worker, id) {
            self.workers.assign(worker, None);
            self.workers.tell(worker, ToWorker::Release(id.to_owned()));
            self.unsettled = true;
        }
    }

    /// Gives the store something of which the search is to hear once it is there.
    fn write(
        &mut self,
        id: &str,
        write: impl FnOnce(&mut store::Store, &str) -> Result<(), store::Error> + Send + 'static,
    ) {
        if let Some(entry) = self.catalog.any(id) {
            entry.writes();
        }
        let (says, id, search) = (self.says.clone(), id.to_owned(), id.to_owned());
        let done = move |result: Result<(), store::Error>| {
            let event = match result {
                Ok(()) => Event::Committed,
                Err(error) => Event::NotCommitted(error.to_string()),
            };
            // If nobody hears of it any more, the coordinator is stopping.
            drop(says.send(Done::Written(id, event)));
        };
        self.store.submit(move |store| write(store, &search), done);
    }

    /// Stores and publishes a search's state.
    fn enter(&mut self, id: &str, state: SearchState, failure: Option<String>) -> Stored {
        tracing::info!(search = id, %state, failure, "the search's state changed");
        self.unsettled = true;
        if let Some(entry) = self.catalog.any(id) {
            if state != SearchState::Running {
                entry.clock.interrupted();
            }
            entry.publish(SearchEvent::Status(entry.status()));
        }
        self.catalog.file(id);
        let (answer, stored) = oneshot::channel();
        let (search, failed) = (id.to_owned(), id.to_owned());
        let done = move |result: Result<(), store::Error>| {
            if let Err(error) = &result {
                tracing::error!(search = failed, %error, "the search's state was not stored");
            }
            drop(answer.send(result));
        };
        self.store.submit(move |store| store.set_state(&search, state, failure.as_deref()), done);
        stored
    }
}
