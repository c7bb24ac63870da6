//! One step's arithmetic: from the microbatches' gradients to the next rates, in f64 and in a fixed order.

use super::Commit;
use lora_rates_common::convert::{Gradient, StepRecord};
use lora_rates_common::optimizer::{self, State};
use lora_rates_common::penalty;
use lora_rates_common::schedule::Schedule;
use lora_rates_common::spec::SearchSpec;
use std::sync::Arc;

/// Why a step could not be made of its gradients.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Error {
    /// The optimizer refused.
    #[error("step {step} could not be made: {source}")]
    Optimizer {
        /// The step, counted from 1.
        step: u64,
        /// Its reason.
        source: optimizer::Error,
    },
    /// Numbers grew out of range.
    #[error("the search diverged: {what} became {value} in step {step}; lower the learning rate")]
    Diverged {
        /// Which number.
        what: &'static str,
        /// What it became.
        value: f64,
        /// The step, counted from 1.
        step: u64,
    },
}

/// What stays the same over all steps of a search.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) spec: Arc<SearchSpec>,
    pub(super) schedule: Schedule,
    /// Which of the 20 N rates take part.
    pub(super) live: Vec<bool>,
}

impl Update {
    /// Makes one step. `results` are all of its microbatches' in their order; `samples` counts their samples.
    ///
    /// The gradient is the mean of the microbatches' plus the penalty's, once.
    pub(super) fn step(&self, state: &State, results: &[&Gradient], samples: u32) -> Result<Commit, Error> {
        let options = &self.spec.options;
        let count = results.len().max(1) as f64;
        let mut gradient = vec![0.0; state.rates.len()];
        for result in results {
            gradient.iter_mut().zip(&result.gradient).for_each(|(sum, value)| *sum += value);
        }
        let penalty_gradient = penalty::live_gradient(&state.rates, options.application_loss_weight, &self.live);
        for (value, of_penalty) in gradient.iter_mut().zip(penalty_gradient) {
            *value = *value / count + of_penalty;
        }
        let learning_rate = self.schedule.rate(state.step);
        let mut next = state.clone();
        let step = state.step.saturating_add(1);
        let refused = |source| Error::Optimizer { step, source };
        options.optimizer.step(&mut next, &gradient, learning_rate, &self.live).map_err(refused)?;
        let live = gradient.iter().zip(&self.live).filter(|(_, live)| **live);
        let record = StepRecord {
            step,
            loss: results.iter().map(|result| result.loss).sum::<f64>() / count,
            penalty: penalty::live_value(&state.rates, &self.live),
            learning_rate,
            gradient_norm: live.map(|(value, _)| value * value).sum::<f64>().sqrt(),
            samples,
            rates: next.rates.clone(),
        };
        check(&record, &next)?;
        Ok(Commit { record: Arc::new(record), state: next })
    }
}

/// Refuses a step after which nothing would be a number any more. Workers get the rates in f32, so they must be finite
/// in that too.
fn check(record: &StepRecord, next: &State) -> Result<(), Error> {
    let scalars = [("the loss", record.loss), ("the gradient's norm", record.gradient_norm)];
    let rates = next.rates.iter().map(|rate| ("a rate", f64::from(*rate as f32)));
    let moments = next.m.iter().chain(&next.v).map(|moment| ("a moment of the gradient", *moment));
    let mut numbers = scalars.into_iter().chain(rates).chain(moments);
    match numbers.find(|(_, value)| !value.is_finite()) {
        Some((what, value)) => Err(Error::Diverged { what, value, step: record.step }),
        None => Ok(()),
    }
}
