//! A coordinator as seen from here: requests and answers in domain types.

mod error;
mod find;
mod target;
#[cfg(test)]
mod tests;
mod upload;
mod watch;

pub(crate) use error::Error;
pub use target::Target;
pub(crate) use target::TargetArgs;
pub(crate) use upload::{nameless, upload};
pub(crate) use watch::{Seen, Watch};

use lora_rates_common::convert::{
    BlobKey, CreateSearch, ModelDescription, RatesOf, SearchState, SearchStatus, WorkerStatus, network_rates,
};
use lora_rates_common::picture;
use lora_rates_proto::connect::{self, Connection};
use lora_rates_proto::transfer::Blobs;
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use lora_rates_proto::{MAX_MESSAGE, v1};
use std::path::Path;
use std::time::Duration;

/// How long a coordinator that can't be reached, or has no worker, is asked again and again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Speaks to a coordinator. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    service: SearchServiceClient<Connection>,
    blobs: Blobs,
    /// How long a broken connection is tried to be mended.
    patience: Duration,
}

/// The rates of one network, as the coordinator keeps them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedRates {
    /// The network's name.
    pub(crate) name: String,
    /// SHA-256 of its file.
    pub(crate) sha256: String,
    /// Its twenty rates.
    pub(crate) rates: Vec<f64>,
}

/// Rates of a search after a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepRates {
    /// Steps done.
    pub(crate) step: u64,
    /// Network by network.
    pub(crate) networks: Vec<NamedRates>,
}

impl Remote {
    /// Connects to a coordinator.
    ///
    /// # Errors
    /// It can't be reached, or the options make no sense.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Error> {
        Ok(Self::over(connect::connect(&target.url, &target.access).await?, PATIENCE))
    }

    /// Over a connection that exists. When it breaks, it is tried to be mended for so long.
    pub(crate) fn over(connection: Connection, patience: Duration) -> Self {
        let blobs = Blobs::new(connection.clone());
        let service = SearchServiceClient::new(connection);
        let service = service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        Self { service, blobs, patience }
    }

    fn service(&self) -> SearchServiceClient<Connection> {
        self.service.clone()
    }

    /// Makes this search, or finds it if a request of the same id made it before.
    ///
    /// # Errors
    /// [`Error`], as of all that follow: the coordinator refuses or can't be reached.
    pub(crate) async fn create(&self, create: &CreateSearch) -> Result<SearchStatus, Error> {
        let request = v1::CreateSearchRequest::from(create);
        Ok(self.service().create_search(request).await?.into_inner().search.try_into()?)
    }

    /// How a search stands.
    pub(crate) async fn get(&self, search_id: &str) -> Result<SearchStatus, Error> {
        let request = v1::GetSearchRequest { search_id: search_id.to_owned() };
        Ok(self.service().get_search(request).await?.into_inner().search.try_into()?)
    }

    /// All searches in one of these states, or in any if none is given, in the order of their creation.
    pub(crate) async fn list(&self, states: &[SearchState]) -> Result<Vec<SearchStatus>, Error> {
        let states: Vec<i32> = states.iter().map(|state| v1::SearchState::from(*state).into()).collect();
        let (mut searches, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListSearchesRequest { page_size: 0, page_token, states: states.clone() };
            let page = self.service().list_searches(request).await?.into_inner();
            for search in page.searches {
                searches.push(SearchStatus::try_from(search)?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(searches);
            }
        }
    }

    /// All workers that are connected.
    pub(crate) async fn workers(&self) -> Result<Vec<WorkerStatus>, Error> {
        let (mut workers, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListWorkersRequest { page_size: 0, page_token };
            let page = self.service().list_workers(request).await?.into_inner();
            for worker in page.workers {
                workers.push(WorkerStatus::try_from(worker)?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(workers);
            }
        }
    }

    /// Everything that happens in a search, steps after `after_step` first, until it ends or pauses.
    pub(crate) fn watch(&self, search_id: &str, after_step: u64) -> Watch {
        Watch::start(self, search_id, after_step)
    }

    /// Stops a search after what is committed.
    pub(crate) async fn pause(&self, search_id: &str) -> Result<SearchStatus, Error> {
        let request = v1::PauseSearchRequest { search_id: search_id.to_owned() };
        Ok(self.service().pause_search(request).await?.into_inner().search.try_into()?)
    }

    /// Goes on with a search that was paused or failed.
    pub(crate) async fn resume(&self, search_id: &str) -> Result<SearchStatus, Error> {
        let request = v1::ResumeSearchRequest { search_id: search_id.to_owned() };
        Ok(self.service().resume_search(request).await?.into_inner().search.try_into()?)
    }

    /// Ends a search for good.
    pub(crate) async fn cancel(&self, search_id: &str) -> Result<SearchStatus, Error> {
        let request = v1::CancelSearchRequest { search_id: search_id.to_owned() };
        Ok(self.service().cancel_search(request).await?.into_inner().search.try_into()?)
    }

    /// Makes the coordinator forget a search.
    pub(crate) async fn delete(&self, search_id: &str) -> Result<(), Error> {
        let request = v1::DeleteSearchRequest { search_id: search_id.to_owned() };
        self.service().delete_search(request).await?;
        Ok(())
    }

    /// The rates of a search.
    pub(crate) async fn rates(&self, search_id: &str, of: RatesOf) -> Result<StepRates, Error> {
        use v1::get_rates_request::Which;
        let which = match of {
            RatesOf::Last => None,
            RatesOf::Step(step) => Some(Which::Step(step)),
            RatesOf::Best => Some(Which::Best(true)),
        };
        let request = v1::GetRatesRequest { search_id: search_id.to_owned(), which };
        let v1::GetRatesResponse { step, networks, .. } = self.service().get_rates(request).await?.into_inner();
        let networks = networks.into_iter().map(|network| {
            let (name, sha256, rates) = network_rates(network)?;
            Ok(NamedRates { name, sha256, rates })
        });
        Ok(StepRates { step, networks: networks.collect::<Result<_, Error>>()? })
    }

    /// A file of the coordinator's store; `None` if it has none.
    pub(crate) async fn file(&self, sha256: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = (&BlobKey::File(sha256.to_owned())).into();
        let limit = usize::try_from(picture::MAX_BYTES).unwrap_or(usize::MAX);
        self.blobs.clone().get_bytes(&key, limit).await.map_err(Error::Fetch)
    }

    /// What a model below the workers' model folder is. While no worker is there to look, `waiting` is told why, and
    /// the question is asked again.
    pub(crate) async fn describe_model(
        &self,
        path: &Path,
        vae: Option<&Path>,
        mut waiting: impl FnMut(&Error),
    ) -> Result<ModelDescription, Error> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let request = v1::DescribeModelRequest { path: text(path), vae: vae.map(text) };
        let give_up = tokio::time::Instant::now() + self.patience;
        loop {
            let error = match self.service().describe_model(request.clone()).await {
                Ok(response) => return Ok(response.into_inner().description.try_into()?),
                Err(status) => Error::from(status),
            };
            let delay = error.retry_after().unwrap_or(Duration::from_secs(1));
            if !error.is_passing() || tokio::time::Instant::now() + delay > give_up {
                return Err(error);
            }
            waiting(&error);
            tokio::time::sleep(delay).await;
        }
    }
}
