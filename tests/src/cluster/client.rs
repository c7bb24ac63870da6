//! A client that only tests need: it panics when something is refused.

use super::watch::Watch;
use crate::connecting::to;
use crate::searches::Size;
use lora_rates_common::convert::{CreateSearch, SearchStatus, WorkerStatus};
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::MAX_MESSAGE;
use lora_rates_proto::connect::{self, Access, Connection};
use lora_rates_proto::transfer::Blobs;
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use lora_rates_proto::v1::{
    CancelSearchRequest, CreateSearchRequest, GetSearchRequest, ListWorkersRequest, PauseSearchRequest,
    ResumeSearchRequest,
};
use std::sync::Arc;
use tonic::Status;

/// Speaks to a coordinator as users do.
#[derive(Clone)]
pub struct Client {
    connection: Connection,
    /// The service itself.
    pub service: SearchServiceClient<Connection>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(url: &str) -> Self {
        Self::over(connect::connect(url, &Access::default()).await.expect("a coordinator"))
    }

    /// Over a connection that exists.
    #[must_use]
    pub fn over(connection: Connection) -> Self {
        let service = SearchServiceClient::new(connection.clone()).max_decoding_message_size(MAX_MESSAGE);
        Self { connection, service }
    }

    /// Uploads the files of a search.
    ///
    /// # Panics
    /// When one is refused.
    pub async fn upload(&self, size: &Size) {
        let mut blobs = Blobs::new(self.connection.clone());
        for (key, bytes) in size.files() {
            blobs.put_bytes(&(&key).into(), &bytes).await.expect("an upload");
        }
    }

    /// Uploads the files of a search, creates it and returns its identifier.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn create(&mut self, size: &Size) -> String {
        self.upload(size).await;
        let request = format!("request {}", size.seed);
        self.try_create(&request, size.spec()).await.expect("a search").search_id
    }

    /// Creates a search.
    ///
    /// # Errors
    /// When it is refused.
    ///
    /// # Panics
    /// When the answer makes no sense.
    pub async fn try_create(&mut self, request_id: &str, spec: SearchSpec) -> Result<SearchStatus, Status> {
        let create = CreateSearch { request_id: request_id.into(), spec: Arc::new(spec), name: "test".into() };
        let response = self.service.create_search(CreateSearchRequest::from(&create)).await?;
        Ok(response.into_inner().search.try_into().expect("a search"))
    }

    /// Where a search stands.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn get(&mut self, search_id: &str) -> SearchStatus {
        let request = GetSearchRequest { search_id: search_id.into() };
        self.service.get_search(request).await.expect("a search").into_inner().search.try_into().expect("a search")
    }

    /// Pauses a search.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn pause(&mut self, search_id: &str) {
        self.service.pause_search(PauseSearchRequest { search_id: search_id.into() }).await.expect("a pause");
    }

    /// Goes on with a search.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn resume(&mut self, search_id: &str) {
        self.service.resume_search(ResumeSearchRequest { search_id: search_id.into() }).await.expect("it goes on");
    }

    /// Ends a search.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn cancel(&mut self, search_id: &str) {
        self.service.cancel_search(CancelSearchRequest { search_id: search_id.into() }).await.expect("an end");
    }

    /// All workers.
    ///
    /// # Panics
    /// When they are refused.
    pub async fn workers(&mut self) -> Vec<WorkerStatus> {
        let mut workers = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListWorkersRequest { page_size: 0, page_token };
            let page = self.service.list_workers(request).await.expect("workers").into_inner();
            workers.extend(page.workers.into_iter().map(|worker| WorkerStatus::try_from(worker).expect("a worker")));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return workers;
            }
        }
    }
}

impl super::Cluster {
    /// Follows a search from its first step on, through all restarts of the coordinator.
    #[must_use]
    pub fn watch(&self, search_id: &str) -> Watch {
        Watch::start(to(&self.url), search_id)
    }
}
