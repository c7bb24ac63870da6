//! `lorarates.v1.WorkerService`: one stream each way per worker.

use super::message::FromWorker;
use super::outbound::Outbound;
use super::status::{bad_field, given_up, invalid};
use super::{Handle, Joined};
use crate::search::WorkerId;
use lora_rates_common::convert::{self, Hello};
use lora_rates_proto::v1::worker_service_server::WorkerService;
use lora_rates_proto::v1::{JoinRequest, join_request::Message};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

/// Serves workers.
pub struct WorkerApi {
    /// The service.
    pub handle: Handle,
    /// A worker that says nothing for so long is gone.
    pub silence: Duration,
}

#[tonic::async_trait]
impl WorkerService for WorkerApi {
    type JoinStream = Outbound;

    async fn join(&self, request: Request<Streaming<JoinRequest>>) -> Result<Response<Outbound>, Status> {
        let ((joined, messages), (end, ended)) = (oneshot::channel(), oneshot::channel());
        let handle = self.handle.clone();
        let inbound = Inbound { stream: request.into_inner(), silence: self.silence };
        tokio::spawn(async move {
            let result = session(handle, inbound, joined).await;
            if let Err(status) = &result {
                tracing::info!(%status, "a worker's stream ends");
            }
            // If the worker has left, there is nobody to tell.
            drop(end.send(result));
        });
        Ok(Response::new(Outbound::new(messages, ended)))
    }
}

/// From Hello to the end of either direction.
async fn session(
    handle: Handle,
    mut inbound: Inbound,
    joined: oneshot::Sender<mpsc::Receiver<super::ToWorker>>,
) -> Result<(), Status> {
    let Some(Message::Hello(hello)) = inbound.next().await? else {
        return Err(bad_field("message", "the first message must be hello"));
    };
    let hello = Hello::try_from(hello).map_err(invalid)?;
    let Joined { worker, messages, given_up: gone } = handle.join(hello).await?;
    // If it has left already, listening to it ends at once.
    let _ = joined.send(messages);
    let result = tokio::select! {
        result = listen(&handle, worker, &mut inbound) => result,
        _ = gone => Err(given_up()),
    };
    handle.leave(worker).await;
    result
}

/// What a worker says.
struct Inbound {
    stream: Streaming<JoinRequest>,
    silence: Duration,
}

impl Inbound {
    /// The next message; `None` at the end.
    async fn next(&mut self) -> Result<Option<Message>, Status> {
        let seconds = self.silence.as_secs_f64();
        let silent = |_| Status::deadline_exceeded(format!("the worker said nothing for {seconds} s"));
        match timeout(self.silence, self.stream.message()).await.map_err(silent)?? {
            None => Ok(None),
            Some(JoinRequest { message: Some(message) }) => Ok(Some(message)),
            Some(JoinRequest { message: None }) => Err(bad_field("message", "message is missing")),
        }
    }
}

/// Passes on what a worker says, until it ends its stream or says that it leaves.
async fn listen(handle: &Handle, worker: WorkerId, inbound: &mut Inbound) -> Result<(), Status> {
    while let Some(message) = inbound.next().await? {
        match from_worker(message)? {
            Some(message) => handle.report(worker, message).await?,
            None => break,
        }
    }
    Ok(())
}

/// A message in the domain; `None` if the worker leaves.
fn from_worker(message: Message) -> Result<Option<FromWorker>, Status> {
    Ok(Some(match message {
        Message::Hello(_) => return Err(bad_field("hello", "hello is said once")),
        Message::Leaving(_) => return Ok(None),
        Message::Heartbeat(heartbeat) => FromWorker::Heartbeat(heartbeat.into()),
        Message::Progress(progress) => FromWorker::Progress(progress.try_into().map_err(invalid)?),
        Message::Ready(ready) => FromWorker::Ready(convert::search_id(ready.search_id).map_err(invalid)?),
        Message::Gradient(gradient) => FromWorker::Computed(gradient.try_into().map_err(invalid)?),
        Message::Encoded(encoded) => FromWorker::Encoded(encoded.try_into().map_err(invalid)?),
        Message::Evaluated(evaluated) => FromWorker::Evaluated(evaluated.try_into().map_err(invalid)?),
        Message::Drawn(drawn) => FromWorker::Drawn(drawn.try_into().map_err(invalid)?),
        Message::Failed(failed) => FromWorker::Failed(failed.try_into().map_err(invalid)?),
        Message::Described(described) => FromWorker::Described(Box::new(described.try_into().map_err(invalid)?)),
    }))
}
