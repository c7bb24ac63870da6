//! Workers, models and rates as clients see them, both ways.

use super::check::{length, name, path, path_text, rates, required, sha256, text, within, words};
use super::{Describe, Described, Memory, ModelDescription, WorkerState, WorkerStatus};
use super::{Error, MAX_CONFIG, MAX_MESSAGE, MAX_NAME, MAX_STEPS};
use crate::block::BLOCKS;
use lora_rates_proto::v1;
use std::path::{Component, PathBuf};

/// Which rates of a search are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatesOf {
    /// Those after the last step done.
    Last,
    /// Those after this many steps.
    Step(u64),
    /// Those of the lowest held-out loss.
    Best,
}

impl TryFrom<Option<v1::get_rates_request::Which>> for RatesOf {
    type Error = Error;

    fn try_from(which: Option<v1::get_rates_request::Which>) -> Result<Self, Error> {
        use v1::get_rates_request::Which;
        Ok(match which {
            None | Some(Which::Best(false)) => Self::Last,
            Some(Which::Best(true)) => Self::Best,
            Some(Which::Step(step)) => Self::Step(within("step", step, 0..=MAX_STEPS)?),
        })
    }
}

/// A path that a client may name: relative, and without a way up.
///
/// # Errors
/// When it is empty, too long, absolute, or leaves the folder that it is relative to.
pub fn model_path(field: &str, text: String) -> Result<PathBuf, Error> {
    let found = path(field, text)?;
    if found.components().all(|part| matches!(part, Component::Normal(_)))
        && !found.to_string_lossy().contains(['\\', '\0'])
    {
        return Ok(found);
    }
    let expected = "a path below the workers' model folder, without a leading / and without ..";
    Err(Error::range(field, format!("{:?}", words(path_text(&found), 80)), expected))
}

impl From<WorkerState> for v1::WorkerState {
    fn from(state: WorkerState) -> Self {
        match state {
            WorkerState::Idle => Self::Idle,
            WorkerState::Preparing => Self::Preparing,
            WorkerState::Working => Self::Working,
            WorkerState::Quarantined => Self::Quarantined,
        }
    }
}

impl From<Memory> for v1::Memory {
    fn from(Memory { total, free }: Memory) -> Self {
        Self { total, free }
    }
}

/// A device's memory, if it is said at all.
pub(super) fn memory(memory: Option<v1::Memory>) -> Option<Memory> {
    let v1::Memory { total, free } = memory?;
    (total > 0).then_some(Memory { total, free: free.min(total) })
}

impl From<&WorkerStatus> for v1::Worker {
    fn from(worker: &WorkerStatus) -> Self {
        Self {
            worker_id: worker.worker_id,
            name: worker.name.clone(),
            device: worker.device.clone(),
            state: v1::WorkerState::from(worker.state).into(),
            search_id: worker.search_id.clone().unwrap_or_default(),
            memory: worker.memory.map(Into::into),
            joined_ms: worker.joined_ms,
            silent_ms: worker.silent_ms,
            idle_ms: worker.idle_ms,
            accepted: worker.accepted,
            refused: worker.refused,
        }
    }
}

impl TryFrom<v1::Worker> for WorkerStatus {
    type Error = Error;

    fn try_from(worker: v1::Worker) -> Result<Self, Error> {
        let known = |state: &WorkerState| v1::WorkerState::from(*state) as i32 == worker.state;
        let state = WorkerState::ALL.into_iter().find(known);
        Ok(Self {
            worker_id: worker.worker_id,
            name: words(worker.name, MAX_NAME),
            device: words(worker.device, MAX_NAME),
            state: state.ok_or_else(|| Error::range("worker.state", worker.state, "a known state, from 1 to 4"))?,
            search_id: Some(text("worker.search_id", worker.search_id, MAX_NAME)?).filter(|id| !id.is_empty()),
            memory: memory(worker.memory),
            joined_ms: worker.joined_ms,
            silent_ms: worker.silent_ms,
            idle_ms: worker.idle_ms,
            accepted: worker.accepted,
            refused: worker.refused,
        })
    }
}

impl From<&ModelDescription> for v1::ModelDescription {
    fn from(model: &ModelDescription) -> Self {
        // The sizes hold nothing that JSON lacks.
        let config_json = serde_json::to_string(&model.config).unwrap_or_default();
        Self { digest: model.digest.clone(), config_json }
    }
}

impl TryFrom<v1::ModelDescription> for ModelDescription {
    type Error = Error;

    fn try_from(model: v1::ModelDescription) -> Result<Self, Error> {
        let field = "description.config_json";
        length(field, model.config_json.len(), "bytes", 1..=MAX_CONFIG)?;
        let config: crate::sdxl::config::SdxlConfig = serde_json::from_str(&model.config_json)
            .map_err(|error| Error::range(field, words(error.to_string(), MAX_NAME), "the sizes of an SDXL model"))?;
        config.validate().map_err(|error| Error::range(field, error, "the sizes of an SDXL model"))?;
        Ok(Self { digest: sha256("description.digest", model.digest)?, config })
    }
}

/// The description that a response of the coordinator holds.
impl TryFrom<Option<v1::ModelDescription>> for ModelDescription {
    type Error = Error;

    fn try_from(model: Option<v1::ModelDescription>) -> Result<Self, Error> {
        required("description", model)?.try_into()
    }
}

impl From<&Describe> for v1::Describe {
    fn from(describe: &Describe) -> Self {
        let vae = describe.vae.as_deref().map(path_text);
        Self { number: describe.number, path: path_text(&describe.path), vae }
    }
}

impl TryFrom<v1::Describe> for Describe {
    type Error = Error;

    fn try_from(describe: v1::Describe) -> Result<Self, Error> {
        Ok(Self {
            number: describe.number,
            path: model_path("describe.path", describe.path)?,
            vae: describe.vae.map(|vae| model_path("describe.vae", vae)).transpose()?,
        })
    }
}

impl From<&Described> for v1::Described {
    fn from(described: &Described) -> Self {
        use v1::described::Result;
        let result = match &described.result {
            Ok(model) => Result::Description(model.into()),
            Err(failure) => Result::Failure(failure.clone()),
        };
        Self { number: described.number, result: Some(result) }
    }
}

impl TryFrom<v1::Described> for Described {
    type Error = Error;

    fn try_from(described: v1::Described) -> Result<Self, Error> {
        use v1::described::Result as Answer;
        let result = match required("described.result", described.result)? {
            Answer::Description(model) => Ok(model.try_into()?),
            Answer::Failure(failure) => Err(words(failure, MAX_MESSAGE)),
        };
        Ok(Self { number: described.number, result })
    }
}

/// The model that a client asks about.
impl TryFrom<v1::DescribeModelRequest> for Describe {
    type Error = Error;

    /// Its number is 0.
    fn try_from(request: v1::DescribeModelRequest) -> Result<Self, Error> {
        Ok(Self {
            number: 0,
            path: model_path("path", request.path)?,
            vae: request.vae.map(|vae| model_path("vae", vae)).transpose()?,
        })
    }
}

/// A network's name, digest and twenty rates, as a coordinator says them.
///
/// # Errors
/// When it is anything else.
pub fn network_rates(network: v1::NetworkRates) -> Result<(String, String, Vec<f64>), Error> {
    length("networks.rates", network.rates.len(), "numbers", BLOCKS..=BLOCKS)?;
    let rates = rates("networks.rates", network.rates)?;
    Ok((name("networks.name", network.name)?, sha256("networks.sha256", network.sha256)?, rates))
}
