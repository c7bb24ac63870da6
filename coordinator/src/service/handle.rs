//! Access to the running service.

use super::create::{self, Prepared};
use super::error::Error;
use super::message::{Answer, Call, Found, FromWorker, Joined, ListSearches, ListWorkers, Page, Watched};
use crate::blobs::Blobs;
use crate::search::{Order, WorkerId};
use crate::store::{self, After, Records};
use lora_rates_common::convert::{
    BlobKey, CreateSearch, Describe, Hello, ModelDescription, RatesOf, SearchState, SearchStatus, WorkerStatus,
};
use lora_rates_common::spec::{NetworkRef, SearchSpec};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a worker may take to say what a model is: it reads headers of files that may lie far away.
const DESCRIBE: Duration = Duration::from_secs(30);
/// How often a search is tried to be created while blobs are being removed.
const TRIES: usize = 8;

/// Access to the running service; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) store: store::Handle,
    pub(super) blobs: Blobs,
    pub(super) trusted: bool,
}

/// The rates of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct RatesAt {
    /// Steps done when they were these.
    pub step: u64,
    /// The 20 N rates.
    pub rates: Vec<f64>,
    /// Their networks.
    pub networks: Arc<[NetworkRef]>,
}

impl Handle {
    /// The blobs.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Creates a search, or finds the one that the same request created before.
    ///
    /// # Errors
    /// [`Error::Exists`] when the request created one that differs; [`Error::MissingBlobs`], [`Error::TooManySearches`];
    /// those of search and store.
    pub async fn create(&self, create: CreateSearch) -> Result<SearchStatus, Error> {
        for _ in 0..TRIES {
            let (wish, blobs, trusted) = (create.clone(), self.blobs.clone(), self.trusted);
            let prepared = self.blobs.work(move || Prepared::new(wish, &blobs, trusted)).await??;
            match self.ask(|answer| Call::Create(prepared, answer)).await {
                Err(Error::Changed) => {}
                result => return result,
            }
        }
        Err(Error::Changed)
    }

    /// A search as it stands.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, search_id: String) -> Result<SearchStatus, Error> {
        Ok(self.find(search_id).await?.status)
    }

    async fn find(&self, search_id: String) -> Result<Found, Error> {
        self.ask(|answer| Call::Find(search_id, answer)).await
    }

    /// Searches in the order of their creation, with their numbers: `limit` at most of those whose number is over
    /// `after` and that are in one of these states, if any are given.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn list(
        &self,
        after: u64,
        states: Vec<SearchState>,
        limit: usize,
    ) -> Result<Page<(u64, SearchStatus)>, Error> {
        self.ask(|answer| Call::List(ListSearches { after, states, limit }, answer)).await
    }

    /// Workers in the order in which they joined: `limit` at most of those whose number is over `after`.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn workers(&self, after: u64, limit: usize) -> Result<Page<WorkerStatus>, Error> {
        self.ask(|answer| Call::Workers(ListWorkers { after, limit }, answer)).await
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

    /// Committed steps of a search after what is known, `limit` at most, and the evaluations and pictures that go with
    /// them.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn records(&self, search_id: String, after: After, limit: u32) -> Result<Records, Error> {
        Ok(self.store.call(move |store| store.records(&search_id, after, limit)).await?)
    }

    /// The rates of a search.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NoStep`], [`Error::NoEvaluation`], [`Error::Store`].
    pub async fn rates(&self, search_id: String, of: RatesOf) -> Result<RatesAt, Error> {
        let Found { status, networks } = self.find(search_id.clone()).await?;
        let (step, rates) = match of {
            RatesOf::Last => (status.step, status.rates),
            RatesOf::Best => {
                let best = status.best.ok_or(Error::NoEvaluation)?;
                (best.step, best.rates.clone())
            }
            RatesOf::Step(step) if step == status.step => (step, status.rates),
            RatesOf::Step(step) if step > status.step => return Err(Error::NoStep { step, done: status.step }),
            RatesOf::Step(0) => (0, self.spec(search_id).await?.initial_rates()),
            RatesOf::Step(step) => {
                let records = self.store.call(move |store| store.steps(&search_id, step - 1, 1)).await?;
                let found = records.into_iter().find(|record| record.step == step);
                (step, found.ok_or(Error::NoStep { step, done: status.step })?.rates)
            }
        };
        Ok(RatesAt { step, rates, networks })
    }

    async fn spec(&self, search_id: String) -> Result<SearchSpec, Error> {
        Ok(self.store.call(move |store| store.spec(&search_id)).await?)
    }

    /// Forgets a search that is over or paused, and the blobs that no other needs.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotOver`], [`Error::Store`].
    pub async fn delete(&self, search_id: String) -> Result<(), Error> {
        self.find(search_id.clone()).await?;
        let spec = self.spec(search_id.clone()).await?;
        let id = search_id.clone();
        let pictures = self.store.call(move |store| store.pictures(&id)).await?;
        self.ask(|answer| Call::Delete(search_id.clone(), answer)).await?;
        if let Err(error) = self.sweep(&spec, pictures).await {
            tracing::warn!(search = search_id, %error, "blobs of a deleted search were left");
        }
        Ok(())
    }

    /// Removes what only this search needed.
    async fn sweep(&self, spec: &SearchSpec, pictures: Vec<String>) -> Result<(), Error> {
        let pictures = pictures.into_iter().map(BlobKey::File);
        let mut keys: HashSet<BlobKey> = create::blobs_of(spec).into_iter().chain(pictures).collect();
        for _ in 0..TRIES {
            let (generation, others) = self.ask(Call::All).await?;
            for id in others {
                // One spec after the other, so that steps are not held up.
                let other = id.clone();
                for sha256 in self.store.call(move |store| store.pictures(&other)).await? {
                    keys.remove(&BlobKey::File(sha256));
                }
                let spec = match self.spec(id).await {
                    Err(Error::Store(store::Error::Unknown(_))) => continue,
                    spec => spec?,
                };
                for key in create::blobs_of(&spec) {
                    keys.remove(&key);
                }
            }
            let unneeded: Vec<BlobKey> = keys.iter().cloned().collect();
            if unneeded.is_empty() {
                return Ok(());
            }
            if let Some(removal) = self.ask(|answer| Call::Sweep(generation, unneeded, answer)).await? {
                return Ok(removal.finish().await?);
            }
        }
        Err(Error::Changed)
    }

    /// What a worker finds at a model's path.
    ///
    /// # Errors
    /// [`Error::NoWorker`], [`Error::NoModel`], [`Error::NoAnswer`].
    pub async fn describe(&self, describe: Describe) -> Result<ModelDescription, Error> {
        let asked = timeout(DESCRIBE, self.ask(|answer| Call::Describe(describe, answer)));
        asked.await.map_err(|_| Error::NoAnswer { seconds: DESCRIBE.as_secs() })?
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

    /// A worker is lost or leaves. What it held goes to others.
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
