//! The service: one task owns all searches and workers; what the network says reaches it through a [`Handle`].
//!
//! Searches share the workers evenly, and a worker works for one at a time, so a device never holds two models. The task
//! waits for nobody: what the store is given, it confirms later, and a worker that does not read is given up.

mod blob_service;
mod catalog;
mod clock;
mod create;
mod entry;
mod error;
mod handle;
mod message;
mod outbound;
mod pages;
mod perform;
mod search_service;
mod settings;
mod share;
mod status;
mod watch;
mod worker_service;
mod workers;

pub use blob_service::BlobApi;
pub use error::Error;
pub use handle::{Handle, RatesAt};
pub use message::{Found, FromWorker, Joined, Page, ToWorker, Watched};
pub use search_service::SearchApi;
pub use settings::Settings;
pub use worker_service::WorkerApi;

use crate::blobs::Blobs;
use crate::metrics::Outcome;
use crate::search::{Command, Event, Order, WorkerId};
use crate::store::{self, Store, Thread};
use catalog::Catalog;
use lora_rates_common::convert::{BlobKey, Failed, PrepareProgress, Progress, SearchEvent, SearchStatus};
use message::{Answer, Call, Done};
use perform::Cause;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use workers::Workers;

/// Calls that may wait for the event loop.
const CALLS: usize = 1024;
/// How often the clock is looked at, at least.
const TICK: Duration = Duration::from_millis(500);

/// The event loop.
pub struct Service {
    calls: mpsc::Receiver<Call>,
    store: store::Handle,
    /// What the store has done, and where it says so.
    done: mpsc::UnboundedReceiver<Done>,
    says: mpsc::UnboundedSender<Done>,
    blobs: Blobs,
    settings: Settings,
    catalog: Catalog,
    workers: Workers,
    /// Workers or searches have come, gone, or changed what they want.
    unsettled: bool,
}

impl Service {
    /// A service over this store and these blobs.
    ///
    /// # Errors
    /// When the store can't be read, or holds a search that makes no sense.
    pub fn new(mut store: Store, blobs: Blobs, settings: Settings) -> Result<(Self, Handle, Thread), Error> {
        let catalog = Catalog::load(&mut store, &blobs, &settings)?;
        create::remove_unneeded(&store, &blobs)?;
        let (store, thread) = if settings.inline_store { store.inline() } else { store.spawn()? };
        let (sender, calls) = mpsc::channel(CALLS);
        let (says, done) = mpsc::unbounded_channel();
        let handle = Handle { calls: sender, store: store.clone(), blobs: blobs.clone(), trusted: settings.trusted };
        let workers = Workers::default();
        Ok((Self { calls, store, done, says, blobs, settings, catalog, workers, unsettled: true }, handle, thread))
    }

