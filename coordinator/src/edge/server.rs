//! The gRPC server: all services behind their gates.

use super::connections::{Peer, Slots};
use super::gate::{Door, Gate, Need};
use super::{Error, Monitor, Phase};
use crate::service::{BlobApi, Handle, SearchApi, WorkerApi};
use lora_rates_proto::v1::blob_service_server::{BlobServiceServer, SERVICE_NAME as BLOB};
use lora_rates_proto::v1::search_service_server::{SERVICE_NAME as SEARCH, SearchServiceServer};
use lora_rates_proto::v1::worker_service_server::{SERVICE_NAME as WORKER, WorkerServiceServer};
use lora_rates_proto::{CHUNK, DESCRIPTORS, MAX_MESSAGE};
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, StreamExt};
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How often an idle connection is probed, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// Bytes of a request's headers.
const HEADERS: u32 = 16 << 10;
/// Bytes of a worker's message: the longest is a result, of 4096 samples and 5120 rates.
const FROM_WORKER: usize = 1 << 20;
/// Requests that a connection may break off before they are begun; more is an attack.
const RESETS: usize = 64;

/// What the server is told.
pub(crate) struct Settings {
    pub(crate) tls: Option<ServerTlsConfig>,
    pub(crate) door: Door,
    pub(crate) max_connections: u32,
    pub(crate) max_streams: u32,
    pub(crate) silence: Duration,
    pub(crate) monitor: Monitor,
}

/// The server before it serves.
pub(crate) struct Edge {
    server: Server,
    gate: Gate,
    slots: Slots,
    silence: Duration,
    monitor: Monitor,
}

impl Edge {
    /// # Errors
    /// When certificates or key can't be used.
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        let Settings { tls, door, max_connections, max_streams, silence, monitor } = settings;
        let mut server = Server::builder()
            // Windows grow with the line: at 64 KiB, blobs over a long one would crawl.
            .http2_adaptive_window(Some(true))
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .max_concurrent_streams(max_streams)
            .http2_max_header_list_size(HEADERS)
            .http2_max_pending_accept_reset_streams(Some(RESETS));
        if let Some(tls) = tls {
            server = server.tls_config(tls).map_err(|error| Error::Tls(causes(&error)))?;
        }
        let gate = Gate::new(door, monitor.metrics.clone());
        let slots = Slots::new(max_connections, monitor.metrics.clone());
        Ok(Self { server, gate, slots, silence, monitor })
    }

    /// Serves until `stop` resolves and what is open has ended.
    ///
    /// # Errors
    /// When the network fails.
    pub(crate) async fn serve<IO>(
        mut self,
        incoming: impl Stream<Item = io::Result<(IO, Peer)>>,
        handle: Handle,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (health, routes) = self.routes(handle)?;
        let incoming = self.slots.admitted(incoming).map(Ok::<_, Infallible>);
        self.monitor.set_phase(Phase::Serving);
        let monitor = self.monitor.clone();
        let stop = async move {
            stop.await;
            monitor.set_phase(Phase::Stopping);
        };
        let server = self.server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop);
        tokio::select! {
            result = server => Ok(result?),
            never = tell(health, self.monitor) => match never {},
        }
    }

    /// All services.
    fn routes(&self, handle: Handle) -> Result<(HealthReporter, Routes), Error> {
        let search = SearchServiceServer::new(SearchApi { handle: handle.clone() });
        let search = search.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        // Its messages are chunks; the rest of one is small.
        let blob = BlobServiceServer::new(BlobApi { blobs: handle.blobs().clone() });
        let blob = blob.max_decoding_message_size(2 * CHUNK).max_encoding_message_size(2 * CHUNK);
        let worker = WorkerServiceServer::new(WorkerApi { handle, silence: self.silence });
        let worker = worker.max_decoding_message_size(FROM_WORKER).max_encoding_message_size(MAX_MESSAGE);
        let (reporter, health) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut routes = RoutesBuilder::default();
        routes
            .add_service(InterceptedService::new(search, self.gate.needs(Need::Client)))
            .add_service(InterceptedService::new(worker, self.gate.needs(Need::Worker)))
            .add_service(InterceptedService::new(blob, self.gate.needs(Need::Known)))
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        Ok((reporter, routes.routes()))
    }
}

/// Keeps `grpc.health.v1` up to date, for ever.
async fn tell(mut health: HealthReporter, monitor: Monitor) -> Infallible {
    let mut phase = monitor.watch();
    loop {
        let now = *phase.borrow_and_update();
        let status = if now == Phase::Serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", SEARCH, WORKER, BLOB] {
            health.set_service_status(service, status).await;
            if now == Phase::Stopping {
                // Those who watch hear it, and their streams end: the end waits for nobody.
                health.clear_service_status(service).await;
                health.set_service_status(service, status).await;
            }
        }
        if phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// All of an error's causes in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
