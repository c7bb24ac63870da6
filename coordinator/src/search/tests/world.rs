//! A search among workers, a store and a user of whom nobody knows what they do next. Whatever they do, it must not do
//! anything wrong: that is asserted after every event.

mod perform;

use super::action::{Action, Fault};
use super::checks::Checks;
use super::truth::Truth;
use crate::search::{Beginning, Command, Event, Order, Search, WorkerId};
use lora_rates_common::convert::{Encoded, SearchState, StepRecord, Validation};
use lora_rates_common::optimizer::State;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Results that may come again.
const HISTORY: usize = 16;
/// Turns after which a search that nothing disturbs any more must be at its end.
const MAX_TURNS: usize = 5_000;

/// What survives a crash.
struct Store {
    optimizer: State,
    state: SearchState,
    failure: Option<String>,
    records: Vec<Arc<StepRecord>>,
    validations: Vec<Arc<Validation>>,
    encoded: BTreeSet<(u32, bool)>,
}

#[derive(Default)]
struct Worker {
    member: bool,
    expelled: bool,
    preparing: bool,
    queue: VecDeque<Command>,
}

pub(super) struct World<'a> {
    truth: &'a Truth,
    search: Search,
    store: Store,
    /// Given to the store, which has not answered.
    pending: Option<Command>,
    workers: BTreeMap<WorkerId, Worker>,
    next_worker: u64,
    history: VecDeque<Event>,
    checks: Checks<'a>,
    pub(super) events: u64,
}

