//! One stream of a synthetic worker, from Hello to its end.

use super::work::{Work, answers};
use super::{Fault, Options, note};
use lora_rates_common::convert::{BlobKey, Prepare};
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::connect::Connection;
use lora_rates_proto::transfer::Blobs;
use lora_rates_proto::v1::worker_service_client::WorkerServiceClient;
use lora_rates_proto::v1::{
    Described, Failed, Heartbeat, Hello, JoinRequest, JoinResponse, Leaving, Rates, Ready, described,
    join_request::Message as Said, join_response::Message as Told,
};
use lora_rates_proto::{MAX_MESSAGE, PROTOCOL};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Answers that may wait to be sent.
const WAITING: usize = 64;

/// Joins over a connection and works until the coordinator ends the stream. `join` counts how often the worker has
/// joined; when `leaving` resolves it gives everything back.
///
/// # Errors
/// What the coordinator ended the stream with, or why there is none.
pub async fn session(
    connection: Connection,
    options: Options,
    join: u32,
    mut leaving: oneshot::Receiver<()>,
) -> Result<(), Status> {
    let (out, requests) = mpsc::channel(WAITING);
    let mut worker = Worker {
        blobs: Blobs::new(connection.clone()),
        heartbeat_lost: false,
        options,
        join,
        out,
        search: None,
        rates: None,
        queue: VecDeque::new(),
        done: 0,
    };
    let hello = Hello { protocol: PROTOCOL, name: worker.options.name.clone(), device: "none".into(), memory: None };
    worker.say(Said::Hello(hello)).await;
    let mut service = WorkerServiceClient::new(connection).max_decoding_message_size(MAX_MESSAGE);
    let mut inbox = service.join(ReceiverStream::new(requests)).await?.into_inner();
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = Instant::now();
    let mut told_to_leave = false;
    loop {
        tokio::select! {
            message = inbox.message() => match message? {
                None => return Ok(()),
                Some(JoinResponse { message: None }) => {}
                Some(JoinResponse { message: Some(message) }) => {
                    if worker.queue.is_empty() {
                        due = Instant::now() + worker.options.delay;
                    }
                    worker.listen(message).await?;
                }
            },
            _ = heartbeat.tick() => if !worker.heartbeat_lost {
                worker.say(Said::Heartbeat(Heartbeat::default())).await;
            },
            asked = &mut leaving, if !told_to_leave => {
                told_to_leave = true;
                // A dropped sender only means that nobody will ever ask.
                if asked.is_ok() {
                    worker.queue.clear();
                    worker.say(Said::Leaving(Leaving {})).await;
                }
            }
            () = sleep_until(due), if !worker.queue.is_empty() => {
                worker.work().await?;
                due = Instant::now() + worker.options.delay;
            }
        }
    }
}

struct Worker {
    options: Options,
    blobs: Blobs,
    join: u32,
    out: mpsc::Sender<JoinRequest>,
    search: Option<(String, Arc<SearchSpec>)>,
    rates: Option<Rates>,
    queue: VecDeque<Work>,
    /// Pieces of work done, faulty or not.
    done: u32,
    heartbeat_lost: bool,
}

impl Worker {
    async fn say(&self, message: Said) {
        // If the coordinator is gone, the other direction says so.
        let _ = self.out.send(JoinRequest { message: Some(message) }).await;
    }

    fn note(&self, what: &str, first: u64, second: u64) {
        if let Some(file) = &self.options.record {
            note::append(file, self.join, what, first, second);
        }
    }

    async fn listen(&mut self, message: Told) -> Result<(), Status> {
        match message {
            Told::Prepare(prepare) => {
                let prepare = Prepare::try_from(prepare).map_err(|error| Status::internal(error.to_string()))?;
                self.forget();
                let search_id = prepare.search_id;
                if self.options.fault == Fault::Fail {
                    let message = "this worker can't work for any search".to_owned();
                    self.say(Said::Failed(Failed { search_id, message })).await;
                    return Ok(());
                }
                self.search = Some((search_id.clone(), prepare.spec));
                self.note("ready", 0, 0);
                self.say(Said::Ready(Ready { search_id })).await;
            }
            Told::Rates(rates) => {
                self.queue.retain(|work| !work.is_void(&rates));
                self.note("rates", rates.step, 0);
                self.rates = Some(rates);
            }
            Told::Lease(lease) => {
                self.note("lease", lease.step, lease.microbatch.into());
                self.take(Work::Lease(lease)).await?;
            }
            Told::Encode(encode) => {
                self.note("encode", encode.image.into(), encode.flip.into());
                self.take(Work::Encode(encode)).await?;
            }
            Told::Evaluate(evaluate) => {
                self.note("evaluate", evaluate.step, evaluate.item.into());
                self.take(Work::Evaluate(evaluate)).await?;
            }
            Told::Draw(draw) => {
                self.note("draw", draw.step, draw.item.into());
                self.take(Work::Draw(draw)).await?;
            }
            Told::Release(release) => {
                if self.search.as_ref().is_some_and(|(search_id, _)| *search_id == release.search_id) {
                    self.forget();
                }
            }
            Told::Describe(describe) => {
                let failure = described::Result::Failure("a synthetic worker has no models".into());
                self.say(Said::Described(Described { number: describe.number, result: Some(failure) })).await;
            }
        }
        Ok(())
    }

    fn forget(&mut self) {
        (self.search, self.rates) = (None, None);
        self.queue.clear();
    }

    /// Takes work; does it at once if it takes no time.
    async fn take(&mut self, work: Work) -> Result<(), Status> {
        self.queue.push_back(work);
        if self.options.delay.is_zero() { self.work().await } else { Ok(()) }
    }

    /// Does the next piece of work.
    async fn work(&mut self) -> Result<(), Status> {
        let Some(work) = self.queue.pop_front() else { return Ok(()) };
        let Some((search_id, spec)) = &self.search else { return Ok(()) };
        if work.search_id() != search_id {
            return Ok(());
        }
        let spec = spec.clone();
        self.done += 1;
        let is_faulty = self.done.is_multiple_of(self.options.fault_every.max(1));
        let fault = if is_faulty { self.options.fault } else { Fault::None };
        match fault {
            Fault::Disconnect => return Err(Status::cancelled("told to disconnect")),
            Fault::Hang => return Ok(()),
            Fault::Silent => self.heartbeat_lost = true,
            _ => {}
        }
        if self.heartbeat_lost {
            return Ok(());
        }
        if let Work::Encode(encode) = &work {
            let key = spec.encoding_key(encode.image, encode.flip);
            let key = key.ok_or_else(|| Status::internal("told to encode a picture that is none"))?;
            let bytes = format!("encoding of {} {}", encode.image, encode.flip);
            let put = self.blobs.put_bytes(&(&BlobKey::Encoding(key)).into(), bytes.as_bytes()).await;
            put.map_err(|error| Status::unavailable(error.to_string()))?;
        }
        let rates = self.rates.as_ref().map(|rates| rates.rates.as_slice()).unwrap_or_default();
        for message in answers(&work, rates, fault) {
            self.say(message).await;
        }
        Ok(())
    }
}
