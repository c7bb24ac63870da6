//! The service: one task owns all searches and workers; what the network says reaches it through a [`Handle`].
//!
//! One search has the workers at a time, so a device never holds two models; the others wait in the order in which they
//! were created or resumed.

mod catalog;
mod handle;
mod message;
mod search_service;
#[allow(dead_code)]
mod share;
mod status;
mod watch;
mod worker_service;
mod workers;

pub use handle::Handle;
pub use message::{Error, FromWorker, Joined, ToWorker, Watched};
pub(crate) use search_service::SearchApi;
pub(crate) use worker_service::WorkerApi;

use crate::search::{Command, Event, Order, WorkerId};
use crate::store::{self, Store, Thread};
use catalog::Catalog;
use lora_rates_common::convert::{
    CreateSearch, Failed, Gradient, Prepare, PrepareProgress, Progress, SearchEvent, SearchStatus,
};
use message::Call;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use workers::Workers;

/// Calls that may wait for the event loop.
const CALLS: usize = 1024;

/// The event loop.
pub struct Service {
    calls: mpsc::Receiver<Call>,
    store: store::Handle,
    catalog: Catalog,
    workers: Workers,
    overdue: Duration,
    /// Whether a result has come since the last look at the clock.
    progressed: bool,
}

impl Service {
    /// A service over this store. Without `resume`, searches that were running are paused.
    ///
    /// # Errors
    /// When the store can't be read, or holds a search that makes no sense.
    pub fn new(mut store: Store, resume: bool, overdue: Duration) -> Result<(Self, Handle, Thread), Error> {
        let catalog = Catalog::load(&mut store, resume)?;
        let (store, thread) = store.spawn()?;
        let (sender, calls) = mpsc::channel(CALLS);
        let handle = Handle { calls: sender, store: store.clone() };
        let workers = Workers::default();
        Ok((Self { calls, store, catalog, workers, overdue, progressed: true }, handle, thread))
    }

