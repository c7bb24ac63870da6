//! A worker's life: it joins its coordinator, works, and joins again when the connection breaks, until it is to leave.
//!
//! The device's thread computes; what is here only carries messages and files, so heartbeats go out however long a
//! microbatch takes. Thread, model and prepared search outlive connections.

mod backoff;
mod feeder;
mod inbox;
mod stream;

use crate::blob_cache::{self, BlobCache};
use crate::device::{self, Device};
use crate::engine::EngineKind;
use crate::gpu_thread::{self, Epoch, Told};
use crate::models::{self, Models};
use backoff::Backoff;
use feeder::{Feed, Feeder};
use lora_rates_common::convert::Memory;
use lora_rates_proto::connect::{self, Access, Connection, connect};
use lora_rates_proto::transfer::Blobs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use stream::{End, Link};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Code;

/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Messages of the device that may wait.
const WAITING: usize = 64;
/// A connection that lasted so long was a good one: after it the pauses begin anew.
const GOOD: Duration = Duration::from_secs(10);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name in the coordinator's lists.
    pub name: String,
    /// Where it computes.
    pub device: Device,
    /// By which engine.
    pub engine: EngineKind,
    /// Whom it works for.
    pub coordinator: Coordinator,
    /// Where it finds models, networks and pictures.
    pub files: Files,
}

/// Whom a worker works for.
#[derive(Clone, Debug)]
pub enum Coordinator {
    /// A program somewhere; connected to again whenever the connection breaks.
    Url {
        /// `http://host:50051` or `https://host:50051`.
        url: String,
        /// Certificates and token.
        access: Access,
    },
    /// One that is connected already; when that breaks, the work is over.
    Channel(Connection),
}

/// Where a worker finds files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// At the paths that searches name: whoever makes searches is trusted with all files of this machine.
    Local,
    /// Models below a folder; networks and pictures come from the coordinator.
    Remote {
        /// Holds the models that searches may name.
        model_dir: PathBuf,
        /// For what was fetched.
        cache_dir: PathBuf,
    },
}

/// Why a worker left its coordinator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] connect::Error),
    /// The coordinator refuses this worker.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// The coordinator ended the stream, or the connection broke.
    #[error("the coordinator is gone: {0}")]
    Coordinator(String),
    /// The model folder can't be used.
    #[error(transparent)]
    Models(#[from] models::Error),
    /// The cache can't be used.
    #[error(transparent)]
    Cache(#[from] blob_cache::Error),
    /// The device's thread ended.
    #[error("the device's thread has ended")]
    Device,
    /// The device will never compute again in this process.
    #[error("{0} does not compute any more since it failed: start this worker again")]
    Broken(Device),
    /// The device's thread could not be started.
    #[error("can't start the device's thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            // No retry mends these: a wrong token or certificate, or versions that don't go together.
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
                Self::Refused(status.message().to_owned())
            }
            code if status.message().is_empty() => Self::Coordinator(code.description().to_owned()),
            _ => Self::Coordinator(status.message().to_owned()),
        }
    }
}

impl Error {
    /// Whether the same may succeed in a moment.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_passing(),
            Self::Coordinator(_) => true,
            Self::Refused(_) | Self::Models(_) | Self::Cache(_) | Self::Device | Self::Broken(_) | Self::Thread(_) => {
                false
            }
        }
    }
}

/// Works until `shutdown`, then gives back what it was leased and leaves. Over a channel it also ends when the
/// coordinator ends the stream. Dropping the future leaves at once.
///
/// # Errors
/// [`Error`]: over a channel any, over an address those that no retry mends.
pub async fn run(options: Options, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
    run_observed(options, shutdown, &watch::Sender::new(false)).await
}