impl<'a> World<'a> {
    pub(super) fn new(truth: &'a Truth) -> Self {
        let beginning = Beginning::new("s".into(), Arc::clone(&truth.spec));
        let store = Store {
            optimizer: beginning.optimizer.clone(),
            state: SearchState::Preparing,
            failure: None,
            records: Vec::new(),
            validations: Vec::new(),
            encoded: BTreeSet::new(),
        };
        Self {
            truth,
            search: Search::new(beginning).unwrap(),
            store,
            pending: None,
            workers: BTreeMap::new(),
            next_worker: 1,
            history: VecDeque::new(),
            checks: Checks::new(truth),
            events: 0,
        }
    }

    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::Join => self.join(),
            Action::Kill(at) => {
                if let Some(worker) = self.choose(at, |_| true) {
                    self.leave(worker);
                    self.workers.remove(&worker);
                }
            }
            Action::Move(at) => self.choose(at, |it| it.member).into_iter().for_each(|worker| self.leave(worker)),
            Action::Return(at) => {
                let free = self.choose(at, |it| !it.member && !it.expelled);
                free.into_iter().for_each(|worker| self.event(Event::Joined(worker)));
            }
            Action::Work(at) => self.work(at, false, None),
            Action::WorkLast(at) => self.work(at, true, None),
            Action::Spoil(at, fault) => self.work(at, false, Some(fault)),
            Action::Repeat(at) => {
                let count = self.history.len().max(1);
                let again = self.history.get(usize::from(at) % count).cloned();
                again.into_iter().for_each(|event| self.event(event));
            }
            Action::GiveUp(at) => {
                let worker = self.choose(at, |it| it.member);
                worker.into_iter().for_each(|worker| self.event(Event::Failed(worker, "no such file".into())));
            }
            Action::Overdue => self.event(Event::Overdue),
            Action::Abandon => self.event(Event::Abandoned("no worker came".into())),
            Action::Pause => self.order(Order::Pause),
            Action::Resume => self.order(Order::Resume),
            Action::Cancel => self.order(Order::Cancel),
            Action::Stored => self.stored(),
            Action::NotStored => {
                if self.pending.take().is_some() {
                    self.checks.work_is_over();
                    self.event(Event::NotCommitted("the disk is full".into()));
                }
            }
            Action::Crash { stored } => self.crash(stored),
        }
        let members = self.workers.values().filter(|it| it.member).count();
        assert_eq!(self.search.status().workers as usize, members, "members");
        assert_eq!(self.search.state(), self.store.state);
    }

    /// Lets everything go well until the search ends, and asserts that it is what it must be.
    pub(super) fn finish(&mut self) {
        self.apply(Action::Join);
        let mut idle = false;
        for turn in 0..MAX_TURNS {
            let busy = self.choose(turn as u8, |it| it.preparing || !it.queue.is_empty());
            if self.pending.is_some() {
                self.apply(Action::Stored);
            } else if matches!(self.search.state(), SearchState::Finished | SearchState::Cancelled) {
                return self.assert_end();
            } else if !self.search.wants_workers() {
                self.apply(Action::Resume);
            } else if self.workers.values().all(|it| !it.member) {
                self.apply(Action::Join);
            } else if busy.is_some() {
                self.apply(Action::Work(turn as u8));
            } else {
                // A worker that lost what it was told answers never.
                assert!(!idle, "the search is stuck: {:?}", self.search.status());
                self.apply(Action::Overdue);
                idle = true;
                continue;
            }
            idle = false;
        }
        panic!("the search does not end: {:?}", self.search.status());
    }

    fn assert_end(&mut self) {
        assert!(self.workers.values().all(|it| !it.member), "what is over has no workers");
        let records: Vec<StepRecord> = self.store.records.iter().map(|record| (**record).clone()).collect();
        let validations: Vec<Validation> = self.store.validations.iter().map(|it| (**it).clone()).collect();
        if self.search.state() == SearchState::Finished {
            assert_eq!(records, self.truth.records);
            assert_eq!(validations, self.truth.validations);
            assert_eq!(self.store.failure, self.truth.ending);
        } else {
            assert_eq!(records, self.truth.records[..records.len()]);
            assert_eq!(validations, self.truth.validations[..validations.len()]);
        }
        for event in [Event::Joined(WorkerId::new(0)), Event::Overdue, Event::Committed] {
            assert_eq!(self.search.handle(event), [], "what is over does nothing");
        }
    }

    fn choose(&self, at: u8, of: impl Fn(&Worker) -> bool) -> Option<WorkerId> {
        let fitting = || self.workers.iter().filter(|(_, it)| of(it)).map(|(worker, _)| *worker);
        let count = fitting().count().max(1);
        fitting().nth(usize::from(at) % count)
    }

    fn join(&mut self) {
        let worker = WorkerId::new(self.next_worker);
        self.next_worker += 1;
        self.workers.insert(worker, Worker::default());
        self.event(Event::Joined(worker));
    }

    /// A worker is the search's no more, and does not hear of it from the search.
    fn leave(&mut self, worker: WorkerId) {
        self.forget(worker);
        self.event(Event::Gone(worker));
    }

    /// What a worker was told is void; what it had done of it by then may come yet.
    fn forget(&mut self, worker: WorkerId) {
        let Some(it) = self.workers.get_mut(&worker) else { return };
        let told = std::mem::replace(it, Worker { expelled: it.expelled, ..Worker::default() }).queue;
        for told in told {
            let answer = self.answer(&told);
            self.remember(answer);
        }
        self.checks.leases_are_over(worker);
    }

    fn work(&mut self, at: u8, last: bool, fault: Option<Fault>) {
        let Some(worker) = self.choose(at, |it| it.preparing || !it.queue.is_empty()) else { return };
        let Some(it) = self.workers.get_mut(&worker) else { return };
        if std::mem::take(&mut it.preparing) {
            return self.event(Event::Ready(worker));
        }
        let told = if last { it.queue.pop_back() } else { it.queue.pop_front() };
        let Some(told) = told else { return };
        let mut answer = self.answer(&told);
        fault.into_iter().for_each(|fault| spoil(&mut answer, fault));
        self.remember(answer.clone());
        self.event(answer);
    }

    /// What a worker answers; an encoding is in the store by then.
    fn answer(&mut self, told: &Command) -> Event {
        let answer = self.truth.answer(told);
        if let Event::Encoded(_, Encoded { image, flip, .. }) = answer {
            self.store.encoded.insert((image, flip));
        }
        answer
    }

    fn remember(&mut self, answer: Event) {
        self.history.push_back(answer);
        self.history.drain(..self.history.len().saturating_sub(HISTORY));
    }

    fn order(&mut self, order: Order) {
        let may = order.applies_to(self.search.state()).is_ok();
        let commands = self.search.order(order);
        assert_eq!(commands.is_ok(), may);
        self.perform(commands.unwrap_or_default());
    }

    /// The store does what it was given.
    fn store_pending(&mut self) -> bool {
        match self.pending.take() {
            Some(Command::Commit(commit)) => {
                self.store.optimizer = commit.state.clone();
                self.store.records.push(Arc::clone(&commit.record));
                true
            }
            Some(Command::Validated(validation)) => {
                self.store.validations.push(validation);
                true
            }
            _ => false,
        }
    }

    fn stored(&mut self) {
        if self.store_pending() {
            self.event(Event::Committed);
        }
    }

    fn crash(&mut self, stored: bool) {
        if stored {
            self.store_pending();
        }
        self.pending = None;
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.forget(worker));
        self.checks.work_is_over();
        let Store { optimizer, state, failure, validations, encoded, .. } = &self.store;
        let mut missing = self.truth.spec.encodings();
        missing.retain(|picture| !encoded.contains(picture));
        let left = Beginning {
            id: "s".into(),
            spec: Arc::clone(&self.truth.spec),
            optimizer: optimizer.clone(),
            state: *state,
            failure: failure.clone(),
            validations: validations.clone(),
            sampled: None,
            conclusion: None,
            missing,
        };
        self.search = Search::new(left).unwrap();
        let status = self.search.status();
        (self.store.state, self.store.failure) = (status.state, status.failure);
    }
}

/// Makes a result wrong.
fn spoil(answer: &mut Event, fault: Fault) {
    match answer {
        Event::Computed(_, it) => match fault {
            Fault::NotANumber => it.gradient[0] = f64::NAN,
            Fault::Shape => it.gradient.push(0.0),
            Fault::Step => it.step = it.step.wrapping_sub(1),
            Fault::Foreign => it.search_id = "t".into(),
        },
        Event::Evaluated(_, it) => match fault {
            Fault::NotANumber => it.losses[0] = f64::INFINITY,
            Fault::Shape => drop(it.losses.pop()),
            Fault::Step => it.step = it.step.wrapping_sub(1),
            Fault::Foreign => it.search_id = "t".into(),
        },
        Event::Encoded(_, it) => match fault {
            Fault::Foreign => it.search_id = "t".into(),
            _ => it.image += 100,
        },
        _ => {}
    }
}
