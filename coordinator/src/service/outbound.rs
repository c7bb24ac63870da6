//! What a worker is told, as a stream of messages.

use super::message::ToWorker;
use super::status::given_up;
use lora_rates_proto::v1::{JoinResponse, Release, join_response::Message};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

/// How a stream ends.
pub(super) type End = Result<(), Status>;

/// The stream to a worker. Messages are made of what the event loop says only when the connection takes them, on the
/// connection's own task.
pub struct Outbound {
    /// Gives `messages` once the worker has said who it is.
    joined: Option<oneshot::Receiver<mpsc::Receiver<ToWorker>>>,
    messages: Option<mpsc::Receiver<ToWorker>>,
    end: Option<oneshot::Receiver<End>>,
}

impl Outbound {
    pub(super) fn new(joined: oneshot::Receiver<mpsc::Receiver<ToWorker>>, end: oneshot::Receiver<End>) -> Self {
        Self { joined: Some(joined), messages: None, end: Some(end) }
    }
}

impl Stream for Outbound {
    type Item = Result<JoinResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        if let Poll::Ready(result) = Pin::new(end).poll(context) {
            self.end = None;
            return Poll::Ready(result.unwrap_or_else(|_| Err(given_up())).err().map(Err));
        }
        if let Some(joined) = &mut self.joined
            && let Poll::Ready(messages) = Pin::new(joined).poll(context)
        {
            // If there will be none, the end says why.
            (self.messages, self.joined) = (messages.ok(), None);
        }
        let Some(messages) = &mut self.messages else { return Poll::Pending };
        let next = ready!(messages.poll_recv(context));
        if next.is_none() {
            self.end = None;
        }
        Poll::Ready(Some(next.map(message).ok_or_else(given_up)))
    }
}

fn message(message: ToWorker) -> JoinResponse {
    let message = match message {
        ToWorker::Prepare(prepare) => Message::Prepare((&prepare).into()),
        ToWorker::Rates(rates) => Message::Rates(rates.into()),
        ToWorker::Lease(lease) => Message::Lease((&lease).into()),
        ToWorker::Encode(encode) => Message::Encode(encode.into()),
        ToWorker::Evaluate(evaluate) => Message::Evaluate((&evaluate).into()),
        ToWorker::Draw(draw) => Message::Draw(draw.into()),
        ToWorker::Release(search_id) => Message::Release(Release { search_id }),
        ToWorker::Describe(describe) => Message::Describe((&describe).into()),
    };
    JoinResponse { message: Some(message) }
}
