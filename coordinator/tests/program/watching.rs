//! Health, reflection, probes and metrics.

use crate::process::{PATIENCE, Process, page};
use lora_rates_coordinator::edge::{Monitor, admin};
use lora_rates_coordinator::{Coordinator, Options};
use lora_rates_proto::v1::search_service_server::SERVICE_NAME as SEARCH;
use lora_rates_proto::v1::worker_service_server::SERVICE_NAME as WORKER;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// What tools such as grpcurl and a health prober need.
#[tokio::test]
async fn health_says_that_every_service_serves() {
    let process = Process::start(&[]);
    let mut health = HealthClient::new(process.channel().await);
    for service in ["", SEARCH, WORKER] {
        let request = HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest { service: "no.such.Service".into() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_that_it_stops_and_nobody_who_watches_holds_it_up() {
    let mut process = Process::start(&[]);
    let mut health = HealthClient::new(process.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    process.terminate();
    let next = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    let start = std::time::Instant::now();
    assert_eq!(process.end().code(), Some(0));
    assert!(start.elapsed().as_secs() < 4, "{:?}", start.elapsed());
}

macro_rules! lists_the_services {
    ($test:ident, $version:ident) => {
        #[tokio::test]
        async fn $test() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let process = Process::start(&[]);
            let mut client = ServerReflectionClient::new(process.channel().await);
            let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
            let questions = [
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(SEARCH.into())),
                ask(MessageRequest::FileContainingSymbol("grpc.health.v1.Health".into())),
            ];
            let mut answers = client.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
            let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
            let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
            let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
            for name in [SEARCH, WORKER, "lorarates.v1.BlobService", "grpc.health.v1.Health"] {
                assert!(names.iter().any(|found| found == name), "no {name} in {names:?}");
            }
            for _ in 0..2 {
                let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!("no file") };
                assert!(!files.file_descriptor_proto.is_empty());
            }
        }
    };
}

lists_the_services!(reflection_v1_lists_the_services, v1);
lists_the_services!(reflection_v1alpha_lists_the_services, v1alpha);

#[test]
fn the_admin_port_answers_probes() {
    let process = Process::start(&[]);
    assert_eq!(process.page("/healthz"), (200, "alive".into()));
    assert_eq!(process.page("/readyz"), (200, "serving".into()));
    let (status, metrics) = process.page("/metrics");
    assert_eq!(status, 200);
    for name in ["lora_rates_step_seconds_bucket", "lora_rates_workers{state=\"idle\"} 0", "# EOF"] {
        assert!(metrics.contains(name), "no {name} in {metrics}");
    }
    assert_eq!(process.page("/").0, 404);
}

#[test]
fn the_admin_port_can_be_turned_off() {
    let process = Process::start_at(&["--listen", "127.0.0.1:0", "--admin-listen", "none"]);
    assert!(process.admin.is_none());
}

#[tokio::test]
async fn it_is_ready_while_it_serves_and_neither_before_nor_after() {
    let monitor = Monitor::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probes = tokio::spawn(admin::serve(listener, monitor.clone()));
    let ready = async || spawn_blocking(move || page(address, "/readyz")).await.unwrap();
    assert_eq!(ready().await, (503, "starting".into()));

    let coordinator = Coordinator::open_watched(Options::default(), monitor).unwrap();
    assert_eq!(ready().await, (503, "starting".into()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(coordinator.serve(listener, async { drop(stopped.await) }));
    while ready().await != (200, "serving".into()) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(stop);
    serving.await.unwrap().unwrap();
    assert_eq!(ready().await, (503, "stopping".into()));
    assert_eq!(spawn_blocking(move || page(address, "/healthz")).await.unwrap().0, 200);
    probes.abort();
}