/// As [`run`]; `joined` says at all times whether the coordinator has this worker.
///
/// # Errors
/// As [`run`].
pub async fn run_observed(
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
    joined: &watch::Sender<bool>,
) -> Result<(), Error> {
    let mut shutdown = pin!(shutdown);
    let mut work = Work::start(&options)?;
    let mut backoff = Backoff::default();
    loop {
        let begin = Instant::now();
        let ended = once(&options, &mut work, shutdown.as_mut(), joined).await;
        work.epoch.advance();
        joined.send_replace(false);
        let reason = match ended {
            Ok(End::Left) => return Ok(()),
            Ok(End::Broken) => return Err(Error::Broken(options.device)),
            Ok(End::Closed) if matches!(options.coordinator, Coordinator::Channel(_)) => return Ok(()),
            Ok(End::Closed) => "it has ended the stream".to_owned(),
            Err(error) if !error.is_passing() || matches!(options.coordinator, Coordinator::Channel(_)) => {
                return Err(error);
            }
            Err(error) => error.to_string(),
        };
        if begin.elapsed() > GOOD {
            backoff.reset();
        }
        if backoff.is_first() {
            tracing::warn!("{reason}; trying again until it is back");
        } else {
            tracing::debug!("{reason}");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = shutdown.as_mut() => return Ok(()),
        }
    }
}

/// One connection, from its beginning to its end.
async fn once(
    options: &Options,
    work: &mut Work,
    mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
    joined: &watch::Sender<bool>,
) -> Result<End, Error> {
    let connected = async {
        Ok::<_, Error>(match &options.coordinator {
            Coordinator::Channel(connection) => (connection.clone(), connection.clone()),
            // Files have a connection of their own: a large one must not hold up heartbeats.
            Coordinator::Url { url, access } => tokio::try_join!(connect(url, access), connect(url, access))?,
        })
    };
    let (connection, blobs) = tokio::select! {
        connected = connected => connected?,
        () = shutdown.as_mut() => return Ok(End::Left),
    };
    let memory = *work.memory.borrow();
    let link = Link::join(connection, Blobs::new(blobs), options, memory);
    let link = tokio::select! {
        link = link => link?,
        () = shutdown.as_mut() => return Ok(End::Left),
    };
    joined.send_replace(true);
    tracing::info!("joined the coordinator");
    link.serve(work, shutdown).await
}

/// What outlives connections.
struct Work {
    epoch: Epoch,
    models: Models,
    feed: mpsc::UnboundedSender<(u64, Feed)>,
    told: mpsc::Receiver<(u64, Told)>,
    memory: watch::Receiver<Option<Memory>>,
    /// When the last microbatch ended.
    ended: Option<Instant>,
    tasks: [JoinHandle<()>; 2],
}

impl Work {
    fn start(options: &Options) -> Result<Self, Error> {
        let (models, cache) = match &options.files {
            Files::Local => (Models::Anywhere, None),
            Files::Remote { model_dir, cache_dir } => (Models::below(model_dir)?, Some(BlobCache::open(cache_dir)?)),
        };
        let epoch = Epoch::default();
        let (outbox, told) = mpsc::channel(WAITING);
        let device = gpu_thread::spawn(options.device, options.engine, epoch.clone(), outbox.clone())?;
        let (feed, items) = mpsc::unbounded_channel();
        let feeder = Feeder::new(epoch.clone(), models.clone(), cache, device, outbox);
        let (memory, memory_now) = watch::channel(None);
        let tasks = [tokio::spawn(feeder.run(items)), tokio::spawn(observe(options.device, memory))];
        Ok(Self { epoch, models, feed, told, memory: memory_now, ended: None, tasks })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Asks for the device's memory now and then, apart from everything else: the driver may take its time to answer.
async fn observe(device: Device, memory: watch::Sender<Option<Memory>>) {
    loop {
        let now = tokio::task::spawn_blocking(move || device::memory(device)).await.ok().flatten();
        memory.send_replace(now.map(|(used, total)| Memory { total, free: total.saturating_sub(used) }));
        tokio::time::sleep(HEARTBEAT).await;
    }
}
