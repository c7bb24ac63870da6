//! What every step of a search computes: a pure function of the images, the seed and the step.
//!
//! In every epoch each image appears `repeats` times. What shares a bucket is shuffled and cut into batches, the last
//! of them maybe short; the batches of all buckets are shuffled, and a step takes the next `accumulation` of them. How
//! many workers there are never enters.

use crate::diffusion;
use crate::noise::{self, Key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most samples that an epoch may have. A step is planned in time and memory proportional to them.
pub const MAX_SAMPLES: usize = 10_000_000;

/// Why there can be no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No image, or none with repeats.
    #[error("there is nothing to plan: no image has any repeats")]
    NoImages,
    /// More than [`MAX_SAMPLES`] samples in an epoch.
    #[error("an epoch has {0} samples, repeats counted; it may have {MAX_SAMPLES} at most: lower the repeats")]
    TooManySamples(u64),
    /// A batch of no samples.
    #[error("train_batch_size is 0; it must be at least 1")]
    NoBatch,
    /// A step of no batches.
    #[error("gradient_accumulation_steps is 0; it must be at least 1")]
    NoAccumulation,
    /// Timesteps that are none, or not those of the process.
    #[error(
        "min_timestep {min} and max_timestep {max} leave no timestep; it must be min < max <= {end}",
        end = diffusion::TIMESTEPS
    )]
    Timesteps {
        /// The first timestep.
        min: u32,
        /// The one after the last.
        max: u32,
    },
}

/// What the plan needs to know of an image; its place in the list is the image's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanImage {
    /// Width and height of its bucket, in pixels.
    pub bucket: (u32, u32),
    /// How often an epoch shows it.
    pub repeats: u32,
}

/// What decides a plan besides the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// Samples in a microbatch, at most.
    pub batch_size: u32,
    /// Microbatches in a step, at most.
    pub accumulation: u32,
    /// Seed of the search.
    pub seed: u64,
    /// Mirrors one sample in two.
    pub flip_aug: bool,
    /// First timestep that may be drawn.
    pub min_timestep: u32,
    /// One after the last timestep that may be drawn; 1000 at most.
    pub max_timestep: u32,
    /// How timesteps are drawn.
    pub timestep_sampling: TimestepSampling,
    /// How noise is drawn.
    pub noise_sampling: NoiseSampling,
}

/// How the timesteps of a step are drawn. Each by itself is uniform over the range either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSampling {
    /// Every sample's for itself, as the reference does.
    #[default]
    Uniform,
    /// The samples of a step, all its microbatches together, get one each of as many equal parts of the range, in random
    /// order.
    Stratified,
}

/// How noise is drawn. Each sample's is standard normal either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseSampling {
    /// Anew for every use of a picture, as the reference does.
    #[default]
    Independent,
    /// Every second epoch repeats the one before it in order, with the noise negated and the timesteps mirrored in the
    /// range: `t` becomes `min + max - 1 - t`.
    Antithetic,
}

/// Makes an option of its names in the order of its values.
macro_rules! named {
    ($type:ident: $($value:ident $name:literal),*; $expected:literal) => {
        impl $type {
            /// As it is written.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $name,)* }
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$value),)*
                    _ => Err($expected.to_owned()),
                }
            }
        }
    };
}

named!(TimestepSampling: Uniform "uniform", Stratified "stratified"; "it must be uniform or stratified");
named!(NoiseSampling: Independent "independent", Antithetic "antithetic"; "it must be independent or antithetic");

/// Width and height in pixels.
type Size = (u32, u32);
/// Number of an image, and which of its repeats.
type Sample = (u32, u32);
/// The samples of every bucket.
type Buckets = BTreeMap<Size, Vec<Sample>>;

/// Samples of one bucket that are computed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Microbatch {
    /// Width and height of all its images, in pixels.
    pub bucket: (u32, u32),
    /// At least one, `batch_size` at most.
    pub samples: Vec<PlanSample>,
}

/// One image in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanSample {
    /// Number of the image.
    pub image: u32,
    /// Which of its repeats, from 0.
    pub repeat: u32,
    /// Mirrored left to right.
    pub flip: bool,
    /// Timestep of its noise.
    pub timestep: u32,
    /// Key of its noise: the seed, the step and the sample, which is `image * 2^32 + repeat`.
    pub noise_key: Key,
    /// Its noise is negated.
    pub negated: bool,
}

/// The plan of a whole search.
#[derive(Clone, Debug)]
pub struct Plan {
    options: PlanOptions,
    buckets: Buckets,
    batches_per_epoch: u64,
}

