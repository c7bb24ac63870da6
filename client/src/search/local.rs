//! Coordinator and worker in this process, joined by a connection that doesn't leave the machine.

use super::client::Client;
use crate::failure::Failure;
use anyhow::Context as _;
use lora_rates_coordinator::{Coordinator, Error, Options};
use lora_rates_proto::connect::plain;
use lora_rates_worker::device::Device;
use lora_rates_worker::session;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// How long the coordinator may take to close its store.
const CLOSING: Duration = Duration::from_secs(10);

/// A coordinator, and the device that is to work for it.
#[derive(Debug)]
pub(super) struct Local {
    channel: Channel,
    device: Device,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Error>>,
}

impl Local {
    /// A coordinator that keeps its searches in this folder.
    ///
    /// # Errors
    /// Another process uses the folder, its content is damaged, or the system gives no connection.
    pub(super) async fn start(folder: &Path, device: Device) -> Result<Self, Failure> {
        let coordinator = Coordinator::open(Options { data_dir: Some(folder.to_owned()), ..Options::default() })?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("can't open a local connection")?;
        let address = listener.local_addr().context("can't open a local connection")?;
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(coordinator.serve(listener, async { drop(stopped.await) }));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let channel = endpoint.connect().await.context("can't reach the coordinator of this process")?;
        Ok(Self { channel, device, stop, serving })
    }

    /// Access to the searches.
    pub(super) fn client(&self) -> Client {
        Client::new(self.channel.clone())
    }

    /// Lets the device work from here on, until the worker is dropped.
    pub(super) fn work(&self) -> Worker {
        let options = session::Options {
            name: "this machine".to_owned(),
            device: self.device,
            coordinator: session::Coordinator::Channel(plain(self.channel.clone())),
            files: session::Files::Local,
        };
        Worker(tokio::spawn(session::run(options, std::future::pending())))
    }

    /// Ends the coordinator and waits until all is on the disk.
    pub(super) async fn shut_down(self) {
        let Self { channel, stop, serving, .. } = self;
        drop((channel, stop));
        match tokio::time::timeout(CLOSING, serving).await {
            Ok(Ok(Ok(()))) => {}
            // Every step was on the disk before it was told of.
            Ok(Ok(Err(error))) => tracing::warn!("{error}"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the coordinator of this process didn't end in order"),
        }
    }
}

/// A device at work.
#[derive(Debug)]
pub(super) struct Worker(JoinHandle<Result<(), session::Error>>);

impl Worker {
    /// Why it stopped, once it has.
    pub(super) async fn gone(&mut self) -> String {
        match (&mut self.0).await {
            Ok(Ok(())) => "the worker was sent away".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the worker crashed; its last words are above".to_owned(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}
