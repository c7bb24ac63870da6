//! What a search begins with.

use super::{Error, Search};
use crate::search::members::Members;
use crate::search::sampling::Samplings;
use crate::search::update::Update;
use crate::search::validations::Validations;
use lora_rates_common::conclusion::Conclusion;
use lora_rates_common::convert::{SearchState, Validation};
use lora_rates_common::optimizer::State;
use lora_rates_common::spec::SearchSpec;
use std::sync::Arc;

/// What a search begins with, or goes on from.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its identifier.
    pub id: String,
    /// What it is made of.
    pub spec: Arc<SearchSpec>,
    /// Steps done, rates and moments.
    pub optimizer: State,
    /// Where it was left.
    pub state: SearchState,
    /// Why, if there is a reason.
    pub failure: Option<String>,
    /// The evaluations that are stored.
    pub validations: Vec<Arc<Validation>>,
    /// The step whose sample pictures were stored last, if any were.
    pub sampled: Option<u64>,
    /// What is stored of its end.
    pub conclusion: Option<Arc<Conclusion>>,
    /// Pictures (and whether mirrored) whose encodings are not in the store.
    pub missing: Vec<(u32, bool)>,
}

impl Beginning {
    /// Of a search that nobody has worked for, of whose pictures none is encoded.
    #[must_use]
    pub fn new(id: String, spec: Arc<SearchSpec>) -> Self {
        Self {
            id,
            optimizer: Search::beginning(&spec),
            state: SearchState::Preparing,
            failure: None,
            validations: Vec::new(),
            sampled: None,
            conclusion: None,
            missing: spec.encodings(),
            spec,
        }
    }
}

impl Search {
    /// A search at its beginning, or where it was left.
    ///
    /// # Errors
    /// When the search makes no sense, or the optimizer's state is not one of it.
    pub fn new(beginning: Beginning) -> Result<Self, Error> {
        let Beginning { id, spec, optimizer, state, failure, validations, sampled, conclusion, missing } = beginning;
        spec.validate()?;
        let live = spec.live();
        let expected = live.len();
        let parts = [("the rates", &optimizer.rates), ("the first moment", &optimizer.m), ("the second", &optimizer.v)];
        if let Some((what, part)) = parts.into_iter().find(|(_, part)| part.len() != expected) {
            return Err(Error::State { what, found: part.len(), expected });
        }
        let mut search = Self {
            id,
            plan: spec.plan()?,
            validations: Validations::new(&spec, validations),
            samplings: Samplings::new(&spec, sampled),
            conclusion,
            encodings: spec.encodings().len(),
            missing: missing.into_iter().collect(),
            update: Update { schedule: spec.schedule()?, live, spec },
            optimizer,
            state,
            failure,
            members: Members::default(),
            work: None,
            pending: None,
            refused: 0,
        };
        if let (Some(reason), false) = (search.is_complete(), state == SearchState::Cancelled) {
            // It was left between its last step and saying so.
            (search.state, search.failure) = (SearchState::Finished, reason);
        } else if state == SearchState::Running {
            // Nobody computes yet.
            search.state = SearchState::Preparing;
        }
        Ok(search)
    }

    /// The optimizer's state before the first step of a search.
    #[must_use]
    pub fn beginning(spec: &SearchSpec) -> State {
        let rates = spec.initial_rates();
        State { step: 0, m: vec![0.0; rates.len()], v: vec![0.0; rates.len()], rates }
    }
}
