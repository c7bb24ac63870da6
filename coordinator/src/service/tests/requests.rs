use super::fake::{Running, Worker, refused, start};
use super::{in_folder, pause};
use crate::Options;
use crate::testing::{spec, trajectory, validated};
use lora_rates_common::convert::SearchState;
use lora_rates_proto::v1::{
    CancelSearchRequest, DeleteSearchRequest, GetRatesRequest, GetRatesResponse, GetSearchRequest, ListSearchesRequest,
    ListSearchesResponse, PauseSearchRequest, get_rates_request::Which,
};
use prost::Message as _;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn list(running: &mut Running, request: ListSearchesRequest) -> ListSearchesResponse {
    running.client.list_searches(request).await.unwrap().into_inner()
}

async fn rates(running: &mut Running, id: &str, which: Option<Which>) -> Result<GetRatesResponse, Status> {
    Ok(running.client.get_rates(GetRatesRequest { search_id: id.into(), which }).await?.into_inner())
}

#[tokio::test]
async fn searches_are_listed_in_pages_in_the_order_of_their_creation() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(in_folder(folder.path())).await;
    let mut ids = Vec::new();
    for request_id in ["a", "b", "c", "d", "e"] {
        ids.push(running.create(request_id, &spec()).await);
    }
    pause(&mut running, &ids[1]).await;
    for _ in 0..2 {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = list(&mut running, ListSearchesRequest { page_size: 2, page_token, states: vec![] }).await;
            assert!(page.searches.len() <= 2);
            found.extend(page.searches.into_iter().map(|search| search.search_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, ids);
        let paused = vec![lora_rates_proto::v1::SearchState::Paused.into()];
        let page = list(&mut running, ListSearchesRequest { states: paused, ..Default::default() }).await;
        assert_eq!((page.searches.len(), &page.searches[0].search_id), (1, &ids[1]));
        running.stop().await;
        running = start(in_folder(folder.path())).await;
    }
    let unknown = ListSearchesRequest { page_token: "later".into(), ..Default::default() };
    refused(running.client.list_searches(unknown).await, Code::InvalidArgument, "page_token");
    let unknown = ListSearchesRequest { states: vec![99], ..Default::default() };
    refused(running.client.list_searches(unknown).await, Code::InvalidArgument, "states[0] is 99");
}

#[tokio::test]
async fn a_search_keeps_its_name_and_networks_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(in_folder(folder.path())).await;
    let id = running.create_named("r", "cats", &validated()).await;
    let _worker = running.work(Worker::default());
    let status = running.watch(&id, 0).await.rest().await.1;
    assert_eq!((status.name.as_str(), status.networks.as_slice()), ("cats", &["first".into(), "second".into()][..]));
    assert!(status.created_ms > 1_700_000_000_000 && status.best.is_some());
    let before = running.get(&id).await;
    running.stop().await;
    let mut running = start(in_folder(folder.path())).await;
    assert_eq!(running.get(&id).await, before);
}

#[tokio::test]
async fn rates_of_any_step_and_the_best_ones_are_had() {
    let mut running = start(Options::default()).await;
    let (plain, with) = (running.create("r", &spec()).await, running.create("s", &validated()).await);
    let _workers = [running.work(Worker::default()), running.work(Worker::default())];
    for id in [&plain, &with] {
        running.watch(id, 0).await.rest().await;
    }
    let expected = trajectory(&spec());
    for (which, step) in [(None, 14), (Some(Which::Step(14)), 14), (Some(Which::Step(3)), 3)] {
        let found = rates(&mut running, &plain, which).await.unwrap();
        assert_eq!((found.step, found.search_id.as_str()), (step, plain.as_str()));
        assert_eq!((found.networks[1].name.as_str(), found.networks[1].sha256.len()), ("second", 64));
        let all: Vec<f64> = found.networks.iter().flat_map(|network| network.rates.clone()).collect();
        assert_eq!(all, expected[step as usize - 1].rates);
    }
    let initial = rates(&mut running, &plain, Some(Which::Step(0))).await.unwrap();
    assert_eq!(initial.networks[0].rates[..2], [0.0, 0.5]);
    refused(rates(&mut running, &plain, Some(Which::Step(15))).await, Code::OutOfRange, "14 steps, and not 15");
    refused(rates(&mut running, &plain, Some(Which::Best(true))).await, Code::FailedPrecondition, "not evaluated");
    let best = rates(&mut running, &with, Some(Which::Best(true))).await.unwrap();
    assert_eq!(best.step, running.get(&with).await.best.unwrap().step);
}

