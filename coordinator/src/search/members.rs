//! The workers of a search.

use super::WorkerId;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    ready: bool,
    /// Results of its own fault that were refused.
    faults: u32,
}

/// The workers of a search: those that prepare and those that are ready.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(BTreeMap<WorkerId, Member>);

impl Members {
    /// Whether it is new.
    pub(super) fn add(&mut self, worker: WorkerId) -> bool {
        self.0.insert(worker, Member::default()).is_none()
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, worker: WorkerId) -> bool {
        self.0.remove(&worker).is_some()
    }

    /// Whether it is a member that was not ready before.
    pub(super) fn set_ready(&mut self, worker: WorkerId) -> bool {
        self.0.get_mut(&worker).is_some_and(|member| !std::mem::replace(&mut member.ready, true))
    }

    /// Faults of the worker, with this one.
    pub(super) fn fault(&mut self, worker: WorkerId) -> u32 {
        self.0.get_mut(&worker).map_or(0, |member| {
            member.faults += 1;
            member.faults
        })
    }

    /// Those that take microbatches, in a fixed order.
    pub(super) fn ready(&self) -> Vec<WorkerId> {
        self.0.iter().filter(|(_, member)| member.ready).map(|(worker, _)| *worker).collect()
    }

    /// Whether any takes microbatches.
    pub(super) fn any_ready(&self) -> bool {
        self.0.values().any(|member| member.ready)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = WorkerId> + use<> {
        std::mem::take(&mut self.0).into_keys()
    }
}
