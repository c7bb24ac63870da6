//! One connection to the coordinator: messages down and up, heartbeats, and leaving in order.

use super::feeder::Feed;
use super::inbox::{Asked, Inbox};
use super::{Error, HEARTBEAT, Options, Work};
use crate::gpu_thread::Told;
use crate::models::Models;
use lora_rates_common::convert::{BlobKey, Describe, Described, Draw, Drawn, Encode, Failed, Heartbeat, Hello, Memory};
use lora_rates_common::spec::{SearchSpec, hex};
use lora_rates_proto::MAX_MESSAGE;
use lora_rates_proto::connect::Connection;
use lora_rates_proto::transfer::{self, Blobs};
use lora_rates_proto::v1::join_request::Message;
use lora_rates_proto::v1::{self, worker_service_client::WorkerServiceClient};
use sha2::{Digest, Sha256};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Messages that may wait in one direction.
const WAITING: usize = 64;
/// How long the coordinator may take to see a worker off.
const FAREWELL: Duration = Duration::from_secs(5);
/// Attempts to store a sample picture.
const TRIES: u32 = 4;
/// Pause between attempts to store an encoding or a picture.
const AGAIN: Duration = Duration::from_secs(5);

/// How a connection ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This worker left.
    Left,
    /// This worker left because its device is of no more use.
    Broken,
    /// The coordinator ended the stream.
    Closed,
}

/// A joined coordinator.
pub(super) struct Link {
    up: mpsc::Sender<v1::JoinRequest>,
    down: Streaming<v1::JoinResponse>,
    blobs: Blobs,
    inbox: Inbox,
    /// The search that was told last, for the keys of its encodings.
    spec: Option<(String, Arc<SearchSpec>)>,
    /// What is answered when it is found, and stored when it can be.
    aside: JoinSet<Option<Message>>,
}

impl Link {
    pub(super) async fn join(
        connection: Connection,
        blobs: Blobs,
        options: &Options,
        memory: Option<Memory>,
    ) -> Result<Self, Error> {
        let (up, upstream) = mpsc::channel(WAITING);
        let hello = Hello { name: options.name.clone(), device: options.device.to_string(), memory };
        send(&up, Message::Hello((&hello).into())).await?;
        let client = WorkerServiceClient::new(connection);
        let mut client = client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        let down = client.join(ReceiverStream::new(upstream)).await?.into_inner();
        Ok(Self { up, down, blobs, inbox: Inbox::default(), spec: None, aside: JoinSet::new() })
    }

    /// Works over this connection until it ends or `shutdown`.
    pub(super) async fn serve(
        mut self,
        work: &mut Work,
        mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<End, Error> {
        feed(work, Feed::Blobs(self.blobs.clone()))?;
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.down.message() => match message? {
                    None => return Ok(End::Closed),
                    Some(v1::JoinResponse { message: Some(message) }) => {
                        let asked = self.inbox.read(message);
                        self.ask(work, asked).await?;
                    }
                    // A message of a later version of the protocol.
                    Some(v1::JoinResponse { message: None }) => {}
                },
                said = work.told.recv() => {
                    let (epoch, told) = said.ok_or(Error::Device)?;
                    if matches!(told, Told::Broken) {
                        self.leave(work).await;
                        return Ok(End::Broken);
                    }
                    self.told(work, epoch, told).await?;
                }
                Some(answer) = self.aside.join_next() => if let Ok(Some(answer)) = answer {
                    send(&self.up, answer).await?;
                },
                _ = heartbeat.tick() => {
                    let idle = work.ended.map(|ended| ended.elapsed());
                    let idle_ms = idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
                    let heartbeat = Heartbeat { idle_ms, memory: *work.memory.borrow() };
                    send(&self.up, Message::Heartbeat((&heartbeat).into())).await?;
                }
                () = shutdown.as_mut() => {
                    self.leave(work).await;
                    return Ok(End::Left);
                }
            }
        }
    }

    async fn ask(&mut self, work: &mut Work, asked: Asked) -> Result<(), Error> {
        match asked {
            Asked::Feed(item) => feed(work, item),
            Asked::Turn(item) => {
                work.epoch.advance();
                if let Feed::Prepare(prepare) = &item {
                    self.spec = Some((prepare.search_id.clone(), prepare.spec.clone()));
                }
                feed(work, item)
            }
            Asked::Describe(question) => {
                self.aside.spawn(describe(work.models.clone(), question));
                Ok(())
            }
            Asked::Nothing => Ok(()),
            Asked::Nonsense(failed) => {
                tracing::error!("{}", failed.message);
                if failed.search_id.is_empty() { Ok(()) } else { send(&self.up, Message::Failed(failed.into())).await }
            }
        }
    }

    async fn told(&mut self, work: &mut Work, epoch: u64, told: Told) -> Result<(), Error> {
        // What the device knows counts whoever asked; answers are for whom they were asked by.
        match &told {
            Told::Ready { fresh: true, .. } => feed(work, Feed::Fresh)?,
            Told::Encoded { encode, bytes: Some(_), .. } => feed(work, Feed::Known(encode.clone()))?,
            Told::Gradient(_) | Told::Evaluated(_) | Told::Drawn { .. } => work.ended = Some(std::time::Instant::now()),
            _ => {}
        }
        if epoch != work.epoch.now() {
            return Ok(());
        }
        let message = match told {
            Told::Progress(progress) => Message::Progress((&progress).into()),
            Told::Ready { search_id, .. } => Message::Ready(v1::Ready { search_id }),
            Told::Gradient(gradient) => Message::Gradient(gradient.into()),
            Told::Evaluated(evaluated) => Message::Evaluated(evaluated.into()),
            Told::Failed(failed) => {
                tracing::warn!("search {}: {}", failed.search_id, failed.message);
                Message::Failed(failed.into())
            }
            Told::Drawn { draw, result } => {
                self.aside.spawn(drawn(self.blobs.clone(), draw, result));
                return Ok(());
            }
            Told::Broken => return Ok(()),
            Told::Encoded { encode, bytes: None, .. } => Message::Encoded(encoded(encode)),
            Told::Encoded { encode, bytes: Some(bytes), asked } => {
                let spec = self.spec.as_ref().filter(|(id, _)| *id == encode.search_id).map(|(_, spec)| spec);
                if let Some(key) = spec.and_then(|spec| spec.encoding_key(encode.image, encode.flip)) {
                    self.aside.spawn(store(self.blobs.clone(), BlobKey::Encoding(key), bytes, encode, asked));
                }
                return Ok(());
            }
        };
        send(&self.up, message).await
    }

    /// Gives back what this worker was leased, and waits for the coordinator to have noticed. It leaves in any case: a
    /// coordinator that is gone has noticed.
    async fn leave(mut self, work: &mut Work) {
        tracing::info!("leaving the coordinator");
        work.epoch.advance();
        if let Err(error) = send(&self.up, Message::Leaving(v1::Leaving {})).await {
            tracing::debug!("{error}");
            return;
        }
        let ended = async { while let Ok(Some(_)) = self.down.message().await {} };
        if timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("the coordinator did not say goodbye");
        }
    }
}

