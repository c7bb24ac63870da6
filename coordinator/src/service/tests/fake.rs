//! A coordinator on the loopback, with clients and with workers that are no models.

use crate::service::Handle;
use crate::testing::{compute, drawn, evaluate};
use crate::{Coordinator, Error, Options};
use lora_rates_common::convert::{
    self, CreateSearch, Hello, Memory, ModelDescription, Prepare, Rates, SearchEvent, SearchStatus, StepRecord,
};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::v1;
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use lora_rates_proto::v1::worker_service_client::WorkerServiceClient;
use lora_rates_proto::v1::{
    CreateSearchRequest, Describe, Described, Encode, Encoded, Failed, GetSearchRequest, Heartbeat, JoinRequest,
    JoinResponse, Leaving, Ready, WatchSearchRequest, WatchSearchResponse, join_request, join_response,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// After which a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Running {
    pub(super) address: String,
    pub(super) client: SearchServiceClient<Channel>,
    pub(super) handle: Handle,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Error>>,
}

/// Starts a coordinator.
pub(super) async fn start(options: Options) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel();
    let coordinator = Coordinator::open(options).unwrap();
    let handle = coordinator.handle();
    let serving = tokio::spawn(coordinator.serve(listener, async { drop(stopped.await) }));
    let client = SearchServiceClient::connect(address.clone()).await.unwrap();
    Running { address, client, handle, stop, serving }
}

impl Running {
    /// Stops the coordinator, with whatever is connected to it.
    pub(super) async fn stop(self) {
        drop(self.stop);
        let served = tokio::time::timeout(Duration::from_secs(3), self.serving).await;
        served.expect("open streams are ended, not waited for").unwrap().unwrap();
    }

    /// Creates a search and returns its identifier.
    pub(super) async fn create(&mut self, request_id: &str, spec: &SearchSpec) -> String {
        self.try_create(request_id, spec).await.unwrap().search_id
    }

    pub(super) async fn create_named(&mut self, request_id: &str, name: &str, spec: &SearchSpec) -> String {
        let create = CreateSearch { name: name.into(), ..wish(request_id, spec) };
        let response = self.client.create_search(CreateSearchRequest::from(&create)).await.unwrap();
        response.into_inner().search.unwrap().search_id
    }

    /// Waits until this is so of the workers that are connected.
    pub(super) async fn until_workers(&mut self, so: impl Fn(&[v1::Worker]) -> bool) {
        for _ in 0..1000 {
            let request = v1::ListWorkersRequest::default();
            if so(&self.client.list_workers(request).await.unwrap().into_inner().workers) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the workers never get so");
    }

    pub(super) async fn try_create(&mut self, request_id: &str, spec: &SearchSpec) -> Result<SearchStatus, Status> {
        let response = self.client.create_search(CreateSearchRequest::from(&wish(request_id, spec))).await?;
        Ok(response.into_inner().search.try_into().unwrap())
    }

    pub(super) async fn get(&mut self, search_id: &str) -> SearchStatus {
        let request = GetSearchRequest { search_id: search_id.into() };
        self.client.get_search(request).await.unwrap().into_inner().search.try_into().unwrap()
    }

    pub(super) async fn watch(&mut self, search_id: &str, after_step: u64) -> Watcher {
        let request = WatchSearchRequest { search_id: search_id.into(), after_step };
        Watcher(self.client.watch_search(request).await.unwrap().into_inner())
    }

    pub(super) fn work(&self, worker: Worker) -> JoinHandle<Result<(), Status>> {
        tokio::spawn(worker.run(self.address.clone()))
    }
}

pub(super) fn wish(request_id: &str, spec: &SearchSpec) -> CreateSearch {
    CreateSearch { request_id: request_id.into(), spec: Arc::new(spec.clone()), name: String::new() }
}

pub(super) struct Watcher(Streaming<WatchSearchResponse>);

impl Watcher {
    pub(super) async fn next(&mut self) -> Option<SearchEvent> {
        let event = tokio::time::timeout(PATIENCE, self.0.message()).await.expect("something happens");
        event.unwrap().map(|event| event.try_into().unwrap())
    }

    /// All steps to the end of the stream, and the last status.
    pub(super) async fn rest(mut self) -> (Vec<StepRecord>, SearchStatus) {
        let (mut steps, mut last) = (Vec::new(), None);
        while let Some(event) = self.next().await {
            match event {
                SearchEvent::Step(record) => steps.push((*record).clone()),
                SearchEvent::Status(status) => last = Some(status),
                SearchEvent::Progress(_) | SearchEvent::Validation(_) | SearchEvent::SamplePicture(_) => {}
            }
        }
        (steps, last.expect("the state is told first of all"))
    }

    /// Waits until the search waits for a worker.
    pub(super) async fn until_waiting(&mut self) {
        loop {
            match self.next().await.expect("the search goes on") {
                SearchEvent::Progress(progress) if progress.activity == "waiting for a worker" => return,
                _ => {}
            }
        }
    }

