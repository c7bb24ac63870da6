//! Every random number of a search, each a pure function of its key.
//!
//! A draw is the beginning of the ChaCha12 stream whose 32-byte key is (seed, domain, step, sample), so it depends on
//! nothing else: neither on which worker draws, nor in what order, nor on what was drawn before.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

/// What a draw is for; each has streams of its own. The numbers are part of the results: never change or reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Domain {
    LatentNoise = 1,
    NoiseOffset = 2,
    Timestep = 3,
    PosteriorNoise = 4,
    Flip = 5,
    Shuffle = 6,
    SamplingNoise = 7,
    Strata = 8,
}

/// Which draw of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The search's seed.
    pub seed: u64,
    /// The step, or the epoch for what is drawn once in each; 0 for what is drawn once in a search.
    pub step: u64,
    /// The sample, or whatever else there are several of.
    pub sample: u64,
}

impl Key {
    /// The stream of this key in a domain, from its beginning.
    fn stream(self, domain: Domain) -> ChaCha12Rng {
        let mut bytes = [0; 32];
        let words = [self.seed, domain as u64, self.step, self.sample];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha12Rng::from_seed(bytes)
    }

    fn normals(self, domain: Domain, len: usize) -> Vec<f32> {
        self.stream(domain).sample_iter(StandardNormal).take(len).collect()
    }
}

/// The noise that is added to a sample's latents: `len` standard normals, in the order of `[channels, height, width]`.
#[must_use]
pub fn latent_noise(key: Key, len: usize) -> Vec<f32> {
    key.normals(Domain::LatentNoise, len)
}

/// The noise with which a latent is drawn from the autoencoder's posterior: `len` standard normals.
///
/// An image is encoded once in a search, so `key.step` is 0.
#[must_use]
pub fn posterior_noise(key: Key, len: usize) -> Vec<f32> {
    key.normals(Domain::PosteriorNoise, len)
}

/// What `noise_offset` adds to each channel of a sample's noise: `offset` times a standard normal, one per channel.
#[must_use]
pub fn noise_offset(key: Key, channels: usize, offset: f32) -> Vec<f32> {
    let mut normals = key.normals(Domain::NoiseOffset, channels);
    normals.iter_mut().for_each(|normal| *normal *= offset);
    normals
}

/// The noise that a sample picture begins with: `len` standard normals, in the order of `[channels, height, width]`.
#[must_use]
pub fn sampling_noise(seed: u64, len: usize) -> Vec<f32> {
    Key { seed, step: 0, sample: 0 }.normals(Domain::SamplingNoise, len)
}

/// Adds to each channel of `noise`, of shape `[channels, ..]`, its own number; without channels, nothing.
pub fn add_by_channel(noise: &mut [f32], by_channel: &[f32]) {
    let size = noise.len().checked_div(by_channel.len()).unwrap_or(0).max(1);
    for (channel, added) in noise.chunks_exact_mut(size).zip(by_channel) {
        channel.iter_mut().for_each(|value| *value += added);
    }
}

/// A sample's timestep, uniform in `[min, max)`; `min` if that is empty.
#[must_use]
pub fn timestep(key: Key, min: u32, max: u32) -> u32 {
    if min < max { key.stream(Domain::Timestep).random_range(min..max) } else { min }
}

/// The numbers below `count` in random order, all orders equally likely: which part of the timesteps' range each sample
/// of a step has.
#[must_use]
pub fn strata(key: Key, count: usize) -> Vec<usize> {
    let mut strata: Vec<usize> = (0..count).collect();
    strata.shuffle(&mut key.stream(Domain::Strata));
    strata
}

/// A timestep of one of `count` equal parts of `[min, max)`: of a random part it is uniform in the whole range, also where
/// the parts are no whole number of timesteps.
#[must_use]
pub fn timestep_of_stratum(key: Key, stratum: usize, count: usize, min: u32, max: u32) -> u32 {
    let within: f64 = key.stream(Domain::Timestep).random();
    let place = (stratum as f64 + within) / count.max(1) as f64;
    let steps = f64::from(max.saturating_sub(min));
    (min + (place * steps) as u32).min(max.saturating_sub(1)).max(min)
}

/// Whether a sample is mirrored: one time in two.
#[must_use]
pub fn flip(key: Key) -> bool {
    key.stream(Domain::Flip).random()
}

/// Puts items in random order, all orders equally likely; for an epoch's order, `key.step` is the epoch.
pub fn shuffle<T>(key: Key, items: &mut [T]) {
    items.shuffle(&mut key.stream(Domain::Shuffle));
}

#[cfg(test)]
mod tests;