impl Plan {
    /// The plan over these images.
    ///
    /// # Errors
    /// When there are no samples or too many, or an option is out of range.
    pub fn new(images: &[PlanImage], options: &PlanOptions) -> Result<Self, Error> {
        let &PlanOptions { batch_size, accumulation, min_timestep: min, max_timestep: max, .. } = options;
        if batch_size == 0 {
            return Err(Error::NoBatch);
        }
        if accumulation == 0 {
            return Err(Error::NoAccumulation);
        }
        if min >= max || max > diffusion::TIMESTEPS {
            return Err(Error::Timesteps { min, max });
        }
        let total = images.iter().fold(0_u64, |sum, image| sum.saturating_add(image.repeats.into()));
        match total {
            0 => return Err(Error::NoImages),
            _ if total > MAX_SAMPLES as u64 => return Err(Error::TooManySamples(total)),
            _ => {}
        }
        let mut buckets = Buckets::new();
        for (number, image) in (0..).zip(images).filter(|(_, image)| image.repeats > 0) {
            let samples = (0..image.repeats).map(|repeat| (number, repeat));
            buckets.entry(image.bucket).or_default().extend(samples);
        }
        let batches = buckets.values().map(|samples| (samples.len() as u64).div_ceil(batch_size.into()));
        Ok(Self { batches_per_epoch: batches.sum(), options: options.clone(), buckets })
    }

    /// Microbatches in an epoch.
    #[must_use]
    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// Steps in an epoch; its last may have fewer microbatches than the others.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.batches_per_epoch.div_ceil(self.options.accumulation.into())
    }

    /// The epoch that a step belongs to; both count from 0.
    #[must_use]
    pub fn epoch_of(&self, step: u64) -> u64 {
        step / self.steps_per_epoch()
    }

    /// The microbatches of a step, counted from 0, in the order in which their gradients are summed.
    #[must_use]
    pub fn step(&self, step: u64) -> Vec<Microbatch> {
        let (epoch, within) = (self.epoch_of(step), step % self.steps_per_epoch());
        if self.options.noise_sampling == NoiseSampling::Antithetic && !epoch.is_multiple_of(2) {
            return self.mirrored(step - self.steps_per_epoch());
        }
        let buckets = self.shuffled_buckets(epoch);
        let batches = self.shuffled_batches(epoch, &buckets);
        let accumulation = self.options.accumulation as usize;
        let first = (within as usize).saturating_mul(accumulation);
        let of_step = batches.into_iter().skip(first).take(accumulation);
        let mut batches: Vec<_> = of_step.map(|(bucket, samples)| self.microbatch(step, bucket, samples)).collect();
        if self.options.timestep_sampling == TimestepSampling::Stratified {
            self.stratify(step, &mut batches);
        }
        batches
    }

    /// A step with the noise negated and the timesteps mirrored.
    fn mirrored(&self, step: u64) -> Vec<Microbatch> {
        let PlanOptions { min_timestep: min, max_timestep: max, .. } = self.options;
        let mut batches = self.step(step);
        for sample in batches.iter_mut().flat_map(|batch| &mut batch.samples) {
            sample.negated = true;
            sample.timestep = (min + max - 1).saturating_sub(sample.timestep);
        }
        batches
    }

    /// Gives each sample of a step a timestep of a part of the range of its own.
    fn stratify(&self, step: u64, batches: &mut [Microbatch]) {
        let PlanOptions { min_timestep: min, max_timestep: max, .. } = self.options;
        let count = batches.iter().map(|batch| batch.samples.len()).sum();
        let strata = noise::strata(self.key(step, 0), count);
        let samples = batches.iter_mut().flat_map(|batch| &mut batch.samples);
        for (sample, stratum) in samples.zip(strata) {
            sample.timestep = noise::timestep_of_stratum(sample.noise_key, stratum, count, min, max);
        }
    }

    /// Every bucket's samples in the order of an epoch.
    fn shuffled_buckets(&self, epoch: u64) -> Buckets {
        let mut buckets = self.buckets.clone();
        for (&(width, height), samples) in &mut buckets {
            noise::shuffle(self.key(epoch, pair(width, height)), samples);
        }
        buckets
    }

    /// An epoch's batches in order, each with its bucket.
    fn shuffled_batches<'a>(&self, epoch: u64, buckets: &'a Buckets) -> Vec<(Size, &'a [Sample])> {
        let size = self.options.batch_size as usize;
        let of_bucket = |(bucket, samples): (&Size, &'a Vec<Sample>)| {
            let bucket = *bucket;
            samples.chunks(size).map(move |batch| (bucket, batch))
        };
        let mut batches: Vec<_> = buckets.iter().flat_map(of_bucket).collect();
        // No bucket is 0 x 0, so this key is none of the buckets'.
        noise::shuffle(self.key(epoch, 0), &mut batches);
        batches
    }

    fn key(&self, step: u64, sample: u64) -> Key {
        Key { seed: self.options.seed, step, sample }
    }

    fn microbatch(&self, step: u64, bucket: Size, samples: &[Sample]) -> Microbatch {
        let samples = samples.iter().map(|&(image, repeat)| self.sample(step, image, repeat)).collect();
        Microbatch { bucket, samples }
    }

    /// What a sample draws in a step, whatever stands around it.
    fn sample(&self, step: u64, image: u32, repeat: u32) -> PlanSample {
        let PlanOptions { flip_aug, min_timestep, max_timestep, .. } = self.options;
        let noise_key = self.key(step, pair(image, repeat));
        PlanSample {
            image,
            repeat,
            flip: flip_aug && noise::flip(noise_key),
            timestep: noise::timestep(noise_key, min_timestep, max_timestep),
            noise_key,
            negated: false,
        }
    }
}

/// Two numbers as one.
fn pair(high: u32, low: u32) -> u64 {
    (u64::from(high) << 32) | u64::from(low)
}

#[cfg(test)]
mod tests;
