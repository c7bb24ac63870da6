//! States, searches and steps, both ways.

use super::CreateSearch;
use super::check::{finite, length, name, rates, required, text, within, words};
use super::{Baseline, Error, MAX_MESSAGE, MAX_NAME, MAX_NETWORKS, MAX_STEPS, PrepareProgress};
use super::{SearchEvent, SearchState, SearchStatus, StepRecord, Validation};
use crate::conclusion::Conclusion;
use crate::spec::SearchSpec;
use lora_rates_proto::v1;
use lora_rates_proto::v1::watch_search_response::Event;
use std::sync::Arc;

/// Most baselines of an evaluation.
const MAX_BASELINES: usize = 16;

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
            name: search.name.clone(),
            workers: search.workers,
            created_ms: search.created_ms,
            networks: search.networks.clone(),
            best: search.best.as_deref().map(Into::into),
            conclusion: search.conclusion.as_deref().map(Into::into),
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
            name: words(search.name, MAX_NAME),
            workers: search.workers,
            created_ms: search.created_ms,
            networks: networks(search.networks)?,
            best: search.best.map(Validation::try_from).transpose()?.map(Arc::new),
            conclusion: search.conclusion.map(Conclusion::try_from).transpose()?.map(Arc::new),
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
        let CreateSearch { request_id, spec, name } = create;
        Self { request_id: request_id.clone(), spec: Some(spec.as_ref().into()), name: name.clone() }
    }
}

impl TryFrom<v1::CreateSearchRequest> for CreateSearch {
    type Error = Error;

    fn try_from(create: v1::CreateSearchRequest) -> Result<Self, Error> {
        let request_id = name("request_id", create.request_id)?;
        let spec: SearchSpec = required("spec", create.spec)?.try_into()?;
        Ok(Self { request_id, spec: spec.into(), name: text("name", create.name, MAX_NAME)? })
    }
}

impl From<&Validation> for v1::Validation {
    fn from(validation: &Validation) -> Self {
        let Validation { step, loss, standard_error, samples, rates, baselines } = validation.clone();
        let baseline = |Baseline { rate, loss, standard_error }| v1::Baseline { rate, loss, standard_error };
        Self { step, loss, standard_error, samples, rates, baselines: baselines.into_iter().map(baseline).collect() }
    }
}

impl TryFrom<v1::Validation> for Validation {
    type Error = Error;

    fn try_from(validation: v1::Validation) -> Result<Self, Error> {
        let v1::Validation { step, loss, standard_error, samples, rates: numbers, baselines } = validation;
        length("validation.baselines", baselines.len(), "baselines", 0..=MAX_BASELINES)?;
        let baseline = |it: v1::Baseline| {
            Ok(Baseline {
                rate: finite("validation.baselines.rate", it.rate)?,
                loss: finite("validation.baselines.loss", it.loss)?,
                standard_error: finite("validation.baselines.standard_error", it.standard_error)?,
            })
        };
        Ok(Self {
            step: within("validation.step", step, 0..=MAX_STEPS)?,
            loss: finite("validation.loss", loss)?,
            standard_error: finite("validation.standard_error", standard_error)?,
            samples,
            rates: rates("validation.rates", numbers)?,
            baselines: baselines.into_iter().map(baseline).collect::<Result<_, _>>()?,
        })
    }
}

fn networks(names: Vec<String>) -> Result<Vec<String>, Error> {
    length("search.networks", names.len(), "names", 0..=MAX_NETWORKS)?;
    Ok(names.into_iter().map(|name| words(name, MAX_NAME)).collect())
}

/// The states that a list is to be limited to.
///
/// # Errors
/// When there are more than there can be, or an unknown one.
pub fn search_states(numbers: Vec<i32>) -> Result<Vec<SearchState>, Error> {
    length("states", numbers.len(), "states", 0..=SearchState::ALL.len())?;
    numbers.into_iter().enumerate().map(|(at, number)| state(&format!("states[{at}]"), number)).collect()
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
        Ok(Self {
            worker: text("progress.worker", worker, MAX_NAME)?,
            activity: words(activity, MAX_NAME),
            done,
            total,
        })
    }
}

impl From<&SearchEvent> for v1::WatchSearchResponse {
    fn from(event: &SearchEvent) -> Self {
        let event = match event {
            SearchEvent::Status(status) => Event::Search(status.into()),
            SearchEvent::Step(record) => Event::Step(record.as_ref().into()),
            SearchEvent::Progress(progress) => Event::Progress(progress.into()),
            SearchEvent::Validation(validation) => Event::Validation(validation.as_ref().into()),
            SearchEvent::SamplePicture(picture) => Event::SamplePicture(picture.as_ref().into()),
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
            Event::Validation(validation) => Self::Validation(Arc::new(validation.try_into()?)),
            Event::SamplePicture(picture) => Self::SamplePicture(Arc::new(picture.try_into()?)),
        })
    }
}
