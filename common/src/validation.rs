//! Evaluation on held-out pictures: which they are, at what noise and timesteps, and what their losses come to.
//!
//! All of it is a pure function of the search. Every evaluation sees the same samples with the same noise. The timesteps
//! of every picture are stratified: one in each of as many equal parts of the range as the picture has samples, so that
//! the mean over them says something of the picture, and little of chance.

mod losses;

pub use losses::Losses;

use crate::diffusion::TIMESTEPS;
use crate::noise::{self, Key};
use crate::plan::{Microbatch, PlanSample};
use crate::spec::{Error, SearchSpec};
use std::collections::BTreeMap;

/// Live rates with which the searched ones are compared.
pub const BASELINES: [f64; 3] = [0.0, 0.5, 1.0];
/// Most samples of a picture that can be asked for.
pub const MAX_SAMPLES_PER_IMAGE: u32 = 4096;
/// Samples of an evaluation, at least, unless the user says how many.
const MIN_SAMPLES: usize = 32;
/// Samples of each picture, at least, likewise.
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
    let of_their_own = spec.images.iter().any(|image| image.held_out);
    if of_their_own && options.validation_split > 0.0 {
        let expected = "0 with held-out pictures of their own";
        return range("validation_split", options.validation_split.to_string(), expected);
    }
    let held_out = of_their_own || options.validation_split > 0.0;
    if held_out != (options.validate_every_n_steps > 0) {
        let expected = if held_out { "at least 1 with held-out pictures" } else { "0 without any" };
        return range("validate_every_n_steps", options.validate_every_n_steps.to_string(), expected);
    }
    if options.early_stop > 0 && !held_out {
        return range("early_stop", options.early_stop.to_string(), "0 without held-out pictures");
    }
    let samples = options.validation_samples_per_image;
    if samples > 0 && !held_out {
        return range("validation_samples_per_image", samples.to_string(), "0 without held-out pictures");
    }
    if samples > MAX_SAMPLES_PER_IMAGE {
        return range("validation_samples_per_image", samples.to_string(), "at most 4096");
    }
    if options.validation_split > 0.0 && spec.images.len() < 2 {
        let expected = "0 with a single picture: there is none to hold out";
        return range("validation_split", options.validation_split.to_string(), expected);
    }
    Ok(())
}

/// Which pictures are held out: those that are so of their own, else the part that the search asks for, at least one and
/// never all, chosen by the seed.
pub fn held_out(spec: &SearchSpec) -> Vec<bool> {
    let count = spec.images.len();
    let mut held_out: Vec<bool> = spec.images.iter().map(|image| image.held_out).collect();
    if held_out.contains(&true) {
        return held_out;
    }
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
        let draws = match options.validation_samples_per_image {
            0 => MIN_SAMPLES.div_ceil(images.len()).max(MIN_DRAWS) as u32,
            draws => draws,
        };
        let mut buckets: BTreeMap<(u32, u32), Vec<PlanSample>> = BTreeMap::new();
        // A picture's repeat is the part of the range that its timestep is of.
        let pairs = (0..draws).flat_map(|repeat| images.iter().map(move |image| (*image, repeat)));
        for (image, repeat) in pairs {
            let Some(bucket) = spec.images.get(image as usize).map(|image| image.fit.bucket) else { continue };
            let noise_key = Key { seed: options.seed, step: STEP, sample: u64::from(image) << 32 | u64::from(repeat) };
            let timestep = timestep(noise_key, repeat, draws, options.min_timestep, options.max_timestep);
            let sample = PlanSample { image, repeat, flip: false, timestep, noise_key, negated: false };
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
fn timestep(key: Key, stratum: u32, total: u32, min: u32, max: u32) -> u32 {
    let within = f64::from(noise::timestep(key, 0, TIMESTEPS)) / f64::from(TIMESTEPS);
    let place = (f64::from(stratum) + within) / f64::from(total);
    let steps = f64::from(max.saturating_sub(min));
    (min + (place * steps) as u32).min(max.saturating_sub(1)).max(min)
}

#[cfg(test)]
mod tests;
