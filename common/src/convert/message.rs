//! What coordinator, workers and clients tell each other, as domain types.

use crate::plan::Microbatch;
use crate::spec::SearchSpec;
use std::fmt;
use std::sync::Arc;

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SearchState {
    /// Waiting for a worker, or workers are preparing.
    Preparing,
    /// Steps are made.
    Running,
    /// Stopped until it is resumed.
    Paused,
    /// All steps are done.
    Finished,
    /// Given up.
    Failed,
    /// Ended by the user.
    Cancelled,
}

impl SearchState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Preparing, Self::Running, Self::Paused, Self::Finished, Self::Failed, Self::Cancelled];

    /// Whether it stays so for good.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }

    /// `preparing`, `running`, `paused`, `finished`, `failed`, `cancelled`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this [`Self::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for SearchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A search as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchStatus {
    /// Its identifier.
    pub search_id: String,
    /// Where it stands.
    pub state: SearchState,
    /// Steps done.
    pub step: u64,
    /// Steps to do in all.
    pub max_train_steps: u64,
    /// The 20 N rates after the last step done.
    pub rates: Vec<f64>,
    /// Why it failed, or paused by itself.
    pub failure: Option<String>,
}

/// One step, as it was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Steps done with this one: counts from 1.
    pub step: u64,
    /// Mean of the microbatches' losses, without the penalty.
    pub loss: f64,
    /// Unweighted penalty of the rates before the step.
    pub penalty: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Euclidean norm of the whole gradient, penalty included.
    pub gradient_norm: f64,
    /// Samples in the step.
    pub samples: u32,
    /// The 20 N rates after the step.
    pub rates: Vec<f64>,
}

/// A client's wish for a new search.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSearch {
    /// Chosen by the client: the same again means the search that it created first.
    pub request_id: String,
    /// What it is made of.
    pub spec: Arc<SearchSpec>,
}

/// What a worker is busy with before a search's first step, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Name of the worker.
    pub worker: String,
    /// In words: "loading the model".
    pub activity: String,
    /// How much of it is done.
    pub done: u32,
    /// Of how much; 0 if that is not known.
    pub total: u32,
}

/// What someone who watches a search is told.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchEvent {
    /// It is in another state; sent first of all too.
    Status(SearchStatus),
    /// A step was committed.
    Step(Arc<StepRecord>),
    /// A worker is getting ready.
    Progress(PrepareProgress),
}

/// What a worker says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its name.
    pub name: String,
    /// Its device, in words.
    pub device: String,
}

/// What a worker is busy with before it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The search.
    pub search_id: String,
    /// In words: "loading the model".
    pub activity: String,
    /// How much of it is done.
    pub done: u32,
    /// Of how much; 0 if that is not known.
    pub total: u32,
}

/// A worker can't work for a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The search.
    pub search_id: String,
    /// What is wrong, in words for the user.
    pub message: String,
}

/// A worker is to get ready for a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepare {
    /// The search.
    pub search_id: String,
    /// What it is made of.
    pub spec: Arc<SearchSpec>,
}

/// A worker's result of a leased microbatch. Its numbers may be anything: the search checks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// The search.
    pub search_id: String,
    /// The step, counted from 0.
    pub step: u64,
    /// Place of the microbatch in the step, from 0.
    pub microbatch: u32,
    /// Mean squared error of each sample, unweighted.
    pub mse: Vec<f64>,
    /// Mean over the samples of factor times error.
    pub loss: f64,
    /// Its gradient by the 20 N rates.
    pub gradient: Vec<f64>,
}

/// The rates in force in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// The search.
    pub search_id: String,
    /// The step, counted from 0.
    pub step: u64,
    /// The 20 N rates.
    pub rates: Vec<f32>,
}

/// A microbatch for a worker to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The search.
    pub search_id: String,
    /// The step, counted from 0.
    pub step: u64,
    /// Place of the microbatch in the step, from 0.
    pub microbatch: u32,
    /// Its samples.
    pub batch: Microbatch,
}
