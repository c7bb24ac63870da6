//! Evaluation on held-out pictures: which they are, at what noise and timesteps, and what their losses come to.
//!
//! All of it is a pure function of the search. Every evaluation sees the same samples with the same noise, and their
//! timesteps are stratified: one in each of as many equal parts of the range as there are samples.

use crate::diffusion::TIMESTEPS;
use crate::noise::{self, Key};
use crate::plan::{Microbatch, PlanSample};
use crate::spec::{Error, SearchSpec};
use std::collections::BTreeMap;

/// Live rates with which the searched ones are compared.
pub const BASELINES: [f64; 3] = [0.0, 0.5, 1.0];
/// Samples of an evaluation, at least.
const MIN_SAMPLES: usize = 32;
/// Samples of each picture, at least.
const MIN_DRAWS: usize = 4;
/// Keys noise of no step.
const STEP: u64 = 1 << 62;
/// Keys what decides over all samples.
const ALL: u64 = u64::MAX;

/// Checks what a search says of held-out pictures.
pub(crate) fn validate(spec: &SearchSpec) -> Result<(), Error> {
    let options = &spec.options;
    let range = |name, value: String, range| Err(Error::Range { name, value, range });
    if !(0.0..1.0).contains(&options.validation_split) {
        let expected = "a number from 0 to below 1: the part of the pictures that is held out";
        return range("validation_split", options.validation_split.to_string(), expected);
    }
    let held_out = options.validation_split > 0.0;
    if held_out != (options.validate_every_n_steps > 0) {
        let expected = if held_out { "at least 1 with validation_split" } else { "0 without validation_split" };
        return range("validate_every_n_steps", options.validate_every_n_steps.to_string(), expected);
    }
    if options.early_stop > 0 && !held_out {
        return range("early_stop", options.early_stop.to_string(), "0 without validation_split");
    }
    if held_out && spec.images.len() < 2 {
        let expected = "0 with a single picture: there is none to hold out";
        return range("validation_split", options.validation_split.to_string(), expected);
    }
    Ok(())
}

/// Which pictures are held out: the part that the search asks for, at least one and never all, chosen by the seed.
pub fn held_out(spec: &SearchSpec) -> Vec<bool> {
    let count = spec.images.len();
    let mut held_out = vec![false; count];
    let split = spec.options.validation_split;
    if split > 0.0 && count > 1 {
        let wanted = ((count as f64 * split).round() as usize).clamp(1, count - 1);
        let mut order: Vec<usize> = (0..count).collect();
        noise::shuffle(Key { seed: spec.options.seed, step: STEP, sample: ALL }, &mut order);
        order.into_iter().take(wanted).filter_map(|at| held_out.get_mut(at).map(|it| *it = true)).count();
    }
    held_out
}

/// The evaluations of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// What every evaluation computes, of one bucket each.
    pub microbatches: Vec<Microbatch>,
    /// Steps between two.
    pub every: u64,
    /// Evaluations without improvement after which the search ends; 0 for never.
    pub early_stop: u32,
}

impl Validation {
    /// The evaluations of a search; `None` if it has none.
    pub(crate) fn new(spec: &SearchSpec) -> Option<Self> {
        let options = &spec.options;
        let images: Vec<u32> =
            (0..).zip(held_out(spec)).filter(|(_, held_out)| *held_out).map(|(number, _)| number).collect();
        if images.is_empty() || options.validate_every_n_steps == 0 {
            return None;
        }
        let draws = MIN_SAMPLES.div_ceil(images.len()).max(MIN_DRAWS);
        let total = draws * images.len();
        let mut strata: Vec<usize> = (0..total).collect();
        noise::shuffle(Key { seed: options.seed, step: STEP + 1, sample: ALL }, &mut strata);
        let mut buckets: BTreeMap<(u32, u32), Vec<PlanSample>> = BTreeMap::new();
        let pairs = (0..draws as u32).flat_map(|repeat| images.iter().map(move |image| (*image, repeat)));
        for ((image, repeat), stratum) in pairs.zip(strata) {
            let Some(bucket) = spec.images.get(image as usize).map(|image| image.fit.bucket) else { continue };
            let noise_key = Key { seed: options.seed, step: STEP, sample: u64::from(image) << 32 | u64::from(repeat) };
            let timestep = timestep(noise_key, stratum, total, options.min_timestep, options.max_timestep);
            let sample = PlanSample { image, repeat, flip: false, timestep, noise_key };
            buckets.entry(bucket).or_default().push(sample);
        }
        let size = options.train_batch_size.max(1) as usize;
        let batches = buckets.into_iter().flat_map(|(bucket, samples)| {
            let batch = |samples: &[PlanSample]| Microbatch { bucket, samples: samples.to_vec() };
            samples.chunks(size).map(batch).collect::<Vec<_>>()
        });
        Some(Self {
            microbatches: batches.collect(),
            every: options.validate_every_n_steps,
            early_stop: options.early_stop,
        })
    }

    /// Samples of an evaluation.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.microbatches.iter().map(|batch| batch.samples.len()).sum()
    }

    /// Whether there is an evaluation after this many of so many steps: at the beginning, every so many, at the end.
    #[must_use]
    pub fn is_due(&self, step: u64, max_train_steps: u64) -> bool {
        step.is_multiple_of(self.every) || step == max_train_steps
    }
}

/// A timestep of one of `total` equal parts of the range.
fn timestep(key: Key, stratum: usize, total: usize, min: u32, max: u32) -> u32 {
    let within = f64::from(noise::timestep(key, 0, TIMESTEPS)) / f64::from(TIMESTEPS);
    let place = (stratum as f64 + within) / total as f64;
    let steps = f64::from(max.saturating_sub(min));
    (min + (place * steps) as u32).min(max.saturating_sub(1)).max(min)
}

/// Mean and standard error of losses; the error is 0 of fewer than two.
#[must_use]
pub fn mean(losses: &[f64]) -> (f64, f64) {
    let count = losses.len().max(1) as f64;
    let mean = losses.iter().sum::<f64>() / count;
    if losses.len() < 2 {
        return (mean, 0.0);
    }
    let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}

#[cfg(test)]
mod tests;