#[tokio::test]
async fn a_deleted_search_is_forgotten_and_a_running_one_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(in_folder(folder.path())).await;
    let id = running.create("r", &spec()).await;
    let delete = || DeleteSearchRequest { search_id: id.clone() };
    let mut watcher = running.watch(&id, 0).await;
    refused(running.client.delete_search(delete()).await, Code::FailedPrecondition, "preparing; cancel or pause");
    running.client.cancel_search(CancelSearchRequest { search_id: id.clone() }).await.unwrap();
    while watcher.next().await.is_some() {}
    running.client.delete_search(delete()).await.unwrap();
    refused(running.client.delete_search(delete()).await, Code::NotFound, &id);
    let get = GetSearchRequest { search_id: id.clone() };
    refused(running.client.get_search(get.clone()).await, Code::NotFound, &id);
    running.stop().await;
    let mut running = start(in_folder(folder.path())).await;
    refused(running.client.get_search(get).await, Code::NotFound, &id);
    // The request may be made anew, with something else.
    let mut other = spec();
    other.options.seed = 9;
    assert_eq!(running.create("r", &other).await, id);
}

#[tokio::test]
async fn a_request_made_twice_at_once_creates_one_search() {
    let mut running = start(Options::default()).await;
    let create = |request_id: &'static str| {
        let handle = running.handle.clone();
        async move { handle.create(super::fake::wish(request_id, &spec())).await.unwrap().search_id }
    };
    let ids = tokio::join!(create("r"), create("r"), create("s"), create("r"));
    assert!(ids.0 == ids.1 && ids.0 == ids.3 && ids.0 != ids.2, "{ids:?}");
    assert_eq!(list(&mut running, ListSearchesRequest::default()).await.searches.len(), 2);
}

#[tokio::test]
async fn there_are_only_so_many_searches_that_are_not_over() {
    let mut running = start(Options { max_searches: 1, ..Options::default() }).await;
    let id = running.create("r", &spec()).await;
    assert_eq!(running.create("r", &spec()).await, id, "it is there already");
    let status = running.try_create("s", &spec()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_details_error_info().unwrap().reason, "TOO_MANY_SEARCHES");
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(1));
    running.client.cancel_search(CancelSearchRequest { search_id: id }).await.unwrap();
    running.create("s", &spec()).await;
}

#[tokio::test]
async fn a_search_that_would_fit_into_no_message_to_a_worker_is_refused() {
    let running = start(Options::default()).await;
    let mut large = spec();
    let caption = "cat ".repeat(16_000);
    large.images = (0..1040).map(|_| large.images[0].clone()).collect();
    large.images.iter_mut().for_each(|image| image.caption.clone_from(&caption));
    let mut request = lora_rates_proto::v1::CreateSearchRequest::from(&super::fake::wish("r", &large));
    let missing = (64 << 20) - 1000 - request.encoded_len();
    request.spec.as_mut().unwrap().images[0].path = "x".repeat(missing);
    let mut client = running.client.max_encoding_message_size(usize::MAX);
    refused(client.create_search(request).await, Code::InvalidArgument, "use fewer pictures");
}

#[tokio::test]
async fn errors_say_what_programs_need_to_know() {
    let mut running = start(Options::default()).await;
    let reason = |status: &Status| {
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.domain, "lora-rates");
        info.reason
    };
    let mut bad = spec();
    bad.options.train_batch_size = 0;
    let status = running.try_create("r", &bad).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "spec.options.train_batch_size");

    let nobody = GetSearchRequest { search_id: "nobody".into() };
    assert_eq!(reason(&running.client.get_search(nobody).await.unwrap_err()), "SEARCH_NOT_FOUND");
    let id = running.create("r", &spec()).await;
    let mut other = spec();
    other.options.seed = 9;
    assert_eq!(reason(&running.try_create("r", &other).await.unwrap_err()), "REQUEST_ID_TAKEN");
    running.client.cancel_search(CancelSearchRequest { search_id: id.clone() }).await.unwrap();
    let status = running.client.pause_search(PauseSearchRequest { search_id: id }).await.unwrap_err();
    assert_eq!(reason(&status), "SEARCH_STATE");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].r#type, "STATE");
    let describe = lora_rates_proto::v1::DescribeModelRequest { path: "tiny".into(), vae: None };
    let status = running.client.describe_model(describe).await.unwrap_err();
    assert_eq!(reason(&status), "NO_WORKER");
    assert!(status.get_details_retry_info().is_some());
}

#[tokio::test]
async fn a_slow_disk_holds_up_nobody_who_does_not_need_it() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    running.handle.store.submit(move |_| Ok(wait.recv().is_ok()), drop);
    let worker = Worker::default();
    let diary = worker.diary.clone();
    let _worker = running.work(worker);
    while diary.lock().unwrap().steps.is_empty() {
        assert_eq!(running.get(&id).await.step, 0);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(go_on);
    assert_eq!(running.watch(&id, 0).await.rest().await.1.state, SearchState::Finished);
}
