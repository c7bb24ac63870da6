//! `lorarates.v1.SearchService`: requests in, domain calls, responses out.

use super::status::invalid;
use super::{Handle, watch};
use crate::search::Order;
use lora_rates_common::convert::{CreateSearch, search_id};
use lora_rates_proto::v1::search_service_server::SearchService;
use lora_rates_proto::v1::{
    CancelSearchRequest, CancelSearchResponse, CreateSearchRequest, CreateSearchResponse, GetSearchRequest,
    GetSearchResponse, PauseSearchRequest, PauseSearchResponse, ResumeSearchRequest, ResumeSearchResponse, Search,
    WatchSearchRequest, WatchSearchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Events that wait for a slow client before its stream waits too.
const UNREAD: usize = 16;

/// Serves clients.
pub(crate) struct SearchApi {
    pub(crate) handle: Handle,
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
        let create = CreateSearch::try_from(request.into_inner()).map_err(invalid)?;
        let search = Some((&self.handle.create(create).await?).into());
        Ok(Response::new(CreateSearchResponse { search }))
    }

    async fn get_search(&self, request: Request<GetSearchRequest>) -> Result<Response<GetSearchResponse>, Status> {
        let id = search_id(request.into_inner().search_id).map_err(invalid)?;
        let search = Some((&self.handle.get(id).await?).into());
        Ok(Response::new(GetSearchResponse { search }))
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

    async fn list_searches(
        &self,
        _: Request<lora_rates_proto::v1::ListSearchesRequest>,
    ) -> Result<Response<lora_rates_proto::v1::ListSearchesResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn delete_search(
        &self,
        _: Request<lora_rates_proto::v1::DeleteSearchRequest>,
    ) -> Result<Response<lora_rates_proto::v1::DeleteSearchResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn get_rates(
        &self,
        _: Request<lora_rates_proto::v1::GetRatesRequest>,
    ) -> Result<Response<lora_rates_proto::v1::GetRatesResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn list_workers(
        &self,
        _: Request<lora_rates_proto::v1::ListWorkersRequest>,
    ) -> Result<Response<lora_rates_proto::v1::ListWorkersResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn describe_model(
        &self,
        _: Request<lora_rates_proto::v1::DescribeModelRequest>,
    ) -> Result<Response<lora_rates_proto::v1::DescribeModelResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }
}
