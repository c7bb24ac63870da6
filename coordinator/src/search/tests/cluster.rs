//! A search with workers that are no models, in an order that a seed decides.

use crate::search::{Command, Event, Order, Search, WorkerId};
use crate::testing::compute;
use lora_rates_common::convert::{Gradient, Lease, Rates, StepRecord};
use std::collections::{BTreeMap, VecDeque};

/// Turns after which a simulation that has not come to rest is stuck.
const MAX_TURNS: usize = 100_000;

#[derive(Default)]
struct Worker {
    preparing: bool,
    rates: Option<Rates>,
    queue: VecDeque<Lease>,
    spoil: Option<fn(&mut Gradient)>,
}

pub(super) struct Cluster {
    pub(super) search: Search,
    pub(super) records: Vec<StepRecord>,
    /// The step, counted from 1, whose commit fails once.
    pub(super) fail_commit_of: Option<u64>,
    /// Of 1000 turns, so many lose a worker (and another comes), or repeat an answer.
    pub(super) losses: u64,
    pub(super) repeats: u64,
    workers: BTreeMap<WorkerId, Worker>,
    released: Vec<WorkerId>,
    next_worker: u64,
    random: u64,
}

impl Cluster {
    pub(super) fn new(search: Search, workers: u64, seed: u64) -> Self {
        let mut cluster = Self {
            search,
            records: Vec::new(),
            fail_commit_of: None,
            losses: 0,
            repeats: 0,
            workers: BTreeMap::new(),
            released: Vec::new(),
            next_worker: 1,
            random: seed,
        };
        (0..workers).for_each(|_| cluster.join());
        cluster
    }

    fn join(&mut self) {
        let worker = WorkerId::new(self.next_worker);
        self.next_worker += 1;
        self.workers.insert(worker, Worker::default());
        self.happens(Event::Joined(worker));
    }

    /// Lets this worker return spoiled results.
    pub(super) fn spoil(&mut self, worker: WorkerId, spoil: fn(&mut Gradient)) {
        self.workers.get_mut(&worker).unwrap().spoil = Some(spoil);
    }

    pub(super) fn released(&self, worker: WorkerId) -> bool {
        self.released.contains(&worker)
    }

    pub(super) fn order(&mut self, order: Order) {
        let commands = self.search.order(order).unwrap();
        self.perform(commands);
        if order == Order::Resume {
            let workers: Vec<_> = self.workers.keys().copied().collect();
            workers.into_iter().for_each(|worker| self.happens(Event::Joined(worker)));
        }
    }

    fn happens(&mut self, event: Event) {
        let commands = self.search.handle(event);
        self.perform(commands);
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Prepare(worker) => self.worker(worker, |it| it.preparing = true),
                Command::Rates(worker, rates) => self.worker(worker, |it| {
                    it.queue.clear();
                    it.rates = Some(rates);
                }),
                Command::Lease(worker, lease) => self.worker(worker, |it| it.queue.push_back(lease)),
                Command::Release(worker) => {
                    self.released.push(worker);
                    self.worker(worker, |it| *it = Worker { spoil: it.spoil, ..Worker::default() });
                }
                Command::Commit(commit) if self.fail_commit_of == Some(commit.record.step) => {
                    self.fail_commit_of = None;
                    self.happens(Event::NotCommitted("the disk is full".into()));
                }
                Command::Commit(_) => self.happens(Event::Committed),
                Command::Publish(record) => self.records.push((*record).clone()),
                Command::State(..) | Command::Refused(..) => {}
                Command::Encode(..)
                | Command::Evaluate(..)
                | Command::Expel(..)
                | Command::Validated(_)
                | Command::PublishValidation(_)
                | Command::Progress(_) => {}
            }
        }
    }

    fn worker(&mut self, worker: WorkerId, change: impl FnOnce(&mut Worker)) {
        if let Some(it) = self.workers.get_mut(&worker) {
            change(it);
        }
    }

    /// A number below `end` (splitmix64).
    fn draw(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    /// Lets workers act until none has anything to do.
    pub(super) fn run(&mut self) {
        for _ in 0..MAX_TURNS {
            let busy = |(worker, it): (&WorkerId, &Worker)| (it.preparing || !it.queue.is_empty()).then_some(*worker);
            let busy: Vec<WorkerId> = self.workers.iter().filter_map(busy).collect();
            if busy.is_empty() {
                return;
            }
            let worker = busy[self.draw(busy.len() as u64) as usize];
            if self.draw(1000) < self.losses {
                self.workers.remove(&worker);
                self.happens(Event::Gone(worker));
                self.join();
            } else {
                self.turn(worker);
            }
        }
        panic!("the search is stuck: {:?}", self.search.status());
    }

    fn turn(&mut self, worker: WorkerId) {
        let it = self.workers.get_mut(&worker).unwrap();
        if std::mem::take(&mut it.preparing) {
            return self.happens(Event::Ready(worker));
        }
        let lease = it.queue.pop_front().unwrap();
        let rates = it.rates.as_ref().expect("rates come before leases");
        assert_eq!(rates.step, lease.step, "a lease under other rates");
        let mut gradient = compute(rates, &lease);
        if let Some(spoil) = it.spoil {
            spoil(&mut gradient);
        }
        self.happens(Event::Computed(worker, gradient.clone()));
        if self.draw(1000) < self.repeats {
            self.happens(Event::Computed(worker, gradient));
        }
    }
}
