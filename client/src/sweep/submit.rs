//! Submitting the searches of a sweep one after the other, while those before are followed.

use super::Sweep;
use crate::failure::Failure;
use crate::remote::{Remote, nameless, upload};
use crate::settings::Existing;
use anyhow::Context as _;
use lora_rates_common::convert::{CreateSearch, SearchState, SearchStatus};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Pause before a coordinator that has enough searches is asked again, unless it says how long.
const FULL: Duration = Duration::from_secs(10);

/// Identifiers of what is submitted, with the place in the sweep.
type Ids = Arc<Mutex<BTreeMap<String, usize>>>;

/// Searches on their way to the coordinator.
#[derive(Debug)]
pub(super) struct Submission {
    ids: Ids,
    task: Option<JoinHandle<Result<(), Failure>>>,
}

impl Submission {
    pub(super) fn start(remote: &Remote, sweep: &Arc<Sweep>) -> Self {
        let ids = Ids::default();
        let submitter = Submitter { remote: remote.clone(), sweep: Arc::clone(sweep), ids: Arc::clone(&ids) };
        Self { ids, task: Some(tokio::spawn(submitter.run())) }
    }

    /// Place in the sweep of every search that is submitted, by its identifier.
    pub(super) fn ids(&self) -> BTreeMap<String, usize> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Once all are submitted, or one can't be.
    ///
    /// # Errors
    /// The coordinator refuses one.
    pub(super) async fn done(&mut self) -> Result<(), Failure> {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let result = task.await;
        self.task = None;
        result.map_err(|_| anyhow::anyhow!("submitting the searches failed"))?
    }

    /// Whether there may be more.
    pub(super) fn is_going_on(&self) -> bool {
        self.task.is_some()
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Submitter {
    remote: Remote,
    sweep: Arc<Sweep>,
    ids: Ids,
}

impl Submitter {
    async fn run(self) -> Result<(), Failure> {
        for place in 0..self.sweep.points.len() {
            let status = self.submit(place).await?;
            self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(status.search_id, place);
        }
        Ok(())
    }

    async fn submit(&self, place: usize) -> Result<SearchStatus, Failure> {
        let Sweep { settings, points, .. } = &*self.sweep;
        let point = points.get(place).context("no such search")?;
        let spec = self.sweep.spec(point)?;
        let sent = match &settings.coordinator {
            Some(_) => nameless(&spec, &settings.dataset.train_data_dir),
            None => spec.clone(),
        };
        let name = format!("{}/{}", settings.name, point.label);
        let create = CreateSearch { request_id: spec.fingerprint(), spec: Arc::new(sent), name };
        let status = self.create(&create).await?;
        let id = &status.search_id;
        // Here nobody but a sweep that was interrupted pauses a search without a reason.
        let interrupted = settings.coordinator.is_none() && status.failure.is_none();
        match (status.state, settings.existing) {
            (SearchState::Paused | SearchState::Failed | SearchState::Cancelled, Existing::Overwrite) => {
                self.remote.delete(id).await?;
                if let Some(target) = &settings.coordinator {
                    upload(target, &spec).await?;
                }
                self.create(&create).await
            }
            (SearchState::Paused, Existing::Refuse) if interrupted => Ok(self.remote.resume(id).await?),
            (SearchState::Paused | SearchState::Failed, Existing::Resume) => Ok(self.remote.resume(id).await?),
            _ => Ok(status),
        }
    }

    /// Creates it; waits while the coordinator has as many searches as it takes.
    async fn create(&self, create: &CreateSearch) -> Result<SearchStatus, Failure> {
        loop {
            match self.remote.create(create).await {
                Err(error) if error.is_full() => sleep(error.retry_after().unwrap_or(FULL)).await,
                Err(error) => return Err(error.into()),
                Ok(status) => return Ok(status),
            }
        }
    }
}
