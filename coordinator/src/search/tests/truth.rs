//! What a search must come to, by its definition, and what a flawless worker answers to everything it is asked.

use crate::search::{Command, Event};
use crate::testing::{compute, evaluate, spec, trajectory, validations};
use lora_rates_common::convert::{Encoded, Evaluate, Evaluated, Gradient, Lease, Rates, StepRecord, Validation};
use lora_rates_common::plan::Microbatch;
use lora_rates_common::spec::SearchSpec;
use lora_rates_common::validation::BASELINES;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Truth {
    pub(super) spec: Arc<SearchSpec>,
    pub(super) records: Vec<StepRecord>,
    pub(super) validations: Vec<Validation>,
    /// Why it ends before its last step, if it does.
    pub(super) ending: Option<String>,
    /// By steps done: what workers are told.
    pub(super) rates: Vec<Vec<f32>>,
    /// By step: what is leased, and the answers.
    pub(super) steps: Vec<Vec<(Microbatch, Gradient)>>,
    /// By steps done: what is leased, and the answers.
    pub(super) evaluations: BTreeMap<u64, Vec<(Evaluate, Evaluated)>>,
}

impl Truth {
    pub(super) fn new(spec: SearchSpec) -> Self {
        let mut records = trajectory(&spec);
        let mut validations = validations(&spec, &records);
        let ending = stop_early(&spec, &mut validations);
        if ending.is_some() {
            let last = validations.last().map_or(0, |it| it.step);
            records.retain(|record| record.step <= last);
        }
        let rates: Vec<Vec<f32>> = std::iter::once(spec.initial_rates())
            .chain(records.iter().map(|record| record.rates.clone()))
            .map(|rates| rates.into_iter().map(|rate| rate as f32).collect())
            .collect();
        let plan = spec.plan().unwrap();
        let answers = |(step, rates): (u64, &Vec<f32>)| {
            let rates = Rates { search_id: "s".into(), step, rates: rates.clone() };
            let answer = |(microbatch, batch): (u32, Microbatch)| {
                let lease = Lease { search_id: "s".into(), step, microbatch, batch: batch.clone() };
                (batch, compute(&rates, &lease))
            };
            (0..).zip(plan.step(step)).map(answer).collect()
        };
        let steps = (0..).zip(&rates).map(answers).collect();
        let evaluations =
            validations.iter().map(|it| (it.step, evaluation(&spec, it.step, &rates[it.step as usize]))).collect();
        Self { spec: Arc::new(spec), records, validations, ending, rates, steps, evaluations }
    }

    /// What a flawless worker answers.
    pub(super) fn answer(&self, told: &Command) -> Event {
        match told {
            Command::Lease(worker, lease) => {
                let (_, gradient) = &self.steps[lease.step as usize][lease.microbatch as usize];
                Event::Computed(*worker, gradient.clone())
            }
            Command::Evaluate(worker, asked) => {
                let (_, evaluated) = &self.evaluations[&asked.step][asked.item as usize];
                Event::Evaluated(*worker, evaluated.clone())
            }
            Command::Encode(worker, asked) => {
                let (image, flip) = (asked.image, asked.flip);
                Event::Encoded(*worker, Encoded { search_id: asked.search_id.clone(), image, flip })
            }
            other => panic!("no work: {other:?}"),
        }
    }
}

/// What is leased in an evaluation, and the answers.
fn evaluation(spec: &SearchSpec, step: u64, rates: &[f32]) -> Vec<(Evaluate, Evaluated)> {
    let all = |rate: f64| spec.live().iter().map(|live| f32::from(*live) * rate as f32).collect::<Vec<_>>();
    let baselines = if step == 0 { &BASELINES[..] } else { &[] };
    let variants = std::iter::once(rates.to_vec()).chain(baselines.iter().copied().map(all));
    let batches = spec.validation().unwrap().microbatches;
    let pairs = variants.flat_map(|rates| batches.iter().map(move |batch| (rates.clone(), batch.clone())));
    let asked = |(item, (rates, batch))| Evaluate { search_id: "s".into(), step, item, rates, batch };
    (0..).zip(pairs).map(asked).map(|asked| (asked.clone(), evaluate(&asked))).collect()
}

/// Cuts off what comes after the evaluation at which patience ends.
fn stop_early(spec: &SearchSpec, validations: &mut Vec<Validation>) -> Option<String> {
    let patience = spec.options.early_stop as usize;
    let best_until = |end: usize| (0..=end).min_by(|a, b| validations[*a].loss.total_cmp(&validations[*b].loss));
    let mut stops = (0..validations.len()).filter_map(|end| Some((end, best_until(end)?)));
    let (end, best) = stops.find(|(end, best)| patience > 0 && end - best == patience)?;
    let best = validations[best].step;
    validations.truncate(end + 1);
    (validations[end].step < spec.options.max_train_steps).then(|| {
        format!(
            "stopped early: the held-out loss has not improved in {patience} evaluations; the best was at step {best}"
        )
    })
}

/// A small search of one network, three steps of three microbatches or so.
fn small() -> SearchSpec {
    let mut spec = spec();
    spec.networks.truncate(1);
    spec.images.truncate(5);
    spec.options.train_batch_size = 8;
    spec.options.max_train_steps = 3;
    spec.options.flip_aug = false;
    for (image, bucket) in spec.images.iter_mut().zip([(64, 64), (64, 96), (96, 64), (64, 64), (96, 64)]) {
        image.fit.bucket = bucket;
    }
    spec
}

/// Small searches of every kind: plain ones, with pictures to encode, with evaluations, and one that stops early.
pub(super) fn all() -> Vec<Truth> {
    let mut plain = small();
    plain.options.cache_latents = false;
    let encoded = small();
    let mut validated = small();
    validated.options.validation_split = 0.2;
    validated.options.validate_every_n_steps = 2;
    let mut stopped = validated.clone();
    stopped.options.validate_every_n_steps = 1;
    stopped.options.early_stop = 2;
    stopped.options.max_train_steps = 6;
    stopped.options.learning_rate.learning_rate = 10.0;
    [plain, encoded, validated, stopped].into_iter().map(Truth::new).collect()
}

#[test]
fn the_small_searches_have_something_of_everything() {
    let all = all();
    assert!(all.iter().all(|truth| truth.steps[0].len() > 1 && truth.records.len() > 1));
    assert_eq!(all[0].spec.encodings().len(), 0);
    assert_eq!(all[1].spec.encodings().len(), 5);
    assert_eq!(all[2].validations.len(), 3);
    assert!(all[3].ending.is_some(), "{:?}", all[3].validations);
    assert!(all[3].records.len() < 6);
}