    /// Waits for this step.
    pub(super) async fn until_step(&mut self, step: u64) {
        loop {
            match self.next().await.expect("the search goes on") {
                SearchEvent::Step(record) if record.step >= step => return,
                _ => {}
            }
        }
    }
}

/// A worker that answers with [`compute`].
#[derive(Clone, Default)]
pub(super) struct Worker {
    /// Its name, if not "fake".
    pub(super) name: Option<&'static str>,
    /// Vanishes instead of answering the lease after so many.
    pub(super) dies_after: Option<usize>,
    /// Says nothing once it has been leased something.
    pub(super) falls_silent: bool,
    /// Can't prepare, for this reason.
    pub(super) fails: Option<&'static str>,
    /// Takes so long for a microbatch.
    pub(super) takes: Duration,
    /// Answers with what is no number.
    pub(super) spoils: bool,
    /// Leaves instead of answering the lease after so many.
    pub(super) leaves_after: Option<usize>,
    /// The steps of its leases, searches that it has prepared, and pictures that it has encoded.
    pub(super) diary: Arc<Mutex<Diary>>,
}

#[derive(Debug, Default)]
pub(super) struct Diary {
    pub(super) prepared: Vec<String>,
    pub(super) released: Vec<String>,
    pub(super) steps: Vec<u64>,
    pub(super) encoded: Vec<(u32, bool)>,
}

impl Worker {
    pub(super) fn named(name: &'static str) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    fn note(&self, note: impl FnOnce(&mut Diary)) {
        note(&mut self.diary.lock().unwrap());
    }
}

type Outbound = mpsc::Sender<JoinRequest>;

impl Worker {
    /// Works until the coordinator ends the stream, whose status it returns.
    async fn run(self, address: String) -> Result<(), Status> {
        let mut client =
            WorkerServiceClient::connect(address).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (out, requests) = mpsc::channel(64);
        let memory = Some(Memory { total: 9, free: 4 });
        let hello = Hello { name: self.name.unwrap_or("fake").into(), device: "none".into(), memory };
        say(&out, join_request::Message::Hello((&hello).into())).await;
        say(&out, join_request::Message::Heartbeat(Heartbeat::default())).await;
        let responses = client.join(ReceiverStream::new(requests)).await?.into_inner();
        self.listen(responses, out).await
    }

    async fn listen(self, mut responses: Streaming<JoinResponse>, out: Outbound) -> Result<(), Status> {
        use join_request::Message::{Gradient, Progress, Ready as SayReady};
        use join_response::Message;
        let (mut spec, mut rates, mut computed) = (None, None, 0);
        while let Some(JoinResponse { message }) = responses.message().await? {
            match message.unwrap() {
                Message::Prepare(prepare) => {
                    let prepare = Prepare::try_from(prepare).unwrap();
                    let search_id = prepare.search_id.clone();
                    self.note(|diary| diary.prepared.push(search_id.clone()));
                    if let Some(message) = self.fails {
                        let failed = Failed { search_id, message: message.into() };
                        say(&out, join_request::Message::Failed(failed)).await;
                        continue;
                    }
                    let activity = "loading".into();
                    let progress = convert::Progress { search_id: search_id.clone(), activity, done: 1, total: 2 };
                    say(&out, Progress((&progress).into())).await;
                    spec = Some(prepare.spec);
                    say(&out, SayReady(Ready { search_id })).await;
                }
                Message::Rates(message) => rates = Some(Rates::try_from(message).unwrap()),
                Message::Lease(_) if self.falls_silent => {}
                Message::Lease(lease) => {
                    if self.dies_after == Some(computed) {
                        return Ok(());
                    }
                    if self.leaves_after == Some(computed) {
                        say(&out, join_request::Message::Leaving(Leaving {})).await;
                        continue;
                    }
                    computed += 1;
                    self.note(|diary| diary.steps.push(lease.step));
                    let lease = convert::lease(lease, spec.as_ref().unwrap()).unwrap();
                    tokio::time::sleep(self.takes).await;
                    let mut gradient = compute(rates.as_ref().unwrap(), &lease);
                    if self.spoils {
                        gradient.loss = f64::NAN;
                    }
                    say(&out, Gradient(gradient.into())).await;
                }
                Message::Release(release) => {
                    self.note(|diary| diary.released.push(release.search_id));
                    (spec, rates) = (None, None);
                }
                Message::Encode(encode) => {
                    let Encode { search_id, image, flip } = encode;
                    self.note(|diary| diary.encoded.push((image, flip)));
                    say(&out, join_request::Message::Encoded(Encoded { search_id, image, flip })).await;
                }
                Message::Evaluate(message) => {
                    let message = convert::evaluate(message, spec.as_ref().unwrap()).unwrap();
                    say(&out, join_request::Message::Evaluated(evaluate(&message).into())).await;
                }
                Message::Draw(message) => {
                    let message = convert::draw(message, spec.as_ref().unwrap()).unwrap();
                    say(&out, join_request::Message::Drawn(drawn(&message).into())).await;
                }
                Message::Describe(describe) if describe.path == "silence" => {}
                Message::Describe(describe) => {
                    say(&out, join_request::Message::Described(described(describe))).await;
                }
            }
        }
        Ok(())
    }
}

/// There is a model "tiny", and no other.
fn described(describe: Describe) -> Described {
    let result = match describe.path.as_str() {
        "tiny" => Ok(ModelDescription { digest: "1b".repeat(32), config: SdxlConfig::tiny() }),
        path => Err(format!("there is no model {path}")),
    };
    (&convert::Described { number: describe.number, result }).into()
}

async fn say(out: &Outbound, message: join_request::Message) {
    // If the coordinator is gone, the other direction says so.
    let _ = out.send(JoinRequest { message: Some(message) }).await;
}

/// Asserts that a call was refused so.
#[track_caller]
pub(super) fn refused<T>(result: Result<T, Status>, code: Code, part: &str) {
    let Err(status) = result else { panic!("not refused with {code:?}") };
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(part), "{status}");
}
