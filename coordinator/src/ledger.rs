//! Which piece of a piece of work is leased to whom, and the results that there are. Each is counted once.
//!
//! Workers pull: one holds at most [`MAX_LEASES`], a slow one therefore gets fewer. What a lost worker held is free
//! again, and what waits behind another worker's work is leased a second time to one that would be idle; the first
//! result counts.

mod leases;

pub use leases::Leases;

use crate::search::WorkerId;

/// Leases that a worker holds at most: one that it computes, and one that waits so that it never does.
pub const MAX_LEASES: usize = 2;

/// Why a result does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The worker was not asked for it, or is not any more.
    #[error("it is not leased to the worker")]
    NotLeased,
    /// Another worker was faster.
    #[error("there is a result of it already")]
    Duplicate,
}

/// The items of one piece of work, such as the microbatches of a step, with results `T`.
#[derive(Clone, Debug)]
pub struct Ledger<T> {
    /// Who has what.
    pub leases: Leases,
    results: Vec<Option<T>>,
}

impl<T> Ledger<T> {
    /// Work of this many items for these workers.
    #[must_use]
    pub fn new(count: usize, workers: impl IntoIterator<Item = WorkerId>) -> Self {
        let results = std::iter::repeat_with(|| None).take(count).collect();
        Self { leases: Leases::new(count, workers), results }
    }

    /// Leases nothing a second time unless it is overdue: what every item yields is worth more than the last moments.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.leases.once = true;
        self
    }

    /// Counts the result of an item whose lease has [ended](Leases::returned).
    pub fn accept(&mut self, at: usize, result: T) {
        if let Some(place) = self.results.get_mut(at).filter(|place| place.is_none()) {
            *place = Some(result);
            self.leases.done(at);
        }
    }

    /// All results in the order of the items, once there are all.
    #[must_use]
    pub fn results(&self) -> Option<Vec<&T>> {
        if self.leases.missing() > 0 {
            return None;
        }
        self.results.iter().map(Option::as_ref).collect()
    }
}

#[cfg(test)]
mod tests;
