//! Bytes as messages of the network: whatever they are, the one gate (`convert`) takes or refuses them without a panic,
//! and what it takes it takes again after a way through the protocol.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lora_rates_common::convert::{
    self, CreateSearch, Describe, Described, Drawn, Encoded, Evaluated, Failed, Gradient, Hello, ModelDescription, Prepare,
    Progress, Rates, RatesOf, SearchEvent, SearchStatus, WorkerStatus,
};
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::v1::{self, join_request, join_response};
use prost::Message;
use std::fmt::Debug;
use std::path::{Component, Path};
use std::sync::OnceLock;

/// Samples of an epoch, above which a search is not planned here: that is slow by its nature, and limited elsewhere.
const PLANNED: u64 = 10_000;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 8 {
        0 | 1 => create_search(bytes),
        2 => from_worker(bytes),
        3 => from_coordinator(bytes),
        4 => watched(bytes),
        5 => small_requests(bytes),
        6 => statuses(bytes),
        _ => texts(bytes),
    }
});

/// Compares in the protocol's bytes: NaN equals itself there.
fn same<M: Message + Debug>(first: &M, second: &M) {
    assert_eq!(first.encode_to_vec(), second.encode_to_vec(), "{first:?}\n{second:?}");
}

fn create_search(bytes: &[u8]) {
    let Ok(request) = v1::CreateSearchRequest::decode(bytes) else { return };
    let create = match CreateSearch::try_from(request) {
        Ok(create) => create,
        Err(error) => return assert!(!error.field().is_empty() && !error.to_string().is_empty()),
    };
    let message = v1::CreateSearchRequest::from(&create);
    let again = CreateSearch::try_from(message.clone()).expect("what was taken is taken again");
    same(&message, &v1::CreateSearchRequest::from(&again));
    use_spec(&create.spec);
}

/// What a coordinator does with a search that it has taken.
fn use_spec(spec: &SearchSpec) {
    let live = spec.live();
    assert_eq!(live.len(), spec.initial_rates().len());
    assert_eq!(spec.fingerprint().len(), 64);
    for (image, flip) in spec.encodings() {
        assert!(spec.encoding_key(image, flip).is_some());
    }
    let samples: u64 = spec.images.iter().map(|image| u64::from(image.repeats)).sum();
    if samples > PLANNED {
        return;
    }
    let plan = spec.plan().expect("a search that was taken can be planned");
    let schedule = spec.schedule().expect("and has learning rates");
    for step in [0, 1, spec.options.max_train_steps.saturating_sub(1)] {
        assert!(!plan.step(step).is_empty());
        assert!(schedule.rate(step).is_finite());
    }
    if let Some(validation) = spec.validation() {
        assert!(validation.samples() > 0);
    }
}

fn from_worker(bytes: &[u8]) {
    use join_request::Message as Said;
    let Ok(v1::JoinRequest { message: Some(message) }) = v1::JoinRequest::decode(bytes) else { return };
    match message {
        Said::Hello(it) => drop(Hello::try_from(it).map(|it| v1::Hello::from(&it))),
        Said::Progress(it) => drop(Progress::try_from(it).map(|it| v1::Progress::from(&it))),
        Said::Ready(it) => drop(convert::search_id(it.search_id)),
        Said::Gradient(it) => drop(Gradient::try_from(it).map(v1::Gradient::from)),
        Said::Failed(it) => drop(Failed::try_from(it).map(v1::Failed::from)),
        Said::Heartbeat(it) => drop(v1::Heartbeat::from(&convert::Heartbeat::from(it))),
        Said::Encoded(it) => drop(Encoded::try_from(it).map(v1::Encoded::from)),
        Said::Evaluated(it) => drop(Evaluated::try_from(it).map(v1::Evaluated::from)),
        Said::Drawn(it) => drop(Drawn::try_from(it).map(v1::Drawn::from)),
        Said::Described(it) => drop(Described::try_from(it).map(|it| v1::Described::from(&it))),
        Said::Leaving(_) => {}
    }
}

/// A search that leases can refer to.
fn known() -> &'static SearchSpec {
    static KNOWN: OnceLock<SearchSpec> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let bytes = include_bytes!("../seeds/create_search.bin");
        let request = v1::CreateSearchRequest::decode(&bytes[..]).expect("a request");
        CreateSearch::try_from(request).expect("a search").spec.as_ref().clone()
    })
}

fn from_coordinator(bytes: &[u8]) {
    use join_response::Message as Told;
    let Ok(v1::JoinResponse { message: Some(message) }) = v1::JoinResponse::decode(bytes) else { return };
    match message {
        Told::Prepare(it) => drop(Prepare::try_from(it).map(|it| use_spec(&it.spec))),
        Told::Rates(it) => drop(Rates::try_from(it).map(v1::Rates::from)),
        Told::Lease(it) => drop(convert::lease(it, known()).map(|it| v1::Lease::from(&it))),
        Told::Release(it) => drop(convert::search_id(it.search_id)),
        Told::Encode(it) => drop(convert::encode(it, known()).map(v1::Encode::from)),
        Told::Evaluate(it) => drop(convert::evaluate(it, known()).map(|it| v1::Evaluate::from(&it))),
        Told::Draw(it) => drop(convert::draw(it, known()).map(v1::Draw::from)),
        Told::Describe(it) => drop(Describe::try_from(it).map(|it| v1::Describe::from(&it))),
    }
}

fn watched(bytes: &[u8]) {
    let Ok(response) = v1::WatchSearchResponse::decode(bytes) else { return };
    if let Ok(event) = SearchEvent::try_from(response) {
        let message = v1::WatchSearchResponse::from(&event);
        let again = SearchEvent::try_from(message.clone()).expect("what was taken is taken again");
        same(&message, &v1::WatchSearchResponse::from(&again));
    }
}

fn small_requests(bytes: &[u8]) {
    if let Ok(request) = v1::GetRatesRequest::decode(bytes) {
        drop((convert::search_id(request.search_id), RatesOf::try_from(request.which)));
    }
    if let Ok(request) = v1::ListSearchesRequest::decode(bytes) {
        drop(convert::search_states(request.states));
    }
    if let Ok(request) = v1::GetBlobRequest::decode(bytes)
        && let Ok(key) = convert::blob_key(request.blob)
    {
        assert_eq!(convert::blob_key(Some((&key).into())).expect("what was taken is taken again"), key);
    }
    if let Ok(request) = v1::DescribeModelRequest::decode(bytes)
        && let Ok(describe) = Describe::try_from(request)
    {
        stays_inside(&describe.path);
    }
}

/// A path that is taken names something below the folder that it is joined to.
fn stays_inside(path: &Path) {
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?} leaves the folder");
}

fn statuses(bytes: &[u8]) {
    if let Ok(search) = v1::Search::decode(bytes) {
        drop(SearchStatus::try_from(search).map(|it| v1::Search::from(&it)));
    }
    if let Ok(worker) = v1::Worker::decode(bytes) {
        drop(WorkerStatus::try_from(worker).map(|it| v1::Worker::from(&it)));
    }
    if let Ok(rates) = v1::NetworkRates::decode(bytes) {
        drop(convert::network_rates(rates));
    }
}

fn texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(path) = convert::model_path("path", text.clone()) {
        stays_inside(&path);
    }
    let description = v1::ModelDescription { digest: "1b".repeat(32), config_json: text };
    drop(ModelDescription::try_from(description));
}
