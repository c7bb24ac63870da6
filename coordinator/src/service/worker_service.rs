//! `lorarates.v1.WorkerService`: one stream each way per worker.

use super::message::{FromWorker, ToWorker};
use super::status::invalid;
use super::{Handle, Joined};
use crate::search::WorkerId;
use lora_rates_common::convert::{self, Hello};
use lora_rates_proto::v1::worker_service_server::WorkerService;
use lora_rates_proto::v1::{JoinRequest, JoinResponse, Release, join_request, join_response};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages on their way to a worker before the service's own queue for it fills.
const UNSENT: usize = 16;

/// Serves workers.
pub(crate) struct WorkerApi {
    pub(crate) handle: Handle,
    /// A worker that says nothing for so long is gone.
    pub(crate) silence: Duration,
}

/// The way to a worker.
type Outbound = mpsc::Sender<Result<JoinResponse, Status>>;

#[tonic::async_trait]
impl WorkerService for WorkerApi {
    type JoinStream = ReceiverStream<Result<JoinResponse, Status>>;

    async fn join(&self, request: Request<Streaming<JoinRequest>>) -> Result<Response<Self::JoinStream>, Status> {
        let (outbound, messages) = mpsc::channel(UNSENT);
        let (handle, silence) = (self.handle.clone(), self.silence);
        let inbound = Inbound { stream: request.into_inner(), silence };
        tokio::spawn(async move {
            if let Err(status) = session(handle, inbound, &outbound).await {
                tracing::info!(%status, "a worker's stream ends");
                // If the worker has left, there is nobody to tell.
                let _ = outbound.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// From Hello to the end of either direction.
async fn session(handle: Handle, mut inbound: Inbound, outbound: &Outbound) -> Result<(), Status> {
    let Some(join_request::Message::Hello(hello)) = inbound.next().await? else {
        return Err(Status::invalid_argument("the first message must be hello"));
    };
    let hello = Hello::try_from(hello).map_err(invalid)?;
    let Joined { worker, messages } = handle.join(hello).await?;
    // Both directions at once: a worker that reads slowly is listened to all the same.
    let result = tokio::select! {
        result = listen(&handle, worker, &mut inbound) => result,
        result = tell(messages, outbound) => result,
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
    async fn next(&mut self) -> Result<Option<join_request::Message>, Status> {
        let seconds = self.silence.as_secs_f64();
        let silent = |_| Status::deadline_exceeded(format!("the worker said nothing for {seconds} s"));
        match timeout(self.silence, self.stream.message()).await.map_err(silent)?? {
            None => Ok(None),
            Some(JoinRequest { message: Some(message) }) => Ok(Some(message)),
            Some(JoinRequest { message: None }) => Err(Status::invalid_argument("message is missing")),
        }
    }
}

async fn listen(handle: &Handle, worker: WorkerId, inbound: &mut Inbound) -> Result<(), Status> {
    while let Some(message) = inbound.next().await? {
        if let Some(message) = from_worker(message)? {
            handle.report(worker, message).await?;
        }
    }
    Ok(())
}

/// A message in the domain; `None` for a mere sign of life.
fn from_worker(message: join_request::Message) -> Result<Option<FromWorker>, Status> {
    use join_request::Message;
    Ok(Some(match message {
        Message::Hello(_) => return Err(Status::invalid_argument("hello is said once")),
        Message::Heartbeat(_)
        | Message::Encoded(_)
        | Message::Evaluated(_)
        | Message::Described(_)
        | Message::Leaving(_) => return Ok(None),
        Message::Progress(progress) => FromWorker::Progress(progress.try_into().map_err(invalid)?),
        Message::Ready(ready) => FromWorker::Ready(convert::search_id(ready.search_id).map_err(invalid)?),
        Message::Gradient(gradient) => FromWorker::Computed(gradient.try_into().map_err(invalid)?),
        Message::Failed(failed) => FromWorker::Failed(failed.try_into().map_err(invalid)?),
    }))
}

async fn tell(mut messages: mpsc::Receiver<ToWorker>, outbound: &Outbound) -> Result<(), Status> {
    use join_response::Message;
    while let Some(message) = messages.recv().await {
        let message = match message {
            ToWorker::Prepare(prepare) => Message::Prepare((&prepare).into()),
            ToWorker::Rates(rates) => Message::Rates(rates.into()),
            ToWorker::Lease(lease) => Message::Lease((&lease).into()),
            ToWorker::Release(search_id) => Message::Release(Release { search_id }),
        };
        if outbound.send(Ok(JoinResponse { message: Some(message) })).await.is_err() {
            return Ok(()); // the worker has left
        }
    }
    Err(Status::unavailable("the coordinator gives up the worker, or is stopping: join again"))
}
