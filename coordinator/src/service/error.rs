//! What can go wrong with a request.

use crate::{blobs, search, store};
use lora_rates_common::convert::{self, SearchState};

/// Why the service can't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense.
    #[error(transparent)]
    Invalid(#[from] convert::Error),
    /// There is no such search.
    #[error("there is no search {0}")]
    NotFound(String),
    /// The request's name is taken.
    #[error("the request {request_id} has created another search, {search_id}: choose another request id")]
    Exists {
        /// The request.
        request_id: String,
        /// The search that it created.
        search_id: String,
    },
    /// Pictures or networks were not uploaded.
    #[error("{count} of the search's files are not there, the first is {name} ({sha256}); upload them first")]
    MissingBlobs {
        /// How many.
        count: usize,
        /// The name of the first.
        name: String,
        /// Its SHA-256.
        sha256: String,
    },
    /// As many searches as there may be.
    #[error("there are {limit} searches that are not over, and there may be no more; wait for one, or cancel one")]
    TooManySearches {
        /// How many there may be.
        limit: usize,
    },
    /// Only what is over can be deleted.
    #[error("the search is {state}; cancel or pause it before it is deleted")]
    NotOver {
        /// Where it stands.
        state: SearchState,
    },
    /// No such step has been made.
    #[error("the search has done {done} steps, and not {step}")]
    NoStep {
        /// The step.
        step: u64,
        /// Steps done.
        done: u64,
    },
    /// There are no best rates without evaluations.
    #[error("the search has not evaluated any rates on held-out pictures: it has no best ones")]
    NoEvaluation,
    /// Nobody can be asked.
    #[error("there is no worker to ask: start one, then try again")]
    NoWorker,
    /// The worker that was asked did not answer.
    #[error("the worker that was asked did not answer within {seconds} s")]
    NoAnswer {
        /// How long it had.
        seconds: u64,
    },
    /// A worker finds no model there, in its words.
    #[error("{0}")]
    NoModel(String),
    /// The search can't be made, or is not in a state for this.
    #[error(transparent)]
    Search(#[from] search::Error),
    /// It can't be stored or read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A blob can't be put or got.
    #[error(transparent)]
    Blob(#[from] blobs::Error),
    /// Things have changed meanwhile.
    #[error("things have changed meanwhile: try again")]
    Changed,
    /// The event loop has ended.
    #[error("the coordinator is stopping")]
    Stopped,
}
