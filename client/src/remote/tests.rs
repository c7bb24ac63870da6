//! The client against a coordinator that is made up.

use super::*;
use lora_rates_common::convert::SearchEvent;
use lora_rates_proto::connect::plain;
use lora_rates_proto::v1::search_service_server::{SearchService, SearchServiceServer};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio_stream::Stream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

type Events = Vec<Result<v1::WatchSearchResponse, Status>>;

/// Answers as it was told to.
#[derive(Clone, Default)]
struct Fake {
    searches: Vec<v1::Search>,
    /// What every stream tells before it ends, and after which step it was asked to begin.
    streams: Arc<Mutex<VecDeque<Events>>>,
    asked: Arc<Mutex<Vec<u64>>>,
    /// Refusals before the model is described.
    busy: Arc<Mutex<u32>>,
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not made up"))
}

#[tonic::async_trait]
impl SearchService for Fake {
    type WatchSearchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchSearchResponse, Status>> + Send>>;

    async fn watch_search(
        &self,
        request: Request<v1::WatchSearchRequest>,
    ) -> Result<Response<Self::WatchSearchStream>, Status> {
        self.asked.lock().unwrap().push(request.into_inner().after_step);
        let next = self.streams.lock().unwrap().pop_front();
        let events = next.ok_or_else(|| Status::not_found("it is forgotten"))?;
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }

    async fn get_search(
        &self,
        request: Request<v1::GetSearchRequest>,
    ) -> Result<Response<v1::GetSearchResponse>, Status> {
        let id = request.into_inner().search_id;
        let found = self.searches.iter().find(|search| search.search_id == id).cloned();
        let search = Some(found.ok_or_else(|| Status::not_found("no such search"))?);
        Ok(Response::new(v1::GetSearchResponse { search }))
    }

    /// Two on a page.
    async fn list_searches(
        &self,
        request: Request<v1::ListSearchesRequest>,
    ) -> Result<Response<v1::ListSearchesResponse>, Status> {
        let start: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let searches = self.searches.iter().skip(start).take(2).cloned().collect();
        let next = start + 2;
        let next_page_token = if next < self.searches.len() { next.to_string() } else { String::new() };
        Ok(Response::new(v1::ListSearchesResponse { searches, next_page_token }))
    }

    async fn describe_model(
        &self,
        _: Request<v1::DescribeModelRequest>,
    ) -> Result<Response<v1::DescribeModelResponse>, Status> {
        let mut busy = self.busy.lock().unwrap();
        if *busy == 0 {
            return Err(Status::not_found("there is no such model"));
        }
        *busy -= 1;
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
        Err(Status::with_error_details(tonic::Code::Unavailable, "no worker is there", details))
    }

    async fn create_search(
        &self,
        _: Request<v1::CreateSearchRequest>,
    ) -> Result<Response<v1::CreateSearchResponse>, Status> {
        unimplemented()
    }
    async fn pause_search(
        &self,
        _: Request<v1::PauseSearchRequest>,
    ) -> Result<Response<v1::PauseSearchResponse>, Status> {
        unimplemented()
    }
    async fn resume_search(
        &self,
        _: Request<v1::ResumeSearchRequest>,
    ) -> Result<Response<v1::ResumeSearchResponse>, Status> {
        unimplemented()
    }
    async fn cancel_search(
        &self,
        _: Request<v1::CancelSearchRequest>,
    ) -> Result<Response<v1::CancelSearchResponse>, Status> {
        unimplemented()
    }
    async fn delete_search(
        &self,
        _: Request<v1::DeleteSearchRequest>,
    ) -> Result<Response<v1::DeleteSearchResponse>, Status> {
        unimplemented()
    }
    async fn get_rates(&self, _: Request<v1::GetRatesRequest>) -> Result<Response<v1::GetRatesResponse>, Status> {
        unimplemented()
    }
    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        unimplemented()
    }
}

