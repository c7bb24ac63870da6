//! The workers that are connected.

use super::Error;
use super::message::{Answer, Joined, ListWorkers, Page, ToWorker};
use super::share::Hand;
use crate::search::WorkerId;
use lora_rates_common::convert::{Describe, Described, Heartbeat, Hello, Memory, ModelDescription};
use lora_rates_common::convert::{WorkerState, WorkerStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Messages that a worker may have unread. One that lags further is given up: it can come again.
const OUTBOX: usize = 64;

struct Worker {
    hello: Hello,
    memory: Option<Memory>,
    outbox: mpsc::Sender<ToWorker>,
    /// Closed with the worker.
    _given_up: oneshot::Sender<()>,
    joined_ms: u64,
    heard: Instant,
    /// When it last finished something.
    finished: Option<Instant>,
    accepted: u64,
    refused: u64,
    /// What it works for, and whether it is ready.
    search: Option<(String, bool)>,
    /// Searches that it can't work for.
    expelled: BTreeSet<String>,
    quarantine: Option<Instant>,
    /// Leases that it holds, and since when it computes the oldest.
    held: u32,
    begun: Instant,
}

/// The workers that are connected.
#[derive(Default)]
pub(super) struct Workers {
    connected: BTreeMap<WorkerId, Worker>,
    joined: u64,
    /// Could not be told something.
    lost: Vec<WorkerId>,
    asked: u64,
    /// Who waits for the answer of which worker, by the question's number.
    questions: BTreeMap<u64, (WorkerId, Answer<ModelDescription>)>,
    /// Since when there are none.
    none_since: Option<Instant>,
}

impl Workers {
    pub(super) fn join(&mut self, hello: Hello) -> Joined {
        self.joined += 1;
        let worker = WorkerId::new(self.joined);
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let (alive, given_up) = oneshot::channel();
        tracing::info!(%worker, name = hello.name, device = hello.device, "a worker joined");
        let now = Instant::now();
        let joined = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let entry = Worker {
            memory: hello.memory,
            hello,
            outbox,
            _given_up: alive,
            joined_ms: u64::try_from(joined.as_millis()).unwrap_or(u64::MAX),
            heard: now,
            finished: None,
            accepted: 0,
            refused: 0,
            search: None,
            expelled: BTreeSet::new(),
            quarantine: None,
            held: 0,
            begun: now,
        };
        self.connected.insert(worker, entry);
        self.none_since = None;
        Joined { worker, messages, given_up }
    }

    /// What it worked for, if it was there.
    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<Option<String>> {
        let Worker { hello, search, .. } = self.connected.remove(&worker)?;
        tracing::info!(%worker, name = hello.name, "a worker is gone");
        let unanswered: Vec<u64> =
            self.questions.iter().filter(|(_, (asked, _))| *asked == worker).map(|(number, _)| *number).collect();
        for number in unanswered {
            if let Some((_, answer)) = self.questions.remove(&number) {
                drop(answer.send(Err(Error::NoWorker)));
            }
        }
        Some(search.map(|(id, _)| id))
    }

    pub(super) fn name(&self, worker: WorkerId) -> Option<&str> {
        self.connected.get(&worker).map(|worker| worker.hello.name.as_str())
    }

    /// How long there have been none, if there are none.
    pub(super) fn none_for(&mut self) -> Option<Duration> {
        if !self.connected.is_empty() {
            return None;
        }
        Some(self.none_since.get_or_insert_with(Instant::now).elapsed())
    }

    /// It said something.
    pub(super) fn heard(&mut self, worker: WorkerId) {
        if let Some(worker) = self.connected.get_mut(&worker) {
            worker.heard = Instant::now();
        }
    }

    pub(super) fn heartbeat(&mut self, worker: WorkerId, heartbeat: Heartbeat) {
        let Some(worker) = self.connected.get_mut(&worker) else { return };
        worker.memory = heartbeat.memory.or(worker.memory);
        let idle = heartbeat.idle_ms.map(Duration::from_millis);
        worker.finished = idle.and_then(|idle| Instant::now().checked_sub(idle)).max(worker.finished);
    }

    /// Whether it works for this search.
    pub(super) fn works_for(&self, worker: WorkerId, id: &str) -> bool {
        let search = self.connected.get(&worker).and_then(|worker| worker.search.as_ref());
        search.is_some_and(|(search, _)| search == id)
    }

    /// What it works for from now on. Returns what it worked for.
    pub(super) fn assign(&mut self, worker: WorkerId, search: Option<String>) -> Option<String> {
        let worker = self.connected.get_mut(&worker)?;
        worker.held = 0;
        std::mem::replace(&mut worker.search, search.map(|id| (id, false))).map(|(id, _)| id)
    }

    pub(super) fn is_ready(&mut self, worker: WorkerId) {
        if let Some((_, ready)) = self.connected.get_mut(&worker).and_then(|worker| worker.search.as_mut()) {
            *ready = true;
        }
    }

    /// It is leased something.
    pub(super) fn leased(&mut self, worker: WorkerId) {
        let Some(worker) = self.connected.get_mut(&worker) else { return };
        if worker.held == 0 {
            worker.begun = Instant::now();
        }
        worker.held += 1;
    }

    /// What it holds is void.
    pub(super) fn voided(&mut self, worker: WorkerId) {
        if let Some(worker) = self.connected.get_mut(&worker) {
            worker.held = 0;
        }
    }

    /// It returns something, which counts or not. How long that took, if it was leased it.
    pub(super) fn returned(&mut self, worker: WorkerId, accepted: bool) -> Option<Duration> {
        let worker = self.connected.get_mut(&worker)?;
        let now = Instant::now();
        worker.finished = Some(now);
        *(if accepted { &mut worker.accepted } else { &mut worker.refused }) += 1;
        worker.held = worker.held.checked_sub(1)?;
        Some(now - std::mem::replace(&mut worker.begun, now))
    }

    /// It is not given to this search again.
    pub(super) fn expel(&mut self, worker: WorkerId, id: &str) {
        if let Some(worker) = self.connected.get_mut(&worker) {
            worker.expelled.insert(id.to_owned());
        }
    }

    /// It gets no work for so long.
    pub(super) fn quarantine(&mut self, worker: WorkerId, time: Duration) {
        if let Some(worker) = self.connected.get_mut(&worker) {
            worker.quarantine = Some(Instant::now() + time);
        }
    }

    /// Ends quarantines that are over. Whether there were any.
    pub(super) fn end_quarantines(&mut self) -> bool {
        let over = |worker: &mut Worker| worker.quarantine.take_if(|until| *until <= Instant::now()).is_some();
        self.connected.values_mut().map(over).fold(false, |any, over| any | over)
    }

    /// Any worker may be given to this search again.
    pub(super) fn pardon(&mut self, id: &str) {
        for worker in self.connected.values_mut() {
            worker.expelled.remove(id);
        }
    }

    /// Whether there are workers, and none of them may work for this search.
    pub(super) fn have_all_failed(&self, id: &str) -> bool {
        !self.connected.is_empty() && self.connected.values().all(|worker| worker.expelled.contains(id))
    }

    /// Those that may be given work.
    pub(super) fn hands(&self) -> Vec<Hand<WorkerId, String>> {
        let free = self.connected.iter().filter(|(_, worker)| worker.quarantine.is_none());
        let hand = |(id, worker): (&WorkerId, &Worker)| Hand {
            worker: *id,
            at: worker.search.as_ref().map(|(search, _)| search.clone()),
            ready: worker.search.as_ref().is_some_and(|(_, ready)| *ready),
            barred: worker.expelled.iter().cloned().collect(),
        };
        free.map(hand).collect()
    }

    pub(super) fn list(&self, list: &ListWorkers) -> Page<WorkerStatus> {
        let after = (Bound::Excluded(WorkerId::new(list.after)), Bound::Unbounded);
        Page::new(self.connected.range(after).map(|(id, worker)| worker.status(*id)), list.limit)
    }

    /// How many there are in each state.
    pub(super) fn count(&self) -> Vec<(WorkerState, u64)> {
        let count = |state| self.connected.values().filter(|worker| worker.state() == state).count() as u64;
        WorkerState::ALL.into_iter().map(|state| (state, count(state))).collect()
    }

    /// Asks a worker what a model is, rather one that has nothing else to do.
    pub(super) fn ask(&mut self, mut describe: Describe, answer: Answer<ModelDescription>) {
        // Who has stopped waiting needs no answer.
        self.questions.retain(|_, (_, answer)| !answer.is_closed());
        let asked = self.connected.iter().min_by_key(|(_, worker)| worker.search.is_some()).map(|(id, _)| *id);
        let Some(worker) = asked else {
            return drop(answer.send(Err(Error::NoWorker)));
        };
        self.asked += 1;
        describe.number = self.asked;
        self.questions.insert(self.asked, (worker, answer));
        self.tell(worker, ToWorker::Describe(describe));
    }

    pub(super) fn described(&mut self, worker: WorkerId, Described { number, result }: Described) {
        if let Some((_, answer)) = self.questions.remove(&number).filter(|(asked, _)| *asked == worker) {
            drop(answer.send(result.map_err(Error::NoModel)));
        }
    }

    /// Tells a worker, without waiting.
    pub(super) fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        let Some(connected) = self.connected.get(&worker) else { return };
        if connected.outbox.try_send(message).is_err() {
            self.lost.push(worker);
        }
    }

    /// A worker that could not be told something.
    pub(super) fn take_lost(&mut self) -> Option<WorkerId> {
        self.lost.pop()
    }
}

impl Worker {
    fn state(&self) -> WorkerState {
        match &self.search {
            _ if self.quarantine.is_some() => WorkerState::Quarantined,
            None => WorkerState::Idle,
            Some((_, false)) => WorkerState::Preparing,
            Some((_, true)) => WorkerState::Working,
        }
    }

    fn status(&self, id: WorkerId) -> WorkerStatus {
        let ms = |since: Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        WorkerStatus {
            worker_id: id.number(),
            name: self.hello.name.clone(),
            device: self.hello.device.clone(),
            state: self.state(),
            search_id: self.search.as_ref().map(|(id, _)| id.clone()),
            memory: self.memory,
            joined_ms: self.joined_ms,
            silent_ms: ms(self.heard),
            idle_ms: self.finished.map(ms),
            accepted: self.accepted,
            refused: self.refused,
        }
    }
}