    /// Works until `stopped` resolves or no handle is left. What is committed is stored by then.
    pub async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        // A clock needs a period.
        let period = TICK.min(self.settings.overdue / 2).max(Duration::from_millis(1));
        let mut clock = interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.settle();
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                _ = clock.tick() => self.look_at_clock(),
                Some(done) = self.done.recv() => self.done(done),
                call = self.calls.recv() => match call {
                    Some(call) => self.answer(call),
                    None => break,
                },
            }
            self.settle();
        }
        self.store.close();
    }

    fn answer(&mut self, call: Call) {
        // Who asked may have left meanwhile, which is no error.
        match call {
            Call::Create(prepared, answer) => self.create(prepared, answer),
            Call::Find(id, answer) => drop(answer.send(self.catalog.get(&id).map(|entry| entry.found()))),
            Call::List(list, answer) => drop(answer.send(Ok(self.catalog.list(&list)))),
            Call::Order(id, order, answer) => self.order(&id, order, answer),
            Call::Watch(id, answer) => drop(answer.send(self.catalog.get(&id).map(|entry| entry.watch()))),
            Call::Delete(id, answer) => self.delete(id, answer),
            Call::All(answer) => drop(answer.send(Ok((self.catalog.generation(), self.catalog.ids())))),
            Call::Sweep(generation, keys, answer) => {
                let same = generation == self.catalog.generation();
                drop(answer.send(Ok(same.then(|| self.blobs.remove(keys)))));
            }
            Call::Workers(list, answer) => drop(answer.send(Ok(self.workers.list(&list)))),
            Call::Describe(describe, answer) => self.workers.ask(describe, answer),
            Call::Join(hello, answer) => {
                let joined = self.workers.join(hello);
                let worker = joined.worker;
                self.unsettled = true;
                if answer.send(Ok(joined)).is_err() {
                    self.gone(worker);
                }
            }
            Call::Report(worker, message) => self.report(worker, message),
            Call::Leave(worker) => self.gone(worker),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Written(id, event) => {
                if let Some(entry) = self.catalog.any(&id) {
                    entry.written();
                    match &event {
                        Event::Committed => entry.clock.committed(&self.settings.metrics),
                        _ => entry.clock.interrupted(),
                    }
                    self.happens(&id, event, Cause::Store);
                    self.catalog.file(&id);
                }
            }
            Done::Created(id, result) => {
                self.catalog.created(&id, result);
                self.unsettled = true;
            }
            Done::Deleted(id, result, answer) => {
                match &result {
                    Ok(()) => {
                        self.catalog.remove(&id);
                        self.settings.metrics.forget(&id);
                        tracing::info!(search = id, "the search was deleted");
                    }
                    Err(_) => drop(self.catalog.any(&id).map(|entry| entry.deleting = false)),
                }
                self.unsettled = true;
                drop(answer.send(result.map_err(Into::into)));
            }
        }
    }

    fn create(&mut self, prepared: create::Prepared, answer: Answer<SearchStatus>) {
        if prepared.removals != self.blobs.removals() {
            // What was found to be there may be gone.
            return drop(answer.send(Err(Error::Changed)));
        }
        let Some((stored, spec)) = self.catalog.create(prepared, answer, self.settings.max_searches) else { return };
        let (says, id) = (self.says.clone(), stored.id.clone());
        tracing::info!(search = id, name = stored.name, "a search was created");
        // If nobody hears of it any more, the coordinator is stopping.
        let done = move |result| drop(says.send(Done::Created(id, result)));
        self.store.submit(move |store| store.create(&stored, &spec), done);
    }

    fn delete(&mut self, id: String, answer: Answer<()>) {
        let entry = match self.catalog.get(&id) {
            Ok(entry) => entry,
            Err(error) => return drop(answer.send(Err(error))),
        };
        if entry.wants_workers() {
            return drop(answer.send(Err(Error::NotOver { state: entry.state() })));
        }
        entry.deleting = true;
        let (says, search) = (self.says.clone(), id.clone());
        let done = move |result| drop(says.send(Done::Deleted(id, result, answer)));
        self.store.submit(move |store| store.delete(&search), done);
    }

    fn order(&mut self, id: &str, order: Order, answer: Answer<SearchStatus>) {
        let commands = match self.catalog.get(id).and_then(|entry| Ok(entry.order(order)?)) {
            Ok(commands) => commands,
            Err(error) => return drop(answer.send(Err(error))),
        };
        if order == Order::Resume {
            // Whoever failed may have been mended.
            self.workers.pardon(id);
        }
        let unstored = self.perform_all(id, commands, Cause::Order);
        self.catalog.file(id);
        self.unsettled = true;
        let status = self.catalog.get(id).map(|entry| entry.status());
        if unstored.is_empty() {
            return drop(answer.send(status));
        }
        tokio::spawn(async move {
            let mut result = status;
            for stored in unstored {
                if let Err(error) = stored.await.unwrap_or(Err(store::Error::Closed)) {
                    result = Err(error.into());
                }
            }
            drop(answer.send(result));
        });
    }

    fn report(&mut self, worker: WorkerId, message: FromWorker) {
        self.workers.heard(worker);
        match message {
            FromWorker::Heartbeat(heartbeat) => self.workers.heartbeat(worker, heartbeat),
            FromWorker::Progress(progress) => self.progress(worker, progress),
            FromWorker::Ready(id) => {
                if self.workers.works_for(worker, &id) {
                    self.workers.is_ready(worker);
                    self.unsettled = true;
                    self.happens(&id, Event::Ready(worker), Cause::Worker);
                }
            }
            FromWorker::Computed(gradient) => {
                let id = gradient.search_id.clone();
                self.result(worker, &id, Event::Computed(worker, gradient));
            }
            FromWorker::Encoded(encoded) => {
                let id = encoded.search_id.clone();
                self.result(worker, &id, Event::Encoded(worker, encoded));
            }
            FromWorker::Evaluated(evaluated) => {
                let id = evaluated.search_id.clone();
                self.result(worker, &id, Event::Evaluated(worker, evaluated));
            }
            FromWorker::Drawn(mut drawn) => {
                // A picture that is not there is none.
                if let Ok(sha256) = &drawn.result
                    && !self.blobs.has(&BlobKey::File(sha256.clone()))
                {
                    drawn.result = Err("the worker did not put it into the store".to_owned());
                }
                let id = drawn.search_id.clone();
                self.result(worker, &id, Event::Drawn(worker, drawn));
            }
            FromWorker::Failed(Failed { search_id, message }) => {
                if self.workers.works_for(worker, &search_id) {
                    let name = self.workers.name(worker).unwrap_or_default();
                    tracing::warn!(%worker, name, search_id, message, "a worker can't work for a search");
                    let message = format!("worker {name}: {message}");
                    self.happens(&search_id, Event::Failed(worker, message), Cause::Worker);
                }
            }
            FromWorker::Described(described) => self.workers.described(worker, *described),
        }
    }

    /// A worker returns something that it was leased, or was leased once.
    fn result(&mut self, worker: WorkerId, id: &str, event: Event) {
        if !self.workers.works_for(worker, id) {
            tracing::debug!(%worker, search = id, "a worker speaks of a search that it has no more");
            return self.settings.metrics.result(Outcome::Repeated);
        }
        let Ok(entry) = self.catalog.get(id) else { return };
        let begun = Instant::now();
        let of_step = matches!(event, Event::Computed(..));
        let commands = entry.handle(event);
        let refusal = commands.iter().find_map(|command| match command {
            Command::Refused(_, refusal) => Some(refusal.is_fault()),
            _ => None,
        });
        let took = self.workers.returned(worker, refusal.is_none());
        let outcome = match refusal {
            None => Outcome::Accepted,
            Some(true) => Outcome::Refused,
            Some(false) => Outcome::Repeated,
        };
        if of_step {
            self.settings.metrics.result(outcome);
        }
        if refusal.is_none() {
            entry.clock.came(took);
        }
        self.perform_all(id, commands, Cause::Result(begun));
    }

    fn progress(&mut self, worker: WorkerId, progress: Progress) {
        let Progress { search_id, activity, done, total } = progress;
        if let (true, Some(name)) = (self.workers.works_for(worker, &search_id), self.workers.name(worker)) {
            let progress = PrepareProgress { worker: name.to_owned(), activity, done, total };
            if let Ok(entry) = self.catalog.get(&search_id) {
                entry.publish(SearchEvent::Progress(progress));
            }
        }
    }

    fn gone(&mut self, worker: WorkerId) {
        let Some(search) = self.workers.remove(worker) else { return };
        self.unsettled = true;
        if let Some(id) = search {
            self.happens(&id, Event::Gone(worker), Cause::Worker);
        }
    }

    fn look_at_clock(&mut self) {
        self.unsettled |= self.workers.end_quarantines();
        let overdue = self.settings.overdue;
        let late =
            self.catalog.wanting_mut().filter_map(|(id, entry)| entry.clock.is_overdue(overdue).then(|| id.clone()));
        for id in late.collect::<Vec<_>>() {
            self.happens(&id, Event::Overdue, Cause::Clock);
        }
        if let (Some(timeout), Some(alone)) = (self.settings.worker_timeout, self.workers.none_for()) {
            let since = |entry: &entry::Entry| entry.turn.is_some_and(|(_, since)| since.elapsed() >= timeout);
            let left = self.catalog.wanting_mut().filter(|(_, entry)| alone >= timeout && since(entry));
            for id in left.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
                let seconds = timeout.as_secs_f64();
                let reason = format!("there was no worker for {seconds} s; start one, then resume the search");
                self.happens(&id, Event::Abandoned(reason), Cause::Clock);
            }
        }
        self.settings.metrics.blob_bytes(self.blobs.bytes());
    }

    /// Something happens to a search.
    fn happens(&mut self, id: &str, event: Event, cause: Cause) {
        let Some(entry) = self.catalog.any(id) else { return };
        let commands = entry.handle(event);
        self.perform_all(id, commands, cause);
    }

    /// Gives up workers that can't be reached, shares the others, and ends searches for which none is left.
    fn settle(&mut self) {
        loop {
            while let Some(worker) = self.workers.take_lost() {
                self.gone(worker);
            }
            if !std::mem::replace(&mut self.unsettled, false) {
                return;
            }
            let wanting = self.catalog.wanting();
            for (worker, id) in share::share(&wanting, &self.workers.hands()) {
                self.move_to(worker, id);
            }
            let failed = wanting.into_iter().filter(|id| self.workers.have_all_failed(id));
            for id in failed.collect::<Vec<_>>() {
                let reason = self.catalog.any(&id).and_then(|entry| entry.expelled.take());
                let reason = reason.unwrap_or_else(|| "no worker can work for the search".to_owned());
                self.happens(&id, Event::Abandoned(reason), Cause::Worker);
            }
            self.settings.metrics.workers(&self.workers.count());
            self.settings.metrics.searches(&self.catalog.count());
        }
    }

    /// Gives a worker to a search, and takes it from the one that it had.
    fn move_to(&mut self, worker: WorkerId, id: String) {
        if let Some(old) = self.workers.assign(worker, Some(id.clone())) {
            tracing::info!(%worker, from = old, to = id, "a worker changes its search");
            self.workers.tell(worker, ToWorker::Release(old.clone()));
            self.happens(&old, Event::Gone(worker), Cause::Worker);
        }
        self.happens(&id, Event::Joined(worker), Cause::Worker);
    }
}

#[cfg(test)]
mod tests;
