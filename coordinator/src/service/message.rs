//! What goes between the service's event loop and those who hold its handle.

use crate::search::{Order, WorkerId};
use crate::{search, store};
use lora_rates_common::convert::{
    CreateSearch, Failed, Gradient, Hello, Lease, Prepare, Progress, Rates, SearchEvent, SearchStatus,
};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Why the service can't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// The search can't be made, or is not in a state for this.
    #[error(transparent)]
    Search(#[from] search::Error),
    /// It can't be stored or read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The event loop has ended.
    #[error("the coordinator is stopping")]
    Stopped,
}

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What the event loop is asked.
pub(super) enum Call {
    Create(CreateSearch, Answer<SearchStatus>),
    Get(String, Answer<SearchStatus>),
    Order(String, Order, Answer<SearchStatus>),
    Watch(String, Answer<Watched>),
    Join(Hello, Answer<Joined>),
    Report(WorkerId, FromWorker),
    Leave(WorkerId),
}

/// A search as it stands, and all that happens to it from there.
pub struct Watched {
    /// As it stands.
    pub status: SearchStatus,
    /// What happens. Who lags finds the missed steps in the store.
    pub events: broadcast::Receiver<SearchEvent>,
}

/// A worker that was taken in.
pub struct Joined {
    /// Its name from here on.
    pub worker: WorkerId,
    /// What it is told. Ends when the service gives it up.
    pub messages: mpsc::Receiver<ToWorker>,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// It is getting ready.
    Progress(Progress),
    /// It is ready for this search.
    Ready(String),
    /// It has computed a microbatch.
    Computed(Gradient),
    /// It can't work for a search.
    Failed(Failed),
}

/// What a worker is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// Get ready.
    Prepare(Prepare),
    /// The rates of a step.
    Rates(Rates),
    /// A microbatch to compute.
    Lease(Lease),
    /// Forget this search.
    Release(String),
}
