//! What goes into a search's state machine, and what comes out.

use super::Error;
use crate::ledger;
use lora_rates_common::conclusion::Conclusion;
use lora_rates_common::convert::{Draw, Drawn, Encode, Encoded, Evaluate, Evaluated, Gradient, Lease, PrepareProgress};
use lora_rates_common::convert::{Rates, SamplePicture, SearchState, StepRecord, Validation};
use lora_rates_common::optimizer::State;
use std::fmt;
use std::sync::Arc;

/// A worker, for as long as it stays: one that comes again is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(u64);

impl WorkerId {
    /// The worker of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker is given to this search.
    Joined(WorkerId),
    /// It is prepared.
    Ready(WorkerId),
    /// It is lost, leaves, or is given to another search: the search does not tell it anything any more.
    Gone(WorkerId),
    /// It can't work for this search, in words for the user.
    Failed(WorkerId, String),
    /// It returns a microbatch.
    Computed(WorkerId, Gradient),
    /// It has encoded a picture.
    Encoded(WorkerId, Encoded),
    /// It returns an evaluation.
    Evaluated(WorkerId, Evaluated),
    /// It has sampled a picture, or could not.
    Drawn(WorkerId, Drawn),
    /// There is no worker for this search, and there will be none: every one has failed, or none came for as long as
    /// the coordinator waits. In words for the user.
    Abandoned(String),
    /// No result has come for long: what is being computed may be leased again.
    Overdue,
    /// The store has what [`Command::Commit`], [`Command::Validated`], [`Command::Sampled`] or [`Command::Concluded`] gave
    /// it.
    Committed,
    /// The store has it not, for this reason.
    NotCommitted(String),
}

/// What a user orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop after what is committed.
    Pause,
    /// Go on.
    Resume,
    /// End for good.
    Cancel,
}

impl Order {
    /// Whether it changes anything about a search in this state.
    ///
    /// # Errors
    /// When the state does not allow it.
    pub fn applies_to(self, state: SearchState) -> Result<bool, Error> {
        match (self, state) {
            (Self::Pause, SearchState::Preparing | SearchState::Running)
            | (Self::Resume, SearchState::Paused | SearchState::Failed)
            | (Self::Cancel, SearchState::Preparing | SearchState::Running | SearchState::Paused) => Ok(true),
            (Self::Pause, SearchState::Paused)
            | (Self::Resume, SearchState::Preparing | SearchState::Running)
            | (Self::Cancel, SearchState::Cancelled) => Ok(false),
            (order, state) => Err(Error::Order { order, state }),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Cancel => "cancelled",
        })
    }
}

/// What is to be done about it, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Tell the worker to get ready.
    Prepare(WorkerId),
    /// Tell it the rates of a step.
    Rates(WorkerId, Rates),
    /// Lease it a microbatch.
    Lease(WorkerId, Lease),
    /// Lease it a picture to encode.
    Encode(WorkerId, Encode),
    /// Lease it an evaluation.
    Evaluate(WorkerId, Evaluate),
    /// Lease it a picture to sample.
    Draw(WorkerId, Draw),
    /// Tell it to forget the search; it is free for others. Said when the search wants no workers any more.
    Release(WorkerId),
    /// As [`Self::Release`], because it can't work for this search, for this reason: it is not to be given to it again.
    Expel(WorkerId, String),
    /// Store a step; then say [`Event::Committed`].
    Commit(Arc<Commit>),
    /// Store an evaluation; then say [`Event::Committed`].
    Validated(Arc<Validation>),
    /// Store the pictures of a step; then say [`Event::Committed`].
    Sampled(Arc<[SamplePicture]>),
    /// Store what was measured at the end; then say [`Event::Committed`].
    Concluded(Arc<Conclusion>),
    /// Tell who watches of a step, which is committed.
    Publish(Arc<StepRecord>),
    /// Tell who watches of an evaluation, which is committed.
    PublishValidation(Arc<Validation>),
    /// Tell who watches of a picture, which is committed.
    PublishPicture(Arc<SamplePicture>),
    /// Tell who watches what goes on.
    Progress(PrepareProgress),
    /// The search is in this state: store and publish it.
    State(SearchState, Option<String>),
    /// A result was refused; counted already.
    Refused(WorkerId, Refusal),
}

/// A step made: what it is known by, and what the next one starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The step.
    pub record: Arc<StepRecord>,
    /// Rates and moments after it.
    pub state: State,
}

/// Why a worker's result was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another search's.
    #[error("it is of another search")]
    Foreign,
    /// Nothing of its kind is being computed.
    #[error("the search has no such work now")]
    NotRunning,
    /// Under the rates of another step.
    #[error("it is of step {found}, and the search is at step {current}")]
    Step {
        /// Its step.
        found: u64,
        /// The search's step.
        current: u64,
    },
    /// Not leased, or done.
    #[error(transparent)]
    Lease(#[from] ledger::Error),
    /// Too few or too many numbers.
    #[error("{what} has {found} numbers instead of {expected}")]
    Shape {
        /// Which part.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Infinite, or not a number.
    #[error("{0} is not finite")]
    NotFinite(&'static str),
}

impl Refusal {
    /// Whether the worker is to blame; otherwise it was merely too late.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Shape { .. } | Self::NotFinite(_))
    }
}
