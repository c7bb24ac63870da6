//! The evaluations of a search: when there is one, what it comes to, and when there have been enough.

use super::update::Error;
use super::work::Evaluation;
use lora_rates_common::convert::{Baseline, Validation};
use lora_rates_common::optimizer::State;
use lora_rates_common::plan::Microbatch;
use lora_rates_common::spec::SearchSpec;
use lora_rates_common::validation::{self, BASELINES};
use std::sync::Arc;

/// The evaluations of a search, past and to come.
pub(super) struct Validations {
    plan: Option<validation::Validation>,
    microbatches: Arc<[Microbatch]>,
    max_train_steps: u64,
    /// Steps done before the last one.
    last: Option<u64>,
    best: Option<Arc<Validation>>,
    /// Evaluations since the best.
    without_best: u32,
}

impl Validations {
    /// Those of a search of which these are stored.
    pub(super) fn new(spec: &SearchSpec, mut stored: Vec<Arc<Validation>>) -> Self {
        let plan = spec.validation();
        let microbatches = plan.as_ref().map(|plan| plan.microbatches.as_slice().into()).unwrap_or_default();
        let max_train_steps = spec.options.max_train_steps;
        let mut new = Self { plan, microbatches, max_train_steps, last: None, best: None, without_best: 0 };
        stored.sort_by_key(|validation| validation.step);
        stored.into_iter().for_each(|validation| new.add(validation));
        new
    }

    /// The evaluation of the lowest loss.
    pub(super) fn best(&self) -> Option<Arc<Validation>> {
        self.best.clone()
    }

    /// What an evaluation computes.
    pub(super) fn microbatches(&self) -> Arc<[Microbatch]> {
        Arc::clone(&self.microbatches)
    }

    /// What is to be evaluated after so many steps, unless it has been.
    pub(super) fn due(&self, step: u64) -> Option<Arc<[Microbatch]>> {
        let plan = self.plan.as_ref()?;
        let due = plan.is_due(step, self.max_train_steps) && self.last.is_none_or(|last| last < step);
        due.then(|| Arc::clone(&self.microbatches))
    }

    /// The rates to evaluate: the search's, and before the first evaluation those to compare them with.
    pub(super) fn variants(&self, rates: &[f64], live: &[bool]) -> Vec<Vec<f32>> {
        let baselines = if self.last.is_none() { &BASELINES[..] } else { &[] };
        let all = |rate: f64| live.iter().map(|live| if *live { rate as f32 } else { 0.0 }).collect();
        let current = rates.iter().map(|rate| *rate as f32).collect();
        std::iter::once(current).chain(baselines.iter().copied().map(all)).collect()
    }

    /// What a complete evaluation comes to.
    pub(super) fn validation(&self, state: &State, evaluation: &Evaluation) -> Result<Validation, Error> {
        let mut means = Vec::new();
        let mut samples = 0;
        for losses in evaluation.losses() {
            let mean = losses.mean();
            if let Some(value) = [mean.0, mean.1].into_iter().find(|value| !value.is_finite()) {
                return Err(Error::Diverged { what: "the held-out loss", value, step: state.step });
            }
            samples = losses.samples();
            means.push(mean);
        }
        let (loss, standard_error) = means.first().copied().unwrap_or_default();
        let baseline = |(&rate, &(loss, standard_error)): (&f64, &(f64, f64))| Baseline { rate, loss, standard_error };
        Ok(Validation {
            step: state.step,
            loss,
            standard_error,
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
            rates: state.rates.clone(),
            baselines: BASELINES.iter().zip(means.iter().skip(1)).map(baseline).collect(),
        })
    }

    /// Counts an evaluation that is stored.
    pub(super) fn add(&mut self, validation: Arc<Validation>) {
        self.last = Some(validation.step);
        if self.best.as_ref().is_none_or(|best| validation.loss < best.loss) {
            self.best = Some(validation);
            self.without_best = 0;
        } else {
            self.without_best += 1;
        }
    }

    /// Why the search is to end before its last step, if it is.
    pub(super) fn enough(&self) -> Option<String> {
        let patience = self.plan.as_ref()?.early_stop;
        let best = self.best.as_ref().filter(|_| patience > 0 && self.without_best >= patience)?;
        Some(format!(
            "stopped early: the held-out loss has not improved in {} evaluations; the best was at step {}",
            self.without_best, best.step
        ))
    }
}
