//! The coordinator as seen from here: requests in domain types.

use anyhow::Context as _;
use lora_rates_common::convert::{SearchEvent, SearchStatus};
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use lora_rates_proto::{MAX_MESSAGE, v1};
use tonic::Streaming;
use tonic::transport::Channel;

/// Speaks to a coordinator.
#[derive(Clone, Debug)]
pub(super) struct Client {
    service: SearchServiceClient<Channel>,
}

impl Client {
    /// Over this connection.
    pub(super) fn new(channel: Channel) -> Self {
        let service = SearchServiceClient::new(channel);
        Self { service: service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE) }
    }

    /// Makes this search, or finds it if it was made before.
    ///
    /// # Errors
    /// The coordinator refuses it or can't be reached.
    pub(super) async fn create(&mut self, spec: &SearchSpec) -> anyhow::Result<SearchStatus> {
        let request =
            v1::CreateSearchRequest { request_id: spec.fingerprint(), spec: Some(spec.into()), name: String::new() };
        let response = self.service.create_search(request).await.map_err(said)?.into_inner();
        SearchStatus::try_from(response.search).context("the coordinator's answer makes no sense")
    }

    /// Goes on with a search that was paused.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(super) async fn resume(&mut self, search_id: &str) -> anyhow::Result<()> {
        let request = v1::ResumeSearchRequest { search_id: search_id.to_owned() };
        self.service.resume_search(request).await.map_err(said)?;
        Ok(())
    }

    /// Stops a search after what is committed.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(super) async fn pause(&mut self, search_id: &str) -> anyhow::Result<()> {
        let request = v1::PauseSearchRequest { search_id: search_id.to_owned() };
        self.service.pause_search(request).await.map_err(said)?;
        Ok(())
    }

    /// Everything that happens in a search, all past steps first, until it ends or pauses.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(super) async fn watch(&mut self, search_id: &str) -> anyhow::Result<Events> {
        let request = v1::WatchSearchRequest { search_id: search_id.to_owned(), after_step: 0 };
        Ok(Events(self.service.watch_search(request).await.map_err(said)?.into_inner()))
    }
}

/// What happens in a search.
#[derive(Debug)]
pub(super) struct Events(Streaming<v1::WatchSearchResponse>);

impl Events {
    /// The next event; `None` when there will be none any more.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<SearchEvent>> {
        let Some(response) = self.0.message().await.map_err(said)? else { return Ok(None) };
        Ok(Some(SearchEvent::try_from(response).context("the coordinator's message makes no sense")?))
    }
}

/// What a coordinator said, without the protocol around it.
fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the coordinator: {}", status.message())
}
