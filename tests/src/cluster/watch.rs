//! Following a search: what happened, and when.

use super::PATIENCE;
use crate::connecting::Connect;
use crate::reference::{Trajectory, bits};
use lora_rates_common::convert::{PrepareProgress, SearchEvent, SearchState, SearchStatus, StepRecord, Validation};
use lora_rates_proto::MAX_MESSAGE;
use lora_rates_proto::v1::WatchSearchRequest;
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use std::slice::from_ref;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Pause before another attempt to watch.
const RETRY: Duration = Duration::from_millis(50);

/// A search that is followed. Events are taken in by the methods that wait.
pub struct Watch {
    events: mpsc::UnboundedReceiver<(Duration, SearchEvent)>,
    follower: JoinHandle<()>,
    /// Steps so far, and when each was heard of, since 1970.
    pub steps: Vec<(Duration, StepRecord)>,
    /// Evaluations so far.
    pub validations: Vec<Validation>,
    /// All that was said of the search's progress.
    pub progress: Vec<PrepareProgress>,
    /// States so far; the last is the one now.
    pub states: Vec<SearchStatus>,
}

impl Watch {
    /// Follows a search from its first step on; connects again whenever the stream ends.
    #[must_use]
    pub fn start(connect: Connect, search_id: &str) -> Self {
        let (told, events) = mpsc::unbounded_channel();
        let follower = tokio::spawn(follow(connect, search_id.to_owned(), told));
        Self { events, follower, steps: vec![], validations: vec![], progress: vec![], states: vec![] }
    }

    /// Steps done, as far as is heard of.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.steps.last().map_or(0, |(_, record)| record.step)
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> Option<SearchState> {
        self.states.last().map(|status| status.state)
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// When nothing happens for long.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let state = self.states.last().map(|it| (it.state, it.failure.clone()));
            let event = event.unwrap_or_else(|_| panic!("nothing happens at step {} {state:?}: {what}", self.step()));
            let (at, event) = event.expect("the follower lives as long as the search is watched");
            self.take(at, event);
        }
    }

    /// Takes in all that is heard of so far.
    pub fn catch_up(&mut self) {
        while let Ok((at, event)) = self.events.try_recv() {
            self.take(at, event);
        }
    }

    fn take(&mut self, at: Duration, event: SearchEvent) {
        match event {
            SearchEvent::Step(record) => {
                assert_eq!(record.step, self.step() + 1, "every step is told, and told once");
                self.steps.push((at, (*record).clone()));
            }
            // Those before the last step seen are told again when the stream is new.
            SearchEvent::Validation(it) if self.validations.last().is_none_or(|last| last.step < it.step) => {
                self.validations.push((*it).clone());
            }
            SearchEvent::Validation(_) | SearchEvent::SamplePicture(_) => {}
            SearchEvent::Progress(progress) => self.progress.push(progress),
            SearchEvent::Status(status) => self.states.push(status),
        }
    }

    /// Waits for a step.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until_step(&mut self, step: u64) {
        self.until(&format!("until step {step}"), |watch| watch.step() >= step || watch.is_over()).await;
        assert!(self.step() >= step, "the search ended at step {}: {:?}", self.step(), self.states.last());
    }

    /// Waits for a state.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until_state(&mut self, state: SearchState) -> SearchStatus {
        self.until(&format!("until {state}"), |watch| watch.state() == Some(state)).await;
        self.states.last().expect("a state").clone()
    }

    fn is_over(&self) -> bool {
        self.state().is_some_and(SearchState::is_over)
    }

    /// Waits for the end, and asserts that the search came to exactly what it must come to.
    ///
    /// # Panics
    /// When it did not.
    pub async fn finishes_as(&mut self, expected: &Trajectory) {
        self.until("until the end", Self::is_over).await;
        let last = self.states.last().expect("a state");
        assert_eq!((last.state, &last.failure), (SearchState::Finished, &None), "{last:?}");
        let steps: Vec<StepRecord> = self.steps.iter().map(|(_, record)| record.clone()).collect();
        assert_eq!(steps.len(), expected.steps.len(), "steps");
        let first_wrong = steps.iter().zip(&expected.steps).position(|(a, b)| bits(from_ref(a)) != bits(from_ref(b)));
        assert_eq!(first_wrong, None, "the trajectory leaves the reference");
        assert_eq!(self.validations, expected.validations, "evaluations");
    }

    /// The longest time between two steps, from step `after` on.
    #[must_use]
    pub fn longest_gap(&self, after: u64) -> Duration {
        let times: Vec<Duration> =
            self.steps.iter().filter(|(_, record)| record.step >= after).map(|(at, _)| *at).collect();
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
    }

    /// Steps that were heard of at this time since 1970.
    #[must_use]
    pub fn step_at(&self, time: Duration) -> u64 {
        self.steps.iter().rev().find(|(at, _)| *at <= time).map_or(0, |(_, record)| record.step)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Watches until nobody listens any more.
async fn follow(connect: Connect, search_id: String, told: mpsc::UnboundedSender<(Duration, SearchEvent)>) {
    let mut after_step = 0;
    let mut last = None;
    loop {
        let attempt = async {
            let connection = connect().await.map_err(|_| ())?;
            let mut service = SearchServiceClient::new(connection).max_decoding_message_size(MAX_MESSAGE);
            let request = WatchSearchRequest { search_id: search_id.clone(), after_step };
            let mut events = service.watch_search(request).await.map_err(|_| ())?.into_inner();
            while let Some(event) = events.message().await.map_err(|_| ())? {
                let event = SearchEvent::try_from(event).map_err(|_| ())?;
                match &event {
                    SearchEvent::Step(record) => after_step = record.step,
                    // Said again at the start of every stream.
                    SearchEvent::Status(status) if last.as_ref() == Some(status) => continue,
                    SearchEvent::Status(status) => last = Some(status.clone()),
                    SearchEvent::Progress(_) | SearchEvent::Validation(_) | SearchEvent::SamplePicture(_) => {}
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                told.send((now, event)).map_err(|_| ())?;
            }
            Ok::<(), ()>(())
        };
        let _ = attempt.await; // whatever it was: another attempt tells
        if told.is_closed() {
            return;
        }
        sleep(RETRY).await;
    }
}
