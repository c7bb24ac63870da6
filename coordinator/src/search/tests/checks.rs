//! What must hold of a search's leases and results, whatever happens.

use super::truth::Truth;
use crate::ledger::MAX_LEASES;
use crate::search::{Command, Event, WorkerId};
use std::collections::BTreeSet;

/// What may be leased: a microbatch of a step, an item of an evaluation, a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Picture(u32, bool),
    Microbatch(u64, u32),
    Evaluation(u64, u32),
    /// Another search's.
    Foreign,
}

impl Item {
    /// What a result is of, and whose it is.
    pub(super) fn of_result(event: &Event) -> Option<(WorkerId, Self)> {
        let (worker, search_id, item) = match event {
            Event::Computed(worker, it) => (worker, &it.search_id, Self::Microbatch(it.step, it.microbatch)),
            Event::Encoded(worker, it) => (worker, &it.search_id, Self::Picture(it.image, it.flip)),
            Event::Evaluated(worker, it) => (worker, &it.search_id, Self::Evaluation(it.step, it.item)),
            _ => return None,
        };
        Some((*worker, if search_id == "s" { item } else { Self::Foreign }))
    }

    /// Whether both are of one piece of work.
    fn of_same_work(self, other: Self) -> bool {
        match (self, other) {
            (Self::Picture(..), Self::Picture(..)) => true,
            (Self::Microbatch(a, _), Self::Microbatch(b, _)) | (Self::Evaluation(a, _), Self::Evaluation(b, _)) => {
                a == b
            }
            _ => false,
        }
    }
}

pub(super) struct Checks<'a> {
    truth: &'a Truth,
    /// Leases that run.
    leased: BTreeSet<(WorkerId, Item)>,
    /// Results that counted, of the work in hand.
    accepted: BTreeSet<Item>,
    /// Pictures whose encodings counted.
    encoded: BTreeSet<Item>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(truth: &'a Truth) -> Self {
        Self { truth, leased: BTreeSet::new(), accepted: BTreeSet::new(), encoded: BTreeSet::new() }
    }

    /// A worker is leased something while the search is at this step.
    pub(super) fn lease(&mut self, worker: WorkerId, command: &Command, step: u64) {
        let item = match command {
            Command::Lease(_, it) => {
                assert_eq!(it.step, step);
                assert_eq!(it.batch, self.truth.steps[step as usize][it.microbatch as usize].0);
                Item::Microbatch(it.step, it.microbatch)
            }
            Command::Evaluate(_, it) => {
                assert_eq!(it.step, step);
                assert_eq!(*it, self.truth.evaluations[&step][it.item as usize].0);
                Item::Evaluation(it.step, it.item)
            }
            Command::Encode(_, it) => Item::Picture(it.image, it.flip),
            other => panic!("no lease: {other:?}"),
        };
        assert!(!self.accepted.contains(&item) && !self.encoded.contains(&item), "{item:?} is done and leased again");
        assert!(self.leased.insert((worker, item)), "{item:?} is leased to {worker} twice");
        let of_worker = self.leased.iter().filter(|(other, it)| *other == worker && item.of_same_work(*it));
        assert!(of_worker.count() <= MAX_LEASES, "{worker} has too many leases");
    }

    /// A worker's result came, and counted or was refused.
    pub(super) fn result(&mut self, worker: WorkerId, item: Item, refused: bool) {
        let was_leased = self.leased.remove(&(worker, item));
        if !refused {
            assert!(was_leased, "{item:?} counted and was not leased to {worker}");
            let accepted = if let Item::Picture(..) = item { &mut self.encoded } else { &mut self.accepted };
            assert!(accepted.insert(item), "{item:?} counted twice");
        }
    }

    /// A worker's leases are void.
    pub(super) fn leases_are_over(&mut self, worker: WorkerId) {
        self.leased.retain(|(other, _)| *other != worker);
    }

    /// What is there of the work in hand is dropped.
    pub(super) fn work_is_over(&mut self) {
        self.accepted.clear();
    }

    /// A step or an evaluation is made of what counted.
    pub(super) fn complete(&mut self, command: &Command, step: u64) {
        let at = step as usize;
        let expected: BTreeSet<Item> = match command {
            Command::Commit(commit) => {
                assert_eq!(*commit.record, self.truth.records[at]);
                assert_eq!((commit.state.step, &commit.state.rates), (step + 1, &commit.record.rates));
                (0..).zip(&self.truth.steps[at]).map(|(number, _)| Item::Microbatch(step, number)).collect()
            }
            Command::Validated(validation) => {
                assert!(self.truth.validations.contains(validation), "{validation:?}");
                (0..).zip(&self.truth.evaluations[&step]).map(|(number, _)| Item::Evaluation(step, number)).collect()
            }
            other => panic!("nothing is complete: {other:?}"),
        };
        assert_eq!(self.accepted, expected, "all counted once");
        // Leases that still run are void, and what comes of them too late.
        self.work_is_over();
    }
}