impl Fake {
    async fn serve(&self) -> Remote {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = Server::builder().add_service(SearchServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        Remote::over(plain(channel), Duration::from_secs(5))
    }
}

fn search(id: &str, state: SearchState) -> v1::Search {
    v1::Search {
        search_id: id.to_owned(),
        state: v1::SearchState::from(state).into(),
        max_train_steps: 10,
        rates: vec![0.5; 20],
        ..v1::Search::default()
    }
}

fn status(state: SearchState) -> Result<v1::WatchSearchResponse, Status> {
    let event = v1::watch_search_response::Event::Search(search("abc", state));
    Ok(v1::WatchSearchResponse { event: Some(event) })
}

fn step(step: u64) -> Result<v1::WatchSearchResponse, Status> {
    let record = v1::StepRecord { step, rates: vec![0.5; 20], samples: 1, ..v1::StepRecord::default() };
    Ok(v1::WatchSearchResponse { event: Some(v1::watch_search_response::Event::Step(record)) })
}

fn validation(step: u64) -> Result<v1::WatchSearchResponse, Status> {
    let validation = v1::Validation { step, rates: vec![0.5; 20], ..v1::Validation::default() };
    Ok(v1::WatchSearchResponse { event: Some(v1::watch_search_response::Event::Validation(validation)) })
}

/// Everything that is seen until the end: steps by number, states by name, and what becomes of the connection.
async fn seen(remote: &Remote) -> (Vec<String>, Option<Error>) {
    let (mut watch, mut all) = (remote.watch("abc", 0), Vec::new());
    loop {
        all.push(match watch.next().await {
            Ok(None) => return (all, None),
            Err(error) => return (all, Some(error)),
            Ok(Some(Seen::Event(SearchEvent::Step(record)))) => record.step.to_string(),
            Ok(Some(Seen::Event(SearchEvent::Status(status)))) => status.state.to_string(),
            Ok(Some(Seen::Event(SearchEvent::Validation(it)))) => format!("evaluation {}", it.step),
            Ok(Some(Seen::Event(event))) => format!("{event:?}"),
            Ok(Some(Seen::Lost(_))) => "lost".to_owned(),
            Ok(Some(Seen::Back)) => "back".to_owned(),
        });
    }
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_after_the_last_step_and_no_step_comes_twice() {
    let running = || status(SearchState::Running);
    let streams = [
        vec![running(), validation(0), step(1), step(2), validation(2), Err(Status::unavailable("gone"))],
        // One that ends in order while the search runs: a coordinator that stops.
        vec![running(), step(2), validation(2), step(3)],
        vec![running(), step(4), status(SearchState::Finished)],
    ];
    let fake = Fake { streams: Arc::new(Mutex::new(streams.into())), ..Fake::default() };
    let (all, error) = seen(&fake.serve().await).await;
    assert!(error.is_none());
    let expected = "running|evaluation 0|1|2|evaluation 2|lost|back|running|3|lost|back|running|4|finished";
    assert_eq!(all.join("|"), expected);
    assert_eq!(*fake.asked.lock().unwrap(), [0, 2, 3]);
}

#[tokio::test]
async fn what_no_patience_mends_ends_the_watching() {
    let streams = [vec![status(SearchState::Running), Err(Status::unavailable("gone"))]];
    let fake = Fake { streams: Arc::new(Mutex::new(streams.into())), ..Fake::default() };
    let (all, error) = seen(&fake.serve().await).await;
    assert_eq!(all, ["running", "lost"]);
    assert!(error.unwrap().to_string().contains("it is forgotten"));

    let streams = [vec![Err(Status::unavailable("gone"))]];
    let fake = Fake { streams: Arc::new(Mutex::new(streams.into())), ..Fake::default() };
    let mut remote = fake.serve().await;
    remote.patience = Duration::ZERO;
    let (all, error) = seen(&remote).await;
    assert!(all.is_empty() && error.unwrap().to_string().contains("gone"));
}

#[tokio::test]
async fn a_search_at_rest_is_told_and_left() {
    for state in [SearchState::Paused, SearchState::Failed, SearchState::Cancelled, SearchState::Finished] {
        let streams = [vec![status(state), step(1)]];
        let fake = Fake { streams: Arc::new(Mutex::new(streams.into())), ..Fake::default() };
        let (all, error) = seen(&fake.serve().await).await;
        assert_eq!(all, [state.to_string(), "1".to_owned()]);
        assert!(error.is_none());
    }
}

#[tokio::test]
async fn pages_are_joined_and_ids_found_by_their_beginning() {
    let ids = ["aa1", "aa2", "b1", "b22", "b2"];
    let searches = ids.map(|id| search(id, SearchState::Running)).to_vec();
    let remote = Fake { searches, ..Fake::default() }.serve().await;
    let listed: Vec<String> = remote.list(&[]).await.unwrap().into_iter().map(|search| search.search_id).collect();
    assert_eq!(listed, ids);
    assert_eq!(remote.find("aa2").await.unwrap().search_id, "aa2");
    // All of an id wins over the beginning of another.
    assert_eq!(remote.find("b2").await.unwrap().search_id, "b2");
    assert_eq!(remote.find("b22").await.unwrap().search_id, "b22");
    assert!(matches!(remote.find("a").await, Err(Error::Ambiguous { .. })));
    assert!(matches!(remote.find("c").await, Err(Error::Unknown(_))));
    assert!(matches!(remote.find("").await, Err(Error::Unknown(_))));
}

#[tokio::test]
async fn a_model_is_asked_for_until_a_worker_is_there() {
    let fake = Fake { busy: Arc::new(Mutex::new(3)), ..Fake::default() };
    let remote = fake.serve().await;
    let mut waited = Vec::new();
    let error = remote.describe_model(Path::new("m"), None, |why| waited.push(why.to_string())).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(waited.len(), 3);
    assert!(waited[0].contains("no worker is there"));
}
