//! The coordinator: it holds the searches, leases their microbatches to workers and makes every step.
//!
//! ```no_run
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! use lora_rates_coordinator::{Coordinator, Options};
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?; // clients and workers connect to http://{address}
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let coordinator = Coordinator::open(Options::default())?;
//! let serving = tokio::spawn(coordinator.serve(listener, async { drop(stopped.await) }));
//! // ... and when everything is done:
//! drop(stop);
//! serving.await??;
//! # Ok(()) }
//! ```

pub mod blobs;
pub mod ledger;
pub mod metrics;
pub mod role;
pub mod search;
pub mod service;
pub mod store;
#[cfg(test)]
mod testing;

use lora_rates_proto::MAX_MESSAGE;
use lora_rates_proto::v1::search_service_server::SearchServiceServer;
use lora_rates_proto::v1::worker_service_server::WorkerServiceServer;
use service::{Handle, SearchApi, Service, WorkerApi};
use std::path::PathBuf;
use std::time::Duration;
use store::{Store, Thread};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

/// How often an idle connection is probed, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// How long open streams may take to end when the coordinator stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the coordinator can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, or what is in it.
    #[error(transparent)]
    Service(#[from] service::Error),
    /// The network.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Service(error.into())
    }
}

/// What a coordinator may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folder of the store; none: everything is forgotten with the process. Default none.
    pub data_dir: Option<PathBuf>,
    /// Go on with searches that were running when the coordinator stopped; otherwise they are paused. Default true.
    pub resume_on_start: bool,
    /// A worker that says nothing for so long is gone. Default 30 s: six heartbeats.
    pub silence: Duration,
    /// When no result comes for so long, idle workers compute what others are computing. Default 60 s.
    pub overdue: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let (silence, overdue) = (Duration::from_secs(30), Duration::from_secs(60));
        Self { data_dir: None, resume_on_start: true, silence, overdue }
    }
}

/// A coordinator with its store open, ready to serve.
pub struct Coordinator {
    service: Service,
    handle: Handle,
    thread: Thread,
    silence: Duration,
}

impl Coordinator {
    /// Opens the store and all that is in it.
    ///
    /// # Errors
    /// When the data folder can't be used, is in use, or is damaged.
    pub fn open(options: Options) -> Result<Self, Error> {
        let Options { data_dir, resume_on_start, silence, overdue } = options;
        let store = match data_dir {
            Some(folder) => Store::open(&folder)?,
            None => Store::in_memory()?,
        };
        // A clock needs a period.
        let overdue = overdue.max(Duration::from_millis(1));
        let (service, handle, thread) = Service::new(store, resume_on_start, overdue)?;
        Ok(Self { service, handle, thread, silence })
    }

    /// Access to the searches without a network, once [`Self::serve`] runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves clients and workers until `shutdown` resolves; then ends their streams and closes the store, whoever
    /// still has a [`Handle`].
    ///
    /// # Errors
    /// When the network fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let Self { service, handle, thread, silence } = self;
        let (stop, stopped) = oneshot::channel();
        let (draining, drain) = oneshot::channel::<()>();
        let service = tokio::spawn(service.run(stopped));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let stopping = async move {
            shutdown.await;
            drop((stop, draining));
        };
        let server = router(handle, silence).serve_with_incoming_shutdown(incoming, stopping);
        let result = tokio::select! {
            result = server => result,
            () = async { drop(drain.await); sleep(DRAIN).await } => Ok(()),
        };
        // The service ends with the server at the latest: its stop signal is dropped with it.
        if service.await.is_err() {
            tracing::error!("the service's task panicked");
        }
        if tokio::task::spawn_blocking(|| thread.join()).await.is_err() {
            tracing::error!("the store's thread could not be waited for");
        }
        Ok(result?)
    }
}

/// Both services.
fn router(handle: Handle, silence: Duration) -> Router {
    let search = SearchServiceServer::new(SearchApi { handle: handle.clone() });
    let worker = WorkerServiceServer::new(WorkerApi { handle, silence });
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(search.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
        .add_service(worker.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}
