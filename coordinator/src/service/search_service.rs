//! `lorarates.v1.SearchService`: requests in, domain calls, responses out.

use super::status::{bad_field, invalid};
use super::{Handle, RatesAt, pages, watch};
use crate::search::Order;
use lora_rates_common::block::BLOCKS;
use lora_rates_common::convert::{CreateSearch, Describe, RatesOf, search_id, search_states};
use lora_rates_proto::MAX_MESSAGE;
use lora_rates_proto::v1::search_service_server::SearchService;
use lora_rates_proto::v1::{
    CancelSearchRequest, CancelSearchResponse, CreateSearchRequest, CreateSearchResponse, DeleteSearchRequest,
    DeleteSearchResponse, DescribeModelRequest, DescribeModelResponse, GetRatesRequest, GetRatesResponse,
    GetSearchRequest, GetSearchResponse, ListSearchesRequest, ListSearchesResponse, ListWorkersRequest,
    ListWorkersResponse, NetworkRates, PauseSearchRequest, PauseSearchResponse, ResumeSearchRequest,
    ResumeSearchResponse, Search, WatchSearchRequest, WatchSearchResponse, Worker,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Events that wait for a slow client before its stream waits too.
const UNREAD: usize = 16;
/// Bytes of a page of searches, beyond which it ends early: their rates can be many.
const PAGE_BYTES: usize = 4 << 20;

/// Bytes of a search at most: it must fit into a message to a worker too, with what that adds.
const MAX_REQUEST: usize = MAX_MESSAGE - (64 << 10);

/// Serves clients.
pub struct SearchApi {
    /// The service.
    pub handle: Handle,
}

impl SearchApi {
    async fn order(&self, id: String, order: Order) -> Result<Option<Search>, Status> {
        let id = search_id(id).map_err(invalid)?;
        Ok(Some((&self.handle.order(id, order).await?).into()))
    }
}

#[tonic::async_trait]
impl SearchService for SearchApi {
    type WatchSearchStream = ReceiverStream<Result<WatchSearchResponse, Status>>;

    async fn create_search(
        &self,
        request: Request<CreateSearchRequest>,
    ) -> Result<Response<CreateSearchResponse>, Status> {
        let request = request.into_inner();
        let size = request.encoded_len();
        if size > MAX_REQUEST {
            let message =
                format!("the search has {size} bytes; it must have at most {MAX_REQUEST}: use fewer pictures");
            return Err(bad_field("spec", &message));
        }
        let create = CreateSearch::try_from(request).map_err(invalid)?;
        let search = Some((&self.handle.create(create).await?).into());
        Ok(Response::new(CreateSearchResponse { search }))
    }

    async fn get_search(&self, request: Request<GetSearchRequest>) -> Result<Response<GetSearchResponse>, Status> {
        let id = search_id(request.into_inner().search_id).map_err(invalid)?;
        let search = Some((&self.handle.get(id).await?).into());
        Ok(Response::new(GetSearchResponse { search }))
    }

    async fn list_searches(
        &self,
        request: Request<ListSearchesRequest>,
    ) -> Result<Response<ListSearchesResponse>, Status> {
        let ListSearchesRequest { page_size, page_token, states } = request.into_inner();
        let states = search_states(states).map_err(invalid)?;
        let page = self.handle.list(pages::after(&page_token)?, states, pages::size(page_size)).await?;
        let mut response = ListSearchesResponse::default();
        let (mut bytes, mut last, mut more) = (0, 0, page.more);
        for (number, status) in &page.items {
            let search = Search::from(status);
            bytes += search.encoded_len();
            if bytes > PAGE_BYTES && last > 0 {
                more = true;
                break;
            }
            last = *number;
            response.searches.push(search);
        }
        if more {
            response.next_page_token = pages::token(last);
        }
        Ok(Response::new(response))
    }

    async fn watch_search(
        &self,
        request: Request<WatchSearchRequest>,
    ) -> Result<Response<Self::WatchSearchStream>, Status> {
        let WatchSearchRequest { search_id: id, after_step } = request.into_inner();
        let id = search_id(id).map_err(invalid)?;
        let watched = self.handle.watch(id.clone()).await?;
        let (client, events) = mpsc::channel(UNREAD);
        tokio::spawn(watch::run(self.handle.clone(), id, watched, after_step, client));
        Ok(Response::new(ReceiverStream::new(events)))
    }

    async fn pause_search(
        &self,
        request: Request<PauseSearchRequest>,
    ) -> Result<Response<PauseSearchResponse>, Status> {
        let search = self.order(request.into_inner().search_id, Order::Pause).await?;
        Ok(Response::new(PauseSearchResponse { search }))
    }

    async fn resume_search(
        &self,
        request: Request<ResumeSearchRequest>,
    ) -> Result<Response<ResumeSearchResponse>, Status> {
        let search = self.order(request.into_inner().search_id, Order::Resume).await?;
        Ok(Response::new(ResumeSearchResponse { search }))
    }

    async fn cancel_search(
        &self,
        request: Request<CancelSearchRequest>,
    ) -> Result<Response<CancelSearchResponse>, Status> {
        let search = self.order(request.into_inner().search_id, Order::Cancel).await?;
        Ok(Response::new(CancelSearchResponse { search }))
    }

    async fn delete_search(
        &self,
        request: Request<DeleteSearchRequest>,
    ) -> Result<Response<DeleteSearchResponse>, Status> {
        let id = search_id(request.into_inner().search_id).map_err(invalid)?;
        // On a task of its own: a client that leaves half-way must not leave blobs that nobody needs.
        let handle = self.handle.clone();
        let deleted = tokio::spawn(async move { handle.delete(id).await }).await;
        deleted.map_err(|_| super::Error::Stopped)??;
        Ok(Response::new(DeleteSearchResponse {}))
    }

    async fn get_rates(&self, request: Request<GetRatesRequest>) -> Result<Response<GetRatesResponse>, Status> {
        let GetRatesRequest { search_id: id, which } = request.into_inner();
        let id = search_id(id).map_err(invalid)?;
        let of = RatesOf::try_from(which).map_err(invalid)?;
        let RatesAt { step, rates, networks } = self.handle.rates(id.clone(), of).await?;
        let networks = networks.iter().zip(rates.chunks(BLOCKS)).map(|(network, rates)| NetworkRates {
            name: network.name.clone(),
            sha256: network.sha256.clone(),
            rates: rates.to_vec(),
        });
        Ok(Response::new(GetRatesResponse { search_id: id, step, networks: networks.collect() }))
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let ListWorkersRequest { page_size, page_token } = request.into_inner();
        let page = self.handle.workers(pages::after(&page_token)?, pages::size(page_size)).await?;
        let last = page.items.last().filter(|_| page.more).map(|worker| worker.worker_id);
        let workers = page.items.iter().map(Worker::from).collect();
        Ok(Response::new(ListWorkersResponse { workers, next_page_token: last.map(pages::token).unwrap_or_default() }))
    }

    async fn describe_model(
        &self,
        request: Request<DescribeModelRequest>,
    ) -> Result<Response<DescribeModelResponse>, Status> {
        let describe = Describe::try_from(request.into_inner()).map_err(invalid)?;
        let description = Some((&self.handle.describe(describe).await?).into());
        Ok(Response::new(DescribeModelResponse { description }))
    }
}
