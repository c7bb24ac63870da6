//! Access to the running service.

use super::message::{Answer, Call, Error, FromWorker, Joined, Watched};
use crate::search::{Order, WorkerId};
use crate::store;
use lora_rates_common::convert::{CreateSearch, Hello, SearchStatus, StepRecord};
use tokio::sync::{mpsc, oneshot};

/// Access to the running service; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) store: store::Handle,
}

impl Handle {
    /// Creates a search, or finds the one that the same request created before.
    ///
    /// # Errors
    /// [`Error::Exists`] when the request created one that differs; those of search and store.
    pub async fn create(&self, create: CreateSearch) -> Result<SearchStatus, Error> {
        self.ask(|answer| Call::Create(create, answer)).await
    }

    /// A search as it stands.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, search_id: String) -> Result<SearchStatus, Error> {
        self.ask(|answer| Call::Get(search_id, answer)).await
    }

    /// Pauses, resumes or cancels a search. One that is so already stays so.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Search`] when its state does not allow it, [`Error::Store`] when it would be
    /// forgotten with the process.
    pub async fn order(&self, search_id: String, order: Order) -> Result<SearchStatus, Error> {
        self.ask(|answer| Call::Order(search_id, order, answer)).await
    }

    /// A search as it stands, and all that happens from there.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn watch(&self, search_id: String) -> Result<Watched, Error> {
        self.ask(|answer| Call::Watch(search_id, answer)).await
    }

    /// Committed steps of a search after this one, `limit` at most.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn steps(&self, search_id: String, after: u64, limit: u32) -> Result<Vec<StepRecord>, Error> {
        Ok(self.store.call(move |store| store.steps(&search_id, after, limit)).await?)
    }

    /// Takes a worker in.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn join(&self, hello: Hello) -> Result<Joined, Error> {
        self.ask(|answer| Call::Join(hello, answer)).await
    }

    /// Passes on what a worker says.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn report(&self, worker: WorkerId, message: FromWorker) -> Result<(), Error> {
        self.calls.send(Call::Report(worker, message)).await.map_err(|_| Error::Stopped)
    }

    /// A worker is lost. What it held goes to others.
    pub async fn leave(&self, worker: WorkerId) {
        // A service that has ended has forgotten it already.
        let _ = self.calls.send(Call::Leave(worker)).await;
    }

    async fn ask<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        self.calls.send(call(answer)).await.map_err(|_| Error::Stopped)?;
        result.await.map_err(|_| Error::Stopped)?
    }
}
