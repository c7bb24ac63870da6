//! What coordinator, workers and clients tell each other, as domain types.

use super::SamplePicture;
use crate::conclusion::Conclusion;
use crate::plan::Microbatch;
use crate::sdxl::config::SdxlConfig;
use crate::spec::SearchSpec;
use std::fmt;
use std::path::PathBuf;
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
    /// Why it failed, paused or ended by itself.
    pub failure: Option<String>,
    /// Chosen by the client, for lists.
    pub name: String,
    /// Workers that prepare or compute for it now.
    pub workers: u32,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// Names of its networks, in the order of their rates.
    pub networks: Vec<String>,
    /// The evaluation of the lowest held-out loss so far.
    pub best: Option<Arc<Validation>>,
    /// What was measured at its end, if that was asked for.
    pub conclusion: Option<Arc<Conclusion>>,
}

/// The loss on the held-out pictures under the rates of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Steps done before it.
    pub step: u64,
    /// Mean loss of the samples.
    pub loss: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Samples in it.
    pub samples: u32,
    /// The 20 N rates.
    pub rates: Vec<f64>,
    /// All live rates the same, for comparison; with a search's first evaluation only.
    pub baselines: Vec<Baseline>,
}

/// The held-out loss with all live rates at one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    /// The value.
    pub rate: f64,
    /// Mean loss of the samples.
    pub loss: f64,
    /// Its standard error.
    pub standard_error: f64,
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
    /// For lists; need not be unique.
    pub name: String,
}

/// What goes on before a search's first step, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Name of the worker; empty: all of them together.
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
    /// The held-out pictures were evaluated.
    Validation(Arc<Validation>),
    /// A picture was sampled, or could not be.
    SamplePicture(Arc<SamplePicture>),
}

/// What a worker says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its name.
    pub name: String,
    /// Its device, in words.
    pub device: String,
    /// The device's memory, if anyone can say.
    pub memory: Option<Memory>,
}

/// A device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that nobody uses.
    pub free: u64,
}

/// A worker's sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Milliseconds since its last microbatch ended, if one ever did.
    pub idle_ms: Option<u64>,
    /// The device's memory, if anyone can say.
    pub memory: Option<Memory>,
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

/// A worker is to encode a picture, put its encoding into the coordinator's store under
/// [`SearchSpec::encoding_key`], and say [`Encoded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encode {
    /// The search.
    pub search_id: String,
    /// Number of the picture.
    pub image: u32,
    /// Mirrored left to right.
    pub flip: bool,
}

/// A picture's encoding is in the coordinator's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The search.
    pub search_id: String,
    /// Number of the picture.
    pub image: u32,
    /// Mirrored left to right.
    pub flip: bool,
}

/// A worker is to compute the loss of these samples under these rates, without gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluate {
    /// The search.
    pub search_id: String,
    /// The step, counted from 0.
    pub step: u64,
    /// Place in the round of evaluations.
    pub item: u32,
    /// The 20 N rates.
    pub rates: Vec<f32>,
    /// The samples.
    pub batch: Microbatch,
}

/// The result of an evaluation. Its numbers may be anything: the search checks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The search.
    pub search_id: String,
    /// The step, counted from 0.
    pub step: u64,
    /// Place in the round of evaluations.
    pub item: u32,
    /// The loss of each sample: factor times error times the picture's weight.
    pub losses: Vec<f64>,
}

/// A worker is to say what the model at this path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Describe {
    /// Number of the question.
    pub number: u64,
    /// Below the worker's model folder.
    pub path: PathBuf,
    /// A VAE of its own.
    pub vae: Option<PathBuf>,
}

/// What a worker finds at a model's path, or why it finds nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Number of the question.
    pub number: u64,
    /// The answer.
    pub result: Result<ModelDescription, String>,
}

/// What a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDescription {
    /// SHA-256 over the headers of its files, 64 hexadecimal digits.
    pub digest: String,
    /// Its sizes.
    pub config: SdxlConfig,
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// Has no search.
    Idle,
    /// Gets ready for its search.
    Preparing,
    /// Ready for its search's microbatches.
    Working,
    /// Its results were unusable; it gets no work for a while.
    Quarantined,
}

impl WorkerState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Preparing, Self::Working, Self::Quarantined];

    /// `idle`, `preparing`, `working`, `quarantined`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Preparing => "preparing",
            Self::Working => "working",
            Self::Quarantined => "quarantined",
        }
    }
}

/// A worker, as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    /// For as long as it stays connected.
    pub worker_id: u64,
    /// Its name.
    pub name: String,
    /// Its device, in words.
    pub device: String,
    /// Where it stands.
    pub state: WorkerState,
    /// What it works for.
    pub search_id: Option<String>,
    /// The device's memory, if anyone can say.
    pub memory: Option<Memory>,
    /// When it joined, in milliseconds since 1970.
    pub joined_ms: u64,
    /// Milliseconds since it last said anything.
    pub silent_ms: u64,
    /// Milliseconds since it last finished a microbatch, if it ever did.
    pub idle_ms: Option<u64>,
    /// Results that counted since it joined.
    pub accepted: u64,
    /// Results that did not.
    pub refused: u64,
}

/// What a blob is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobKey {
    /// A picture or a network, by the SHA-256 of its bytes.
    File(String),
    /// A picture's encoding, by [`SearchSpec::encoding_key`].
    Encoding(String),
}

impl BlobKey {
    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        match self {
            Self::File(digits) | Self::Encoding(digits) => digits,
        }
    }
}
