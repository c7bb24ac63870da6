//! Who has what.

use super::{Error, MAX_LEASES};
use crate::search::WorkerId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One item.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// Its result is there.
    done: bool,
    /// Workers whose leases on it are running.
    holders: usize,
    /// Workers that returned something unusable for it.
    spoiled_by: Vec<WorkerId>,
}

/// Who has what of one piece of work.
#[derive(Clone, Debug)]
pub struct Leases {
    entries: Vec<Entry>,
    /// Without result and not leased; the first is leased first.
    free: BTreeSet<usize>,
    /// What every worker that takes part holds, oldest first: the oldest is being computed. May hold what others have
    /// done meanwhile.
    held: BTreeMap<WorkerId, VecDeque<usize>>,
    /// What is held and not the oldest: nothing is leased again while there is none.
    waiting: usize,
    missing: usize,
    /// What waits is left to who holds it.
    pub(super) once: bool,
}

impl Leases {
    /// This many items for these workers.
    pub(super) fn new(count: usize, workers: impl IntoIterator<Item = WorkerId>) -> Self {
        Self {
            entries: vec![Entry::default(); count],
            free: (0..count).collect(),
            held: workers.into_iter().map(|worker| (worker, VecDeque::new())).collect(),
            waiting: 0,
            missing: count,
            once: false,
        }
    }

    /// Items without result.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Leases that the worker holds.
    #[must_use]
    pub fn held(&self, worker: WorkerId) -> usize {
        self.held.get(&worker).map_or(0, VecDeque::len)
    }

    /// What the worker is busy with, unless others have done it.
    #[must_use]
    pub fn oldest(&self, worker: WorkerId) -> Option<usize> {
        let at = *self.held.get(&worker)?.front()?;
        self.entries.get(at).filter(|entry| !entry.done).map(|_| at)
    }

    /// A worker takes part from now on.
    pub fn add(&mut self, worker: WorkerId) {
        self.held.entry(worker).or_default();
    }

    /// A worker takes part no more: all that it held is free.
    pub fn remove(&mut self, worker: WorkerId) {
        let queue = self.held.remove(&worker).unwrap_or_default();
        self.waiting -= queue.len().saturating_sub(1);
        for at in queue {
            self.give_back(at);
        }
    }

    /// Leases to this worker all that it can have.
    pub fn fill(&mut self, worker: WorkerId) -> Vec<usize> {
        let mut leased: Vec<usize> = std::iter::from_fn(|| self.lease(worker)).collect();
        leased.extend(self.lease_again(worker, false));
        leased
    }

    /// Leases all that can be leased: a first item to every worker before a second to any. If `overdue`, idle workers
    /// get what others are computing too.
    pub fn fill_all(&mut self, overdue: bool) -> Vec<(WorkerId, usize)> {
        if self.free.is_empty() && self.waiting == 0 && !overdue {
            return Vec::new();
        }
        let workers: Vec<WorkerId> = self.held.keys().copied().collect();
        let mut leased = Vec::new();
        for round in 0..MAX_LEASES {
            for &worker in &workers {
                if !self.free.is_empty() && self.held(worker) == round {
                    leased.extend(self.lease(worker).map(|at| (worker, at)));
                }
            }
        }
        for worker in workers {
            leased.extend(self.lease_again(worker, overdue).map(|at| (worker, at)));
        }
        leased
    }

    /// Leases the next free item, unless the worker has enough. One that it spoiled before goes to others, if there is
    /// any that did not.
    fn lease(&mut self, worker: WorkerId) -> Option<usize> {
        if self.held.get(&worker)?.len() >= MAX_LEASES {
            return None;
        }
        let found = self.free.iter().copied().find(|at| self.may_have(worker, *at))?;
        self.free.remove(&found);
        self.give(worker, found)
    }

    /// Leases to an idle worker what waits behind another's work, and has no other holder; or, if `overdue`, what fewest
    /// are computing.
    fn lease_again(&mut self, worker: WorkerId, overdue: bool) -> Option<usize> {
        if !self.held.get(&worker)?.is_empty() {
            return None;
        }
        let waiting = if self.waiting > 0 && !self.once { self.waiting_for(worker) } else { None };
        let found = waiting.or_else(|| if overdue { self.computed_by_fewest(worker) } else { None })?;
        self.give(worker, found)
    }

    fn waiting_for(&self, worker: WorkerId) -> Option<usize> {
        // What waits comes last in each queue, and is the least likely to be done soon.
        let mut waiting = self.held.values().flat_map(|queue| queue.iter().skip(1).rev().copied());
        let open = |at: usize| self.entries.get(at).is_some_and(|it| !it.done && it.holders == 1);
        waiting.find(|at| open(*at) && self.may_have(worker, *at))
    }

    fn computed_by_fewest(&self, worker: WorkerId) -> Option<usize> {
        let holders = |at: &usize| self.entries.get(*at).map_or(0, |it| if it.done { 0 } else { it.holders });
        let open = self.held.values().flatten().copied().filter(|at| holders(at) > 0 && self.may_have(worker, *at));
        open.min_by_key(holders)
    }

    fn may_have(&self, worker: WorkerId, at: usize) -> bool {
        let spoiled = self.entries.get(at).map_or(&[][..], |entry| &entry.spoiled_by);
        !spoiled.contains(&worker) || self.held.keys().all(|other| spoiled.contains(other))
    }

    fn give(&mut self, worker: WorkerId, at: usize) -> Option<usize> {
        let queue = self.held.get_mut(&worker)?;
        self.entries.get_mut(at)?.holders += 1;
        self.waiting += usize::from(!queue.is_empty());
        queue.push_back(at);
        Some(at)
    }

    /// Ends the worker's lease: its result has come, and is either counted or [spoiled](Self::spoiled).
    ///
    /// # Errors
    /// When the worker does not hold it, or another's result is there.
    pub fn returned(&mut self, worker: WorkerId, at: usize) -> Result<(), Error> {
        let queue = self.held.get_mut(&worker).ok_or(Error::NotLeased)?;
        let place = queue.iter().position(|held| *held == at).ok_or(Error::NotLeased)?;
        queue.remove(place);
        self.waiting -= usize::from(!queue.is_empty());
        self.give_back(at);
        match self.entries.get(at) {
            Some(entry) if entry.done => Err(Error::Duplicate),
            Some(_) => Ok(()),
            None => Err(Error::NotLeased),
        }
    }

    /// One worker less holds it.
    fn give_back(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.holders = entry.holders.saturating_sub(1);
            if entry.holders == 0 && !entry.done {
                self.free.insert(at);
            }
        }
    }

    /// There is a result of it.
    pub(super) fn done(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| !entry.done) {
            entry.done = true;
            self.free.remove(&at);
            self.missing -= 1;
        }
    }

    /// Whether a worker that might be leased this item has not spoiled it yet.
    #[must_use]
    pub fn has_hope(&self, at: usize) -> bool {
        let spoiled = self.entries.get(at).map_or(&[][..], |entry| &entry.spoiled_by);
        self.held.keys().any(|worker| !spoiled.contains(worker))
    }

    /// Notes that the worker's result was unusable. Returns how often that has happened to this item.
    pub fn spoiled(&mut self, worker: WorkerId, at: usize) -> usize {
        self.entries.get_mut(at).map_or(0, |entry| {
            entry.spoiled_by.push(worker);
            entry.spoiled_by.len()
        })
    }
}
