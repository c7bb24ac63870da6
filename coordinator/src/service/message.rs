//! What goes between the service's event loop and those who hold its handle.

use super::create::Prepared;
use super::error::Error;
use crate::blobs::Removal;
use crate::search::{Event, Order, WorkerId};
use crate::store;
use lora_rates_common::convert::{
    BlobKey, Describe, Described, Draw, Drawn, Encode, Encoded, Evaluate, Evaluated, Failed, Gradient, Heartbeat,
    Hello, Lease, ModelDescription, Prepare, PrepareProgress, Progress, Rates, SearchEvent, SearchState, SearchStatus,
    WorkerStatus,
};
use lora_rates_common::spec::NetworkRef;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What the event loop is asked.
pub(super) enum Call {
    Create(Prepared, Answer<SearchStatus>),
    Find(String, Answer<Found>),
    List(ListSearches, Answer<Page<(u64, SearchStatus)>>),
    Order(String, Order, Answer<SearchStatus>),
    Watch(String, Answer<Watched>),
    Delete(String, Answer<()>),
    /// The identifiers of all searches, and a number that changes when there is a new one.
    All(Answer<(u64, Vec<String>)>),
    /// Removes blobs, unless that number has changed.
    Sweep(u64, Vec<BlobKey>, Answer<Option<Removal>>),
    Workers(ListWorkers, Answer<Page<WorkerStatus>>),
    Describe(Describe, Answer<ModelDescription>),
    Join(Hello, Answer<Joined>),
    Report(WorkerId, FromWorker),
    Leave(WorkerId),
}

/// What the store has done.
pub(super) enum Done {
    /// A step or an evaluation of a search.
    Written(String, Event),
    Created(String, Result<(), store::Error>),
    Deleted(String, Result<(), store::Error>, Answer<()>),
}

/// Which searches are asked for.
pub(super) struct ListSearches {
    /// Those whose number is over this.
    pub(super) after: u64,
    /// In one of these states; none: all.
    pub(super) states: Vec<SearchState>,
    pub(super) limit: usize,
}

/// Which workers are asked for.
pub(super) struct ListWorkers {
    /// Those whose number is over this.
    pub(super) after: u64,
    pub(super) limit: usize,
}

/// Some of a list.
pub struct Page<T> {
    /// In their order.
    pub items: Vec<T>,
    /// Whether there are more after them.
    pub more: bool,
}

impl<T> Page<T> {
    /// The first of these.
    pub(super) fn new(mut all: impl Iterator<Item = T>, limit: usize) -> Self {
        let items = all.by_ref().take(limit).collect();
        Self { items, more: all.next().is_some() }
    }
}

/// A search that was asked for.
pub struct Found {
    /// As it stands.
    pub status: SearchStatus,
    /// Its networks, in the order of their rates.
    pub networks: Arc<[NetworkRef]>,
}

/// A search as it stands, and all that happens to it from there.
pub struct Watched {
    /// As it stands.
    pub status: SearchStatus,
    /// What it is busy with before its first step, if it is.
    pub progress: Option<PrepareProgress>,
    /// What happens. Who lags finds the missed steps in the store.
    pub events: broadcast::Receiver<SearchEvent>,
}

/// A worker that was taken in.
pub struct Joined {
    /// Its name from here on.
    pub worker: WorkerId,
    /// What it is told. Ends when the service gives it up.
    pub messages: mpsc::Receiver<ToWorker>,
    /// Is closed when the service gives it up.
    pub given_up: oneshot::Receiver<()>,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// It is alive.
    Heartbeat(Heartbeat),
    /// It is getting ready.
    Progress(Progress),
    /// It is ready for this search.
    Ready(String),
    /// It has computed a microbatch.
    Computed(Gradient),
    /// It has encoded a picture.
    Encoded(Encoded),
    /// It has computed an evaluation.
    Evaluated(Evaluated),
    /// It has sampled a picture, or could not.
    Drawn(Drawn),
    /// It can't work for a search.
    Failed(Failed),
    /// It knows what a model is, or that it is none.
    Described(Box<Described>),
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
    /// A picture to encode.
    Encode(Encode),
    /// An evaluation to compute.
    Evaluate(Evaluate),
    /// A picture to sample.
    Draw(Draw),
    /// Forget this search.
    Release(String),
    /// Say what a model is.
    Describe(Describe),
}