    /// Works until `stopped` resolves or no handle is left. What is committed is stored by then.
    pub async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut overdue = interval(self.overdue);
        overdue.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.settle().await;
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                call = self.calls.recv() => match call {
                    Some(call) => self.answer(call).await,
                    None => break,
                },
                _ = overdue.tick() => self.look_at_clock().await,
            }
            self.settle().await;
        }
        self.store.close();
    }

    async fn answer(&mut self, call: Call) {
        // Who asked may have left meanwhile, which is no error.
        match call {
            Call::Create(create, answer) => drop(answer.send(self.create(create).await)),
            Call::Get(id, answer) => drop(answer.send(self.catalog.get(&id).map(|entry| entry.status()))),
            Call::Order(id, order, answer) => drop(answer.send(self.order(&id, order).await)),
            Call::Watch(id, answer) => {
                let watched =
                    |entry: &mut catalog::Entry| Watched { status: entry.status(), events: entry.subscribe() };
                drop(answer.send(self.catalog.get(&id).map(watched)));
            }
            Call::Join(hello, answer) => {
                let joined = self.workers.join(hello);
                let worker = joined.worker;
                drop(answer.send(Ok(joined)));
                self.happens_to_active(Event::Joined(worker)).await;
            }
            Call::Report(worker, message) => self.report(worker, message).await,
            Call::Leave(worker) => self.gone(worker).await,
        }
    }

    async fn create(&mut self, create: CreateSearch) -> Result<SearchStatus, Error> {
        match self.catalog.existing(&create)? {
            Some(status) => Ok(status),
            None => self.catalog.create(create, &self.store).await,
        }
    }

    async fn order(&mut self, id: &str, order: Order) -> Result<SearchStatus, Error> {
        let commands = self.catalog.get(id)?.order(order)?;
        let stored = self.perform_all(id, commands).await;
        self.catalog.file(id);
        stored?;
        Ok(self.catalog.get(id)?.status())
    }

    async fn report(&mut self, worker: WorkerId, message: FromWorker) {
        match message {
            FromWorker::Progress(progress) => self.progress(worker, progress),
            FromWorker::Ready(id) => self.happens(&id, Event::Ready(worker)).await,
            FromWorker::Computed(gradient) => self.computed(worker, gradient).await,
            FromWorker::Failed(Failed { search_id, message }) => {
                let name = self.workers.name(worker).unwrap_or_default();
                tracing::warn!(%worker, name, search_id, message, "a worker can't work for a search");
                let message = format!("worker {name}: {message}");
                self.happens(&search_id, Event::Failed(worker, message)).await;
            }
        }
    }

    async fn computed(&mut self, worker: WorkerId, gradient: Gradient) {
        self.progressed = true;
        let id = gradient.search_id.clone();
        self.happens(&id, Event::Computed(worker, gradient)).await;
    }

    fn progress(&mut self, worker: WorkerId, progress: Progress) {
        let Progress { search_id, activity, done, total } = progress;
        if let (true, Some(name)) = (self.catalog.is_active(&search_id), self.workers.name(worker)) {
            let progress = PrepareProgress { worker: name.to_owned(), activity, done, total };
            if let Ok(entry) = self.catalog.get(&search_id) {
                entry.publish(SearchEvent::Progress(progress));
            }
        }
    }

    async fn gone(&mut self, worker: WorkerId) {
        if self.workers.remove(worker) {
            self.happens_to_active(Event::Gone(worker)).await;
        }
    }

    async fn look_at_clock(&mut self) {
        if !std::mem::replace(&mut self.progressed, false) {
            self.happens_to_active(Event::Overdue).await;
        }
    }

    /// Something happens to a search. Only the one that has the workers hears of them; for others it comes too late.
    async fn happens(&mut self, id: &str, event: Event) {
        if !self.catalog.is_active(id) {
            return tracing::debug!(search = id, "a worker speaks of a search that it has no more");
        }
        let Ok(entry) = self.catalog.get(id) else { return };
        let Some(search) = entry.search() else { return };
        let commands = search.handle(event);
        if let Err(error) = self.perform_all(id, commands).await {
            tracing::error!(search = id, %error, "the search's state was not stored");
        }
    }

    async fn happens_to_active(&mut self, event: Event) {
        if let Some(id) = self.catalog.active() {
            self.happens(&id, event).await;
        }
    }

    /// Gives up workers that can't be reached, and gives the workers to the search whose turn it is.
    async fn settle(&mut self) {
        loop {
            if let Some(worker) = self.workers.take_lost() {
                self.gone(worker).await;
            } else if let Some(id) = self.catalog.next_turn() {
                self.progressed = true;
                for worker in self.workers.all() {
                    self.happens(&id, Event::Joined(worker)).await;
                }
            } else {
                break;
            }
        }
    }

    /// Does what a search says, and what comes of that.
    ///
    /// # Errors
    /// When its state could not be stored; all else is done then.
    async fn perform_all(&mut self, id: &str, commands: Vec<Command>) -> Result<(), Error> {
        let mut result = Ok(());
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            match self.perform(id, command).await {
                Ok(None) => {}
                Ok(Some(event)) => {
                    let search = self.catalog.get(id)?.search();
                    commands.extend(search.map(|search| search.handle(event)).unwrap_or_default());
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Does one thing, and says what comes of it.
    async fn perform(&mut self, id: &str, command: Command) -> Result<Option<Event>, Error> {
        match command {
            Command::Prepare(worker) => {
                if let Some(search) = self.catalog.get(id)?.search() {
                    let prepare = Prepare { search_id: id.to_owned(), spec: search.spec().clone() };
                    self.workers.tell(worker, ToWorker::Prepare(prepare));
                }
            }
            Command::Rates(worker, rates) => self.workers.tell(worker, ToWorker::Rates(rates)),
            Command::Lease(worker, lease) => self.workers.tell(worker, ToWorker::Lease(lease)),
            Command::Release(worker) => self.workers.tell(worker, ToWorker::Release(id.to_owned())),
            Command::Commit(commit) => {
                let search = id.to_owned();
                let stored = self.store.call(move |store| store.commit(&search, &commit)).await;
                return Ok(Some(match stored {
                    Ok(()) => Event::Committed,
                    Err(error) => Event::NotCommitted(error.to_string()),
                }));
            }
            Command::Expel(worker, reason) => {
                self.workers.tell(worker, ToWorker::Release(id.to_owned()));
                let left = self.catalog.get(id)?.status().workers;
                return Ok((left == 0).then_some(Event::Abandoned(reason)));
            }
            Command::Progress(progress) => self.catalog.get(id)?.publish(SearchEvent::Progress(progress)),
            Command::Encode(..) | Command::Evaluate(..) | Command::Validated(_) | Command::PublishValidation(_) => {}
            Command::Publish(record) => {
                tracing::debug!(search = id, step = record.step, loss = record.loss, "step");
                self.catalog.get(id)?.publish(SearchEvent::Step(record));
            }
            Command::State(state, failure) => {
                tracing::info!(search = id, %state, failure, "the search's state changed");
                let search = id.to_owned();
                let store = move |store: &mut Store| store.set_state(&search, state, failure.as_deref());
                let stored = self.store.call(store).await;
                let entry = self.catalog.get(id)?;
                entry.publish(SearchEvent::Status(entry.status()));
                stored?;
            }
            Command::Refused(worker, refusal) if refusal.is_fault() => {
                tracing::warn!(search = id, %worker, %refusal, "a result was refused");
            }
            Command::Refused(worker, refusal) => tracing::debug!(search = id, %worker, %refusal, "a late result"),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
