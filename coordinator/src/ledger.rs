//! Which microbatch of the step is leased to whom, and the results that there are. Each is counted once.
//!
//! Workers pull: one holds at most [`MAX_LEASES`], a slow one therefore gets fewer. What a lost worker held is free
//! again, and what waits behind another worker's work is leased a second time to one that would be idle; the first
//! result counts.

use crate::search::WorkerId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Leases that a worker holds at most: one that it computes, and one that waits so that it never does.
pub const MAX_LEASES: usize = 2;

/// Why a result does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The worker was not asked for it, or is not any more.
    #[error("the microbatch is not leased to the worker")]
    NotLeased,
    /// Another worker was faster.
    #[error("the microbatch has a result already")]
    Duplicate,
}

/// One microbatch.
#[derive(Clone, Debug)]
struct Entry<T> {
    result: Option<T>,
    /// Workers whose leases on it are running.
    holders: usize,
    /// Workers that returned something unusable for it.
    spoiled_by: Vec<WorkerId>,
}

/// The microbatches of one step, with results `T`.
#[derive(Clone, Debug)]
pub struct Ledger<T> {
    entries: Vec<Entry<T>>,
    /// Without result and not leased; the first is leased first.
    free: BTreeSet<usize>,
    /// What every worker holds, oldest first: the oldest is being computed. May hold what others have done meanwhile.
    held: BTreeMap<WorkerId, VecDeque<usize>>,
    missing: usize,
}

impl<T> Ledger<T> {
    /// A step of this many microbatches.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let entry = || Entry { result: None, holders: 0, spoiled_by: Vec::new() };
        Self {
            entries: std::iter::repeat_with(entry).take(count).collect(),
            free: (0..count).collect(),
            held: BTreeMap::new(),
            missing: count,
        }
    }

    /// Leases that the worker holds.
    #[must_use]
    pub fn held(&self, worker: WorkerId) -> usize {
        self.held.get(&worker).map_or(0, VecDeque::len)
    }

    /// Leases the next free microbatch, unless the worker has enough. One that it spoiled before goes to others in
    /// `ready`, if there is any that did not.
    pub fn lease(&mut self, worker: WorkerId, ready: &[WorkerId]) -> Option<usize> {
        if self.held(worker) >= MAX_LEASES {
            return None;
        }
        let found = self.free.iter().copied().find(|at| self.may_have(worker, *at, ready))?;
        self.free.remove(&found);
        self.give(worker, found)
    }

    /// Leases to an idle worker what one other holds: what waits there, or, if `running` too, what it computes.
    pub fn lease_again(&mut self, worker: WorkerId, ready: &[WorkerId], running: bool) -> Option<usize> {
        if self.held(worker) > 0 {
            return None;
        }
        let skipped = usize::from(!running);
        // What waits comes last in each queue, and is the least likely to be done soon.
        let candidates = self.held.values().flat_map(|queue| queue.iter().skip(skipped).rev().copied());
        let open = |at: &usize| self.entries.get(*at).is_some_and(|it| it.result.is_none() && it.holders == 1);
        let found = candidates.filter(open).find(|at| self.may_have(worker, *at, ready))?;
        self.give(worker, found)
    }

    fn may_have(&self, worker: WorkerId, at: usize, ready: &[WorkerId]) -> bool {
        let spoiled = self.entries.get(at).map_or(&[][..], |entry| &entry.spoiled_by);
        !spoiled.contains(&worker) || ready.iter().all(|other| spoiled.contains(other))
    }

    fn give(&mut self, worker: WorkerId, at: usize) -> Option<usize> {
        self.entries.get_mut(at)?.holders += 1;
        self.held.entry(worker).or_default().push_back(at);
        Some(at)
    }

    /// Ends the worker's lease: its result has come, and may be [accepted](Self::accept) or [spoiled](Self::spoiled).
    ///
    /// # Errors
    /// When the worker does not hold it, or another's result is there.
    pub fn returned(&mut self, worker: WorkerId, at: usize) -> Result<(), Error> {
        let queue = self.held.get_mut(&worker).ok_or(Error::NotLeased)?;
        let place = queue.iter().position(|held| *held == at).ok_or(Error::NotLeased)?;
        queue.remove(place);
        self.give_back(at);
        match self.entries.get(at) {
            Some(entry) if entry.result.is_some() => Err(Error::Duplicate),
            Some(_) => Ok(()),
            None => Err(Error::NotLeased),
        }
    }

    /// One worker less holds it.
    fn give_back(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.holders = entry.holders.saturating_sub(1);
            if entry.holders == 0 && entry.result.is_none() {
                self.free.insert(at);
            }
        }
    }

    /// Counts a returned result.
    pub fn accept(&mut self, at: usize, result: T) {
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.result.is_none()) {
            entry.result = Some(result);
            self.free.remove(&at);
            self.missing -= 1;
        }
    }

    /// Notes that the worker's result was unusable. Returns how often that has happened to this microbatch.
    pub fn spoiled(&mut self, worker: WorkerId, at: usize) -> usize {
        self.entries.get_mut(at).map_or(0, |entry| {
            entry.spoiled_by.push(worker);
            entry.spoiled_by.len()
        })
    }

    /// Frees all that a lost worker held.
    pub fn remove(&mut self, worker: WorkerId) {
        for at in self.held.remove(&worker).unwrap_or_default() {
            self.give_back(at);
        }
    }

    /// All results in the order of the microbatches, once there are all.
    #[must_use]
    pub fn results(&self) -> Option<Vec<&T>> {
        if self.missing > 0 {
            return None;
        }
        self.entries.iter().map(|entry| entry.result.as_ref()).collect()
    }
}

#[cfg(test)]
mod tests;