fn feed(work: &Work, item: Feed) -> Result<(), Error> {
    work.feed.send((work.epoch.now(), item)).map_err(|_| Error::Device)
}

async fn send(up: &mpsc::Sender<v1::JoinRequest>, message: Message) -> Result<(), Error> {
    let sent = up.send(v1::JoinRequest { message: Some(message) }).await;
    sent.map_err(|_| Status::unavailable("the stream to it is closed").into())
}

fn encoded(encode: Encode) -> v1::Encoded {
    let Encode { search_id, image, flip } = encode;
    v1::Encoded { search_id, image, flip }
}

async fn describe(models: Models, question: Describe) -> Option<Message> {
    let number = question.number;
    let answer = tokio::task::spawn_blocking(move || models.describe(&question)).await;
    let result = answer.unwrap_or_else(|_| Err("the model could not be looked at".to_owned()));
    Some(Message::Described((&Described { number, result }).into()))
}

/// Stores an encoding, again and again while the coordinator has no room or time for it; then says so if it was asked
/// for.
async fn store(mut blobs: Blobs, key: BlobKey, bytes: Vec<u8>, encode: Encode, asked: bool) -> Option<Message> {
    let key = (&key).into();
    let mut said = false;
    loop {
        match blobs.put_bytes(&key, &bytes).await {
            Ok(()) => {
                tracing::debug!("encoded picture {} (mirrored: {})", encode.image, encode.flip);
                return asked.then(|| Message::Encoded(encoded(encode)));
            }
            // One that only this worker needed is not worth more.
            Err(error) if !asked => {
                tracing::debug!("an encoding is not stored: {error}");
                return None;
            }
            Err(error) if is_final(&error) => {
                let message = format!("can't store the encoding of picture {}: {error}", encode.image);
                return Some(Message::Failed(Failed { search_id: encode.search_id, message }.into()));
            }
            Err(error) => {
                if !said {
                    tracing::warn!("can't store the encoding of picture {}: {error}; trying again", encode.image);
                }
                said = true;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Stores a sample picture, and says so. A search doesn't wait for a picture that the coordinator has no room for.
async fn drawn(mut blobs: Blobs, draw: Draw, result: Result<Vec<u8>, String>) -> Option<Message> {
    let Draw { search_id, step, item, .. } = draw;
    let result = match result {
        Err(why) => Err(why),
        Ok(bytes) => {
            let sha256 = hex(&Sha256::digest(&bytes));
            let key = (&BlobKey::File(sha256.clone())).into();
            let mut tries = 1;
            loop {
                match blobs.put_bytes(&key, &bytes).await {
                    Ok(()) => break Ok(sha256),
                    Err(error) if is_final(&error) || tries == TRIES => break Err(format!("can't store it: {error}")),
                    Err(error) => tracing::debug!("a sample picture is not stored: {error}; trying again"),
                }
                tries += 1;
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    if let Err(why) = &result {
        tracing::warn!("picture {item} of step {step}: {why}");
    }
    Some(Message::Drawn(Drawn { search_id, step, item, result }.into()))
}

/// Whether the coordinator will never take it.
fn is_final(error: &transfer::Error) -> bool {
    use Code::{FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented};
    let transfer::Error::Refused(status) = error else { return true };
    matches!(status.code(), FailedPrecondition | InvalidArgument | PermissionDenied | Unauthenticated | Unimplemented)
}
