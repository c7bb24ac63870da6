//! The trajectory of a search over synthetic workers by its definition: no coordinator, no workers, no faults.

use crate::synthetic::answer::{gradient, losses, planned_seed};
use lora_rates_common::convert::{Baseline, StepRecord, Validation};
use lora_rates_common::optimizer::State;
use lora_rates_common::plan::Microbatch;
use lora_rates_common::schedule::Schedule;
use lora_rates_common::spec::SearchSpec;
use lora_rates_common::validation::{BASELINES, Losses};
use lora_rates_common::{penalty, plan::Plan};

/// What a search must come to, to the bit.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// Its steps.
    pub steps: Vec<StepRecord>,
    /// Its evaluations.
    pub validations: Vec<Validation>,
}

/// The trajectory of a search.
///
/// # Panics
/// When the search makes no sense.
#[must_use]
pub fn trajectory(spec: &SearchSpec) -> Trajectory {
    let plan = spec.plan().expect("a plan");
    let schedule = spec.schedule().expect("a schedule");
    let mut state = State::new(spec.live().len());
    state.rates = spec.initial_rates();
    let mut validations = Vec::new();
    let mut steps = Vec::new();
    for step in 0..spec.options.max_train_steps {
        validations.extend(evaluation(spec, &state, validations.is_empty()));
        steps.push(make_step(spec, &plan, &schedule, &mut state, step));
    }
    validations.extend(evaluation(spec, &state, validations.is_empty()));
    Trajectory { steps, validations }
}

fn seeds(batch: &Microbatch) -> Vec<f64> {
    batch.samples.iter().map(planned_seed).collect()
}

fn single(rates: &[f64]) -> Vec<f32> {
    rates.iter().map(|rate| *rate as f32).collect()
}

fn make_step(spec: &SearchSpec, plan: &Plan, schedule: &Schedule, state: &mut State, step: u64) -> StepRecord {
    let live = spec.live();
    let rates = single(&state.rates);
    let batches = plan.step(step);
    let samples: usize = batches.iter().map(|batch| batch.samples.len()).sum();
    let results: Vec<_> = batches.iter().map(|batch| gradient(&rates, &seeds(batch))).collect();
    let count = results.len() as f64;
    let of_penalty = penalty::live_gradient(&state.rates, spec.options.application_loss_weight, &live);
    let slots = 0..live.len();
    let mean = |slot: usize| results.iter().fold(0.0, |sum, (.., gradient)| sum + gradient[slot]) / count;
    let gradient: Vec<f64> = slots.clone().map(|slot| mean(slot) + of_penalty[slot]).collect();
    let penalty = penalty::live_value(&state.rates, &live);
    spec.options.optimizer.step(state, &gradient, schedule.rate(step), &live).expect("finite gradients");
    let of_live = slots.filter(|slot| live[*slot]);
    StepRecord {
        step: step + 1,
        loss: results.iter().map(|(_, loss, _)| loss).sum::<f64>() / count,
        penalty,
        learning_rate: schedule.rate(step),
        gradient_norm: of_live.map(|slot| gradient[slot] * gradient[slot]).sum::<f64>().sqrt(),
        samples: u32::try_from(samples).expect("few samples"),
        rates: state.rates.clone(),
    }
}

/// The evaluation before the step that the state has come to, if one is due.
fn evaluation(spec: &SearchSpec, state: &State, is_first: bool) -> Option<Validation> {
    let validation = spec.validation()?;
    if !validation.is_due(state.step, spec.options.max_train_steps) {
        return None;
    }
    let live = spec.live();
    let all = |rate: f64| live.iter().map(|live| if *live { rate } else { 0.0 }).collect::<Vec<_>>();
    let of = |rates: &[f64]| {
        let rates = single(rates);
        let losses: Vec<f64> = validation.microbatches.iter().flat_map(|it| losses(&rates, &seeds(it))).collect();
        Losses::new(&validation.microbatches, &losses).mean()
    };
    let baseline = |rate: f64| {
        let (loss, standard_error) = of(&all(rate));
        Baseline { rate, loss, standard_error }
    };
    let (loss, standard_error) = of(&state.rates);
    Some(Validation {
        step: state.step,
        loss,
        standard_error,
        samples: u32::try_from(validation.samples()).expect("few samples"),
        rates: state.rates.clone(),
        baselines: if is_first { BASELINES.map(baseline).to_vec() } else { Vec::new() },
    })
}

/// All numbers of steps, to the bit: floats that are equal may still differ.
#[must_use]
pub fn bits(steps: &[StepRecord]) -> Vec<u64> {
    let of = |it: &StepRecord| {
        let scalars = [it.loss, it.penalty, it.learning_rate, it.gradient_norm];
        let floats = scalars.into_iter().chain(it.rates.iter().copied()).map(f64::to_bits);
        [it.step, it.samples.into()].into_iter().chain(floats).collect::<Vec<_>>()
    };
    steps.iter().flat_map(of).collect()
}
