//! A search with workers that are no models, in an order that a seed decides.

use crate::search::{Command, Event, Order, Search, WorkerId};
use crate::testing::{compute, drawn, evaluate};
use lora_rates_common::conclusion::Conclusion;
use lora_rates_common::convert::{Encoded, Evaluated, Gradient, Rates, SamplePicture, StepRecord, Validation};
use std::collections::{BTreeMap, VecDeque};

/// Turns after which a simulation that has not come to rest is stuck.
const MAX_TURNS: usize = 100_000;

#[derive(Default)]
struct Worker {
    preparing: bool,
    rates: Option<Rates>,
    queue: VecDeque<Command>,
    spoil: Option<fn(&mut Gradient)>,
    spoil_losses: Option<fn(&mut Evaluated)>,
    expelled: bool,
}

pub(super) struct Cluster {
    pub(super) search: Search,
    pub(super) records: Vec<StepRecord>,
    pub(super) validations: Vec<Validation>,
    pub(super) pictures: Vec<SamplePicture>,
    /// A prompt with which every worker is lost.
    pub(super) deadly: Option<u32>,
    pub(super) conclusions: Vec<Conclusion>,
    /// The first conclusion can't be stored.
    pub(super) fail_conclusion: bool,
    /// Pictures encoded, in the order of the answers.
    pub(super) encoded: Vec<(u32, bool)>,
    /// The step, counted from 1, whose commit fails once.
    pub(super) fail_commit_of: Option<u64>,
    /// The step whose evaluation can't be stored, once.
    pub(super) fail_validation_of: Option<u64>,
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
            validations: Vec::new(),
            pictures: Vec::new(),
            deadly: None,
            conclusions: Vec::new(),
            fail_conclusion: false,
            encoded: Vec::new(),
            fail_commit_of: None,
            fail_validation_of: None,
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

    pub(super) fn join(&mut self) {
        let worker = WorkerId::new(self.next_worker);
        self.next_worker += 1;
        self.workers.insert(worker, Worker::default());
        self.happens(Event::Joined(worker));
    }

    /// Lets this worker return spoiled results.
    pub(super) fn spoil(&mut self, worker: WorkerId, spoil: fn(&mut Gradient)) {
        self.worker(worker, |it| it.spoil = Some(spoil));
    }

    /// Lets this worker return spoiled evaluations.
    pub(super) fn spoil_losses(&mut self, worker: WorkerId, spoil: fn(&mut Evaluated)) {
        self.worker(worker, |it| it.spoil_losses = Some(spoil));
    }

    /// Whether the worker was told to forget the search, expelled or not.
    pub(super) fn released(&self, worker: WorkerId) -> bool {
        self.released.contains(&worker)
    }

    pub(super) fn order(&mut self, order: Order) {
        let commands = self.search.order(order).unwrap();
        self.perform(commands);
        if order == Order::Resume {
            let of_use = self.workers.iter().filter(|(_, it)| !it.expelled);
            let workers: Vec<_> = of_use.map(|(worker, _)| *worker).collect();
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
                Command::Lease(worker, _)
                | Command::Encode(worker, _)
                | Command::Evaluate(worker, _)
                | Command::Draw(worker, _) => {
                    self.worker(worker, |it| it.queue.push_back(command));
                }
                Command::Release(worker) => self.release(worker, false),
                Command::Expel(worker, reason) => {
                    self.release(worker, true);
                    if self.workers.values().all(|it| it.expelled) {
                        self.happens(Event::Abandoned(reason));
                    }
                }
                Command::Commit(commit) if self.fail_commit_of == Some(commit.record.step) => {
                    self.fail_commit_of = None;
                    self.happens(Event::NotCommitted("the disk is full".into()));
                }
                Command::Validated(validation) if self.fail_validation_of == Some(validation.step) => {
                    self.fail_validation_of = None;
                    self.happens(Event::NotCommitted("the disk is full".into()));
                }
                Command::Concluded(conclusion) if !std::mem::take(&mut self.fail_conclusion) => {
                    self.conclusions.push((*conclusion).clone());
                    self.happens(Event::Committed);
                }
                Command::Concluded(_) => self.happens(Event::NotCommitted("the disk is full".into())),
                Command::Commit(_) | Command::Validated(_) | Command::Sampled(_) => self.happens(Event::Committed),
                Command::Publish(record) => self.records.push((*record).clone()),
                Command::PublishValidation(validation) => self.validations.push((*validation).clone()),
                Command::PublishPicture(picture) => self.pictures.push((*picture).clone()),
                Command::State(..) | Command::Refused(..) | Command::Progress(_) => {}
            }
        }
    }

    fn worker(&mut self, worker: WorkerId, change: impl FnOnce(&mut Worker)) {
        if let Some(it) = self.workers.get_mut(&worker) {
            change(it);
        }
    }

    fn release(&mut self, worker: WorkerId, expelled: bool) {
        self.released.push(worker);
        self.worker(worker, |it| {
            let Worker { spoil, spoil_losses, .. } = *it;
            *it = Worker { spoil, spoil_losses, expelled, ..Worker::default() };
        });
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
        let event = match it.queue.pop_front().unwrap() {
            Command::Lease(_, lease) => {
                let rates = it.rates.as_ref().expect("rates come before leases");
                assert_eq!(rates.step, lease.step, "a lease under other rates");
                let mut gradient = compute(rates, &lease);
                it.spoil.into_iter().for_each(|spoil| spoil(&mut gradient));
                Event::Computed(worker, gradient)
            }
            Command::Evaluate(_, asked) => {
                let mut evaluated = evaluate(&asked);
                it.spoil_losses.into_iter().for_each(|spoil| spoil(&mut evaluated));
                Event::Evaluated(worker, evaluated)
            }
            Command::Encode(_, asked) => {
                self.encoded.push((asked.image, asked.flip));
                let (search_id, image, flip) = (asked.search_id, asked.image, asked.flip);
                Event::Encoded(worker, Encoded { search_id, image, flip })
            }
            Command::Draw(_, asked) if self.deadly == Some(asked.item) => {
                self.workers.remove(&worker);
                self.happens(Event::Gone(worker));
                return self.join();
            }
            Command::Draw(_, asked) => Event::Drawn(worker, drawn(&asked)),
            other => panic!("no work: {other:?}"),
        };
        self.happens(event.clone());
        if self.draw(1000) < self.repeats {
            self.happens(event);
        }
    }
}
