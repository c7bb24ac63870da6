//! Tells a client of a search: first what the store has, then what happens.

use super::{Error, Handle, Watched};
use crate::store::After;
use lora_rates_common::convert::{SamplePicture, SearchEvent, SearchState, SearchStatus, StepRecord, Validation};
use lora_rates_proto::v1::WatchSearchResponse;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tonic::Status;

/// Steps that are read from the store at once.
const PAGE: u32 = 256;

/// Where the events go; waits while the client does not read.
pub(super) type Client = mpsc::Sender<Result<WatchSearchResponse, Status>>;

/// Why the stream ended before the search did.
enum End {
    /// Nobody reads it any more.
    Left,
    Error(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What a client has been told so far.
struct Watch {
    handle: Handle,
    search_id: String,
    client: Client,
    /// The last step that it knows.
    step: u64,
    /// The first step whose evaluation it does not know.
    validated: u64,
    /// The first step, and of it the first prompt, whose picture it does not know.
    drawn: (u64, u32),
    /// The state that it knows.
    state: Option<SearchState>,
}

/// Tells the client of all steps after `step`, and of all evaluations from it on, until the search ends or pauses, or the
/// client leaves.
pub(super) async fn run(handle: Handle, search_id: String, watched: Watched, step: u64, client: Client) {
    let mut watch = Watch { handle, search_id, client, step, validated: step, drawn: (step, 0), state: None };
    if let Err(End::Error(error)) = watch.run(watched).await {
        // If it has left just now, nobody needs to know.
        let _ = watch.client.send(Err(error.into())).await;
    }
}

impl Watch {
    async fn run(&mut self, mut watched: Watched) -> Result<(), End> {
        self.tell_state(watched.status.clone()).await?;
        if let Some(progress) = watched.progress.take() {
            self.tell(&SearchEvent::Progress(progress)).await?;
        }
        loop {
            self.catch_up().await?;
            self.tell_state(watched.status.clone()).await?;
            if is_at_rest(watched.status.state) || self.follow(&mut watched).await? {
                return Ok(());
            }
            // Too slow for the live events: begin again with what the store has by now.
            watched = self.handle.watch(self.search_id.clone()).await?;
        }
    }

    /// All that is stored.
    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let after = After { step: self.step, validated: self.validated, drawn: self.drawn.0 };
            let records = self.handle.records(self.search_id.clone(), after, PAGE).await?;
            let mut validations = records.validations.into_iter().map(Arc::new).peekable();
            let mut pictures = records.pictures.into_iter().map(Arc::new).peekable();
            for record in records.steps {
                // The evaluation of a step is made before the next one.
                while let Some(validation) = validations.next_if(|validation| validation.step < record.step) {
                    self.tell_validation(validation).await?;
                }
                while let Some(picture) = pictures.next_if(|picture| picture.step < record.step) {
                    self.tell_picture(picture).await?;
                }
                self.tell_step(Arc::new(record)).await?;
            }
            for validation in validations {
                self.tell_validation(validation).await?;
            }
            for picture in pictures {
                self.tell_picture(picture).await?;
            }
            if records.complete {
                return Ok(());
            }
        }
    }

    /// What happens, until the search comes to rest: then true; false when some of it was missed.
    async fn follow(&mut self, watched: &mut Watched) -> Result<bool, End> {
        loop {
            match watched.events.recv().await {
                Ok(SearchEvent::Step(record)) => self.tell_step(record).await?,
                Ok(SearchEvent::Validation(validation)) => self.tell_validation(validation).await?,
                Ok(SearchEvent::SamplePicture(picture)) => self.tell_picture(picture).await?,
                Ok(SearchEvent::Status(status)) => {
                    let state = status.state;
                    self.tell_state(status).await?;
                    if is_at_rest(state) {
                        return Ok(true);
                    }
                }
                Ok(event @ SearchEvent::Progress(_)) => self.tell(&event).await?,
                Err(RecvError::Lagged(_)) => return Ok(false),
                // Either the search was deleted, or the coordinator is stopping.
                Err(RecvError::Closed) => {
                    self.handle.get(self.search_id.clone()).await?;
                    return Err(Error::Stopped.into());
                }
            }
        }
    }

    /// Tells of a step, unless it was told.
    async fn tell_step(&mut self, record: Arc<StepRecord>) -> Result<(), End> {
        if record.step <= self.step {
            return Ok(());
        }
        self.step = record.step;
        self.tell(&SearchEvent::Step(record)).await
    }

    /// Tells of an evaluation, unless it was told.
    async fn tell_validation(&mut self, validation: Arc<Validation>) -> Result<(), End> {
        if validation.step < self.validated {
            return Ok(());
        }
        self.validated = validation.step + 1;
        self.tell(&SearchEvent::Validation(validation)).await
    }

    /// Tells of a picture, unless it was told.
    async fn tell_picture(&mut self, picture: Arc<SamplePicture>) -> Result<(), End> {
        if (picture.step, picture.item) < self.drawn {
            return Ok(());
        }
        self.drawn = (picture.step, picture.item + 1);
        self.tell(&SearchEvent::SamplePicture(picture)).await
    }

    /// Tells of the state, unless it is the one told last.
    async fn tell_state(&mut self, status: SearchStatus) -> Result<(), End> {
        if self.state.replace(status.state) == Some(status.state) {
            return Ok(());
        }
        self.tell(&SearchEvent::Status(status)).await
    }

    async fn tell(&self, event: &SearchEvent) -> Result<(), End> {
        self.client.send(Ok(event.into())).await.map_err(|_| End::Left)
    }
}

/// Whether nothing happens any more unless someone asks for it.
fn is_at_rest(state: SearchState) -> bool {
    state.is_over() || state == SearchState::Paused
}
