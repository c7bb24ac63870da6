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
pub mod edge;
pub mod ledger;
pub mod metrics;
pub mod role;
pub mod search;
pub mod service;
pub mod store;
#[cfg(test)]
mod testing;

use blobs::Blobs;
use edge::{Edge, Monitor, Peer, Security};
use service::{Handle, Service};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use store::{Store, Thread};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt};

/// The blobs within the data folder.
pub const BLOBS: &str = "blobs";
/// How long open streams may take to end when the coordinator stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the coordinator can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, or what is in it.
    #[error(transparent)]
    Service(#[from] service::Error),
    /// What is between the network and the services.
    #[error(transparent)]
    Edge(#[from] edge::Error),
    /// The listener is no listener any more.
    #[error("the address that is listened on is not known: {0}")]
    Address(io::Error),
}

impl From<blobs::Error> for Error {
    fn from(error: blobs::Error) -> Self {
        Self::Service(error.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Service(error.into())
    }
}

/// What a coordinator may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folder of the store and the blobs; none: everything is forgotten with the process. Default none.
    pub data_dir: Option<PathBuf>,
    /// Clients and workers are on this machine and may name any file on it; otherwise pictures and networks must be
    /// uploaded, and models lie below the workers' model folder. Default true.
    pub trusted: bool,
    /// Go on with searches that were running when the coordinator stopped; otherwise they are paused. Default true.
    pub resume_on_start: bool,
    /// A worker that says nothing for so long is gone. Default 10 s: five heartbeats.
    pub silence: Duration,
    /// When no result comes for so long, and for four times as long as one takes, idle workers compute what others are
    /// computing. Default 2 s.
    pub overdue: Duration,
    /// A search fails when there is no worker at all for so long; none: it waits for ever. Default none.
    pub worker_timeout: Option<Duration>,
    /// Searches that are not over, at most. Default 1000.
    pub max_searches: usize,
    /// Bytes of all blobs, at most. Default: no limit but the disk.
    pub max_blob_bytes: u64,
    /// Use store and blobs without threads of their own. For simulations, in which nothing may depend on real time.
    /// Default false.
    pub inline_store: bool,
    /// Connections at once; more are closed. Default 1000.
    pub max_connections: u32,
    /// Calls at once over one connection; more wait. Default 2048: one client may watch a thousand searches.
    pub max_streams: u32,
    /// Who may connect. Default: everyone, on the loopback alone.
    pub security: Security,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: None,
            trusted: true,
            resume_on_start: true,
            silence: Duration::from_secs(10),
            overdue: Duration::from_secs(2),
            worker_timeout: None,
            max_searches: 1000,
            max_blob_bytes: u64::MAX,
            inline_store: false,
            max_connections: 1000,
            max_streams: 2048,
            security: Security::default(),
        }
    }
}

/// A coordinator with its store open, ready to serve.
pub struct Coordinator {
    service: Service,
    handle: Handle,
    thread: Thread,
    security: Security,
    edge: Edge,
}

impl Coordinator {
    /// Opens the store and all that is in it.
    ///
    /// # Errors
    /// When the data folder can't be used, is in use, or is damaged; when certificates, key or tokens can't be used.
    pub fn open(options: Options) -> Result<Self, Error> {
        Self::open_watched(options, Monitor::default())
    }

    /// The same, watched over by others.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_watched(options: Options, monitor: Monitor) -> Result<Self, Error> {
        let Options { data_dir, security, max_connections, max_streams, silence, .. } = options;
        let edge::Loaded { tls, door } = security.load()?;
        let settings = service::Settings {
            trusted: options.trusted,
            resume_on_start: options.resume_on_start,
            overdue: options.overdue,
            worker_timeout: options.worker_timeout,
            max_searches: options.max_searches,
            inline_store: options.inline_store,
            metrics: monitor.metrics.clone(),
            ..service::Settings::default()
        };
        let edge = Edge::new(edge::Settings { tls, door, max_connections, max_streams, silence, monitor })?;
        let limits =
            blobs::Options { max_bytes: options.max_blob_bytes, inline: options.inline_store, ..Default::default() };
        let (store, blobs) = match data_dir {
            // The store first: it sees to it that nobody else uses the folder.
            Some(folder) => (Store::open(&folder)?, Blobs::open(&folder.join(BLOBS), limits)?),
            None => (Store::in_memory()?, Blobs::temporary(limits)?),
        };
        let (service, handle, thread) = Service::new(store, blobs, settings)?;
        Ok(Self { service, handle, thread, security, edge })
    }

    /// Access to the searches without a network, once it is served.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves clients and workers until `shutdown` resolves; then ends their streams and closes the store, whoever
    /// still has a [`Handle`].
    ///
    /// # Errors
    /// When other machines can reach the address and [`Options::security`] does not allow it; when the network fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        self.security.check(listener.local_addr().map_err(Error::Address)?)?;
        self.serve_incoming(edge::tcp(listener), shutdown).await
    }

    /// The same over connections that are no TCP, or not the operating system's. Who may reach them is the caller's
    /// affair.
    ///
    /// # Errors
    /// When the network fails.
    pub async fn serve_with_incoming<IO>(
        self,
        incoming: impl Stream<Item = io::Result<IO>>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let incoming = incoming.map(|result| result.map(|io| (io, Peer::default())));
        self.serve_incoming(incoming, shutdown).await
    }

    async fn serve_incoming<IO>(
        self,
        incoming: impl Stream<Item = io::Result<(IO, Peer)>>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { service, handle, thread, edge, .. } = self;
        let (stop, stopped) = oneshot::channel();
        let (draining, drain) = oneshot::channel::<()>();
        let service = tokio::spawn(service.run(stopped));
        let stopping = async move {
            shutdown.await;
            drop((stop, draining));
        };
        let result = tokio::select! {
            result = edge.serve(incoming, handle, stopping) => result,
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
