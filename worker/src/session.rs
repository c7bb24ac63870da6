//! A worker's stream to its coordinator. The device's thread computes; this one only carries messages, so heartbeats go
//! out however long a microbatch takes.

use crate::device::Device;
use crate::gpu_thread::{self, Command, Told};
use lora_rates_common::convert::{self, Hello, Prepare};
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::MAX_MESSAGE;
use lora_rates_proto::v1::{self, join_request, join_response, worker_service_client::WorkerServiceClient};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Messages that may wait in one direction.
const WAITING: usize = 64;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name in the coordinator's lists.
    pub name: String,
    /// Where it computes.
    pub device: Device,
}

/// Why a worker left its coordinator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The coordinator refused the stream or the connection broke.
    #[error("the coordinator is gone: {0}")]
    Coordinator(#[from] Box<tonic::Status>),
    /// The coordinator said what makes no sense.
    #[error("the coordinator sent a message that makes no sense: {0}")]
    Message(#[from] convert::Error),
    /// The device's thread ended.
    #[error("the device's thread has ended")]
    Device,
    /// The device's thread could not be started.
    #[error("can't start the device's thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Coordinator(Box::new(status))
    }
}

/// Joins the coordinator behind `channel` and works for it until it ends the stream. Dropping the future leaves it.
///
/// # Errors
/// [`Error`].
pub async fn run(channel: Channel, options: Options) -> Result<(), Error> {
    let (outbox, mut told) = mpsc::channel(WAITING);
    let device = gpu_thread::spawn(options.device, outbox)?;
    let (up, upstream) = mpsc::channel(WAITING);
    let hello = Hello { name: options.name, device: options.device.to_string(), memory: None };
    send(&up, join_request::Message::Hello((&hello).into())).await?;
    let mut client =
        WorkerServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let mut downstream = client.join(ReceiverStream::new(upstream)).await?.into_inner();
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut inbox = Inbox { specs: HashMap::new() };
    loop {
        tokio::select! {
            message = downstream.message() => match message? {
                None => return Ok(()),
                Some(v1::JoinResponse { message: Some(message) }) => {
                    if let Some(command) = inbox.command(message)? {
                        device.send(command).map_err(|_| Error::Device)?;
                    }
                }
                // A message of a later version of the protocol.
                Some(v1::JoinResponse { message: None }) => {}
            },
            said = told.recv() => send(&up, request(said.ok_or(Error::Device)?)).await?,
            _ = heartbeat.tick() => send(&up, join_request::Message::Heartbeat(v1::Heartbeat::default())).await?,
        }
    }
}

async fn send(up: &mpsc::Sender<v1::JoinRequest>, message: join_request::Message) -> Result<(), Error> {
    let sent = up.send(v1::JoinRequest { message: Some(message) }).await;
    sent.map_err(|_| tonic::Status::unavailable("the stream to it is closed").into())
}

fn request(told: Told) -> join_request::Message {
    match told {
        Told::Progress(progress) => join_request::Message::Progress((&progress).into()),
        Told::Ready(search_id) => join_request::Message::Ready(v1::Ready { search_id }),
        Told::Gradient(gradient) => join_request::Message::Gradient(gradient.into()),
        Told::Failed(failed) => join_request::Message::Failed(failed.into()),
    }
}

/// Turns messages into commands. Leases refer to their search's pictures, so it remembers what it was told to prepare.
struct Inbox {
    specs: HashMap<String, Arc<SearchSpec>>,
}

impl Inbox {
    fn command(&mut self, message: join_response::Message) -> Result<Option<Command>, convert::Error> {
        Ok(Some(match message {
            join_response::Message::Prepare(prepare) => {
                let prepare = Prepare::try_from(prepare)?;
                self.specs.insert(prepare.search_id.clone(), prepare.spec.clone());
                Command::Prepare(prepare)
            }
            join_response::Message::Rates(rates) => Command::Rates(rates.try_into()?),
            join_response::Message::Lease(lease) => match self.specs.get(&lease.search_id) {
                Some(spec) => Command::Lease(convert::lease(lease, spec)?),
                // It was released meanwhile; the coordinator knows.
                None => Command::Release(lease.search_id),
            },
            join_response::Message::Release(release) => {
                self.specs.remove(&release.search_id);
                Command::Release(release.search_id)
            }
            join_response::Message::Encode(_)
            | join_response::Message::Evaluate(_)
            | join_response::Message::Describe(_) => return Ok(None),
        }))
    }
}
