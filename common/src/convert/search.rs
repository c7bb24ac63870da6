//! States, searches and steps, both ways.

use super::CreateSearch;
use super::check::{finite, name, rates, required, within, words};
use super::{
    Error, MAX_MESSAGE, MAX_NAME, MAX_STEPS, PrepareProgress, SearchEvent, SearchState, SearchStatus, StepRecord,
};
use crate::spec::SearchSpec;
use lora_rates_proto::v1;
use lora_rates_proto::v1::watch_search_response::Event;
use std::sync::Arc;

impl From<SearchState> for v1::SearchState {
    fn from(state: SearchState) -> Self {
        match state {
            SearchState::Preparing => Self::Preparing,
            SearchState::Running => Self::Running,
            SearchState::Paused => Self::Paused,
            SearchState::Finished => Self::Finished,
            SearchState::Failed => Self::Failed,
            SearchState::Cancelled => Self::Cancelled,
        }
    }
}

/// A state by its number in the protocol.
fn state(field: &str, number: i32) -> Result<SearchState, Error> {
    let known = |state: &SearchState| v1::SearchState::from(*state) as i32 == number;
    SearchState::ALL.into_iter().find(known).ok_or_else(|| Error::range(field, number, "a known state, from 1 to 6"))
}

impl From<&SearchStatus> for v1::Search {
    fn from(search: &SearchStatus) -> Self {
        Self {
            search_id: search.search_id.clone(),
            state: v1::SearchState::from(search.state).into(),
            step: search.step,
            max_train_steps: search.max_train_steps,
            rates: search.rates.clone(),
            failure: search.failure.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Search> for SearchStatus {
    type Error = Error;

    fn try_from(search: v1::Search) -> Result<Self, Error> {
        let max_train_steps = within("search.max_train_steps", search.max_train_steps, 1..=MAX_STEPS)?;
        Ok(Self {
            search_id: name("search.search_id", search.search_id)?,
            state: state("search.state", search.state)?,
            step: within("search.step", search.step, 0..=max_train_steps)?,
            max_train_steps,
            rates: rates("search.rates", search.rates)?,
            failure: Some(words(search.failure, MAX_MESSAGE)).filter(|failure| !failure.is_empty()),
        })
    }
}

/// The search that a response of the coordinator holds.
impl TryFrom<Option<v1::Search>> for SearchStatus {
    type Error = Error;

    fn try_from(search: Option<v1::Search>) -> Result<Self, Error> {
        required("search", search)?.try_into()
    }
}

impl From<&StepRecord> for v1::StepRecord {
    fn from(record: &StepRecord) -> Self {
        Self {
            step: record.step,
            loss: record.loss,
            penalty: record.penalty,
            learning_rate: record.learning_rate,
            gradient_norm: record.gradient_norm,
            rates: record.rates.clone(),
            samples: record.samples,
        }
    }
}

impl TryFrom<v1::StepRecord> for StepRecord {
    type Error = Error;

    fn try_from(record: v1::StepRecord) -> Result<Self, Error> {
        Ok(Self {
            step: within("step.step", record.step, 1..=MAX_STEPS)?,
            loss: finite("step.loss", record.loss)?,
            penalty: finite("step.penalty", record.penalty)?,
            learning_rate: finite("step.learning_rate", record.learning_rate)?,
            gradient_norm: finite("step.gradient_norm", record.gradient_norm)?,
            samples: record.samples,
            rates: rates("step.rates", record.rates)?,
        })
    }
}

impl From<&CreateSearch> for v1::CreateSearchRequest {
    fn from(create: &CreateSearch) -> Self {
        Self { request_id: create.request_id.clone(), spec: Some(create.spec.as_ref().into()) }
    }
}

impl TryFrom<v1::CreateSearchRequest> for CreateSearch {
    type Error = Error;

    fn try_from(create: v1::CreateSearchRequest) -> Result<Self, Error> {
        let request_id = name("request_id", create.request_id)?;
        let spec: SearchSpec = required("spec", create.spec)?.try_into()?;
        Ok(Self { request_id, spec: spec.into() })
    }
}

/// The search that a request names.
///
/// # Errors
/// When it names none, or is longer than any.
pub fn search_id(id: String) -> Result<String, Error> {
    name("search_id", id)
}

impl From<&PrepareProgress> for v1::PrepareProgress {
    fn from(progress: &PrepareProgress) -> Self {
        let PrepareProgress { worker, activity, done, total } = progress.clone();
        Self { worker, activity, done, total }
    }
}

impl TryFrom<v1::PrepareProgress> for PrepareProgress {
    type Error = Error;

    fn try_from(progress: v1::PrepareProgress) -> Result<Self, Error> {
        let v1::PrepareProgress { worker, activity, done, total } = progress;
        Ok(Self { worker: name("progress.worker", worker)?, activity: words(activity, MAX_NAME), done, total })
    }
}

impl From<&SearchEvent> for v1::WatchSearchResponse {
    fn from(event: &SearchEvent) -> Self {
        let event = match event {
            SearchEvent::Status(status) => Event::Search(status.into()),
            SearchEvent::Step(record) => Event::Step(record.as_ref().into()),
            SearchEvent::Progress(progress) => Event::Progress(progress.into()),
        };
        Self { event: Some(event) }
    }
}

impl TryFrom<v1::WatchSearchResponse> for SearchEvent {
    type Error = Error;

    fn try_from(response: v1::WatchSearchResponse) -> Result<Self, Error> {
        Ok(match required("event", response.event)? {
            Event::Search(search) => Self::Status(search.try_into()?),
            Event::Step(record) => Self::Step(Arc::new(record.try_into()?)),
            Event::Progress(progress) => Self::Progress(progress.try_into()?),
        })
    }
}
