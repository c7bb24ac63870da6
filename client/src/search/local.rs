//! Coordinator and workers in this process, joined by connections that don't leave the machine.

use crate::failure::Failure;
use crate::progress::note;
use crate::remote::Remote;
use anyhow::Context as _;
use lora_rates_coordinator::{Coordinator, Error, Options};
use lora_rates_proto::connect::plain;
use lora_rates_worker::device::Device;
use lora_rates_worker::engine::EngineKind;
use lora_rates_worker::session;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tonic::transport::{Channel, Endpoint};

/// How long the coordinator may take to close its store.
const CLOSING: Duration = Duration::from_secs(10);

/// A coordinator in this process.
#[derive(Debug)]
pub(crate) struct Local {
    channel: Channel,
    remote: Remote,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Error>>,
}

impl Local {
    /// A coordinator that keeps its searches in this folder.
    ///
    /// # Errors
    /// Another process uses the folder, its content is damaged, or the system gives no connection.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Failure> {
        Self::open(Options { data_dir: Some(folder.to_owned()), ..Options::default() }).await
    }

    /// [`Self::start`], with all searches paused that have not ended.
    ///
    /// # Errors
    /// Those.
    pub(crate) async fn start_paused(folder: &Path) -> Result<Self, Failure> {
        let data_dir = Some(folder.to_owned());
        Self::open(Options { data_dir, resume_on_start: false, ..Options::default() }).await
    }

    async fn open(options: Options) -> Result<Self, Failure> {
        let coordinator = Coordinator::open(options)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("can't open a local connection")?;
        let address = listener.local_addr().context("can't open a local connection")?;
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(coordinator.serve(listener, async { drop(stopped.await) }));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let channel = endpoint.connect().await.context("can't reach the coordinator of this process")?;
        // If that connection ever breaks, there is nothing to wait for.
        let remote = Remote::over(plain(channel.clone()), Duration::ZERO);
        Ok(Self { channel, remote, stop, serving })
    }

    /// Access to the searches.
    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Lets these devices work from here on, until the workers are dropped.
    pub(crate) fn work(&self, devices: &[Device], engine: EngineKind) -> Workers {
        let mut sessions = JoinSet::new();
        for (number, &device) in devices.iter().enumerate() {
            let name = match devices {
                [_] => "this machine".to_owned(),
                _ => format!("worker {} on {device}", number + 1),
            };
            let options = session::Options {
                name: name.clone(),
                device,
                engine,
                coordinator: session::Coordinator::Channel(plain(self.channel.clone())),
                files: session::Files::Local,
            };
            sessions.spawn(async move {
                match session::run(options, std::future::pending()).await {
                    Ok(()) => (name, "it was sent away".to_owned()),
                    Err(error) => (name, error.to_string()),
                }
            });
        }
        Workers(sessions)
    }

    /// Ends the coordinator and waits until all is on the disk.
    pub(crate) async fn shut_down(self) {
        let Self { channel, remote, stop, serving } = self;
        drop((channel, remote, stop));
        match tokio::time::timeout(CLOSING, serving).await {
            Ok(Ok(Ok(()))) => {}
            // Every step was on the disk before it was told of.
            Ok(Ok(Err(error))) => tracing::warn!("{error}"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the coordinator of this process didn't end in order"),
        }
    }
}

/// Devices at work; they stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers(JoinSet<(String, String)>);

impl Workers {
    /// Why the last of them stopped, once all have. Those before it are told of.
    pub(crate) async fn gone(mut self) -> String {
        while let Some(ended) = self.0.join_next().await {
            let why = match ended {
                Ok((name, why)) => format!("{name} has gone: {why}"),
                Err(_) => "a worker crashed; its last words are above".to_owned(),
            };
            if self.0.is_empty() {
                return why;
            }
            note(&why);
        }
        "there is no worker".to_owned()
    }
}
