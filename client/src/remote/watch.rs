//! Watching a search over a connection that may break: it is mended, and the search is followed from where it was lost.

use super::{Error, Remote};
use lora_rates_common::convert::{SearchEvent, SearchState};
use lora_rates_proto::v1;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Events that may wait to be read.
const WAITING: usize = 64;
/// Pause after the first attempt that failed; it doubles up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What is seen of a search.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Something happened.
    Event(SearchEvent),
    /// The connection broke; it is tried again.
    Lost(Error),
    /// The connection is back.
    Back,
}

/// What happens in a search, steps and evaluations in order and each once.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: mpsc::Receiver<Result<Seen, Error>>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(remote: &Remote, search_id: &str, after_step: u64) -> Self {
        let (seen, receiver) = mpsc::channel(WAITING);
        let remote = remote.clone();
        let search_id = search_id.to_owned();
        let watcher =
            Watcher { remote, search_id, step: after_step, validated: None, drawn: None, at_rest: false, seen };
        // A task of its own, so that whoever reads may stop waiting at any time.
        Self { seen: receiver, task: tokio::spawn(watcher.run()) }
    }

    /// The next thing that is seen; `None` once the search is over or paused.
    ///
    /// # Errors
    /// The coordinator refuses, or can't be reached for too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Seen>, Error> {
        self.seen.recv().await.transpose()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Watcher {
    remote: Remote,
    search_id: String,
    /// The last step that was seen.
    step: u64,
    /// The step of the last evaluation that was seen.
    validated: Option<u64>,
    /// Step and prompt of the last picture that was seen.
    drawn: Option<(u64, u32)>,
    /// Whether the last state that was seen is one in which nothing happens.
    at_rest: bool,
    seen: mpsc::Sender<Result<Seen, Error>>,
}

/// Nobody reads any more.
struct Left;

impl Watcher {
    async fn run(mut self) {
        let (mut lost, mut pause) = (None::<Instant>, PAUSES.0);
        loop {
            let before = self.step;
            let Ok(ended) = self.follow(&mut lost).await else { return };
            let error = match ended {
                Ok(()) if self.at_rest => return,
                // A coordinator that stops ends its streams in order.
                Ok(()) => tonic::Status::unavailable("it stopped telling of the search").into(),
                Err(error) => error,
            };
            if lost.is_none() || self.step > before {
                pause = PAUSES.0;
            }
            let since = *lost.get_or_insert_with(Instant::now);
            if !error.is_passing() || since.elapsed() + pause > self.remote.patience {
                let _ = self.seen.send(Err(error)).await;
                return;
            }
            if self.tell(Seen::Lost(error)).await.is_err() {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Follows the search over one connection until it breaks or ends.
    async fn follow(&mut self, lost: &mut Option<Instant>) -> Result<Result<(), Error>, Left> {
        let request = v1::WatchSearchRequest { search_id: self.search_id.clone(), after_step: self.step };
        let mut events = match self.remote.service().watch_search(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status.into())),
        };
        loop {
            let event = match events.message().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Ok(())),
                Err(status) => return Ok(Err(status.into())),
            };
            if lost.take().is_some() {
                self.tell(Seen::Back).await?;
            }
            match SearchEvent::try_from(event) {
                Err(error) => return Ok(Err(error.into())),
                Ok(event) => self.pass(event).await?,
            }
        }
    }

    async fn pass(&mut self, event: SearchEvent) -> Result<(), Left> {
        match &event {
            SearchEvent::Step(record) if record.step <= self.step => return Ok(()),
            SearchEvent::Step(record) => self.step = record.step,
            SearchEvent::Status(status) => {
                self.at_rest = status.state.is_over() || status.state == SearchState::Paused;
            }
            // After a break, evaluations begin with that of the last step again.
            SearchEvent::Validation(validation) if Some(validation.step) <= self.validated => return Ok(()),
            SearchEvent::Validation(validation) => self.validated = Some(validation.step),
            // So do pictures.
            SearchEvent::SamplePicture(it) if Some((it.step, it.item)) <= self.drawn => return Ok(()),
            SearchEvent::SamplePicture(it) => self.drawn = Some((it.step, it.item)),
            SearchEvent::Progress(_) => {}
        }
        self.tell(Seen::Event(event)).await
    }

    async fn tell(&self, seen: Seen) -> Result<(), Left> {
        self.seen.send(Ok(seen)).await.map_err(|_| Left)
    }
}
