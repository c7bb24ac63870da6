//! What a worker that is no model answers: a smooth function of the rates and of each sample.

use lora_rates_common::plan::PlanSample;
use lora_rates_proto::v1;

/// What the answers depend on besides the rates: a number for every sample.
#[must_use]
pub fn seed(sample: &v1::Sample) -> f64 {
    of(sample.image, sample.flip, sample.timestep, sample.noise_step)
}

/// [`seed`], of a sample as it is planned.
#[must_use]
pub fn planned_seed(sample: &PlanSample) -> f64 {
    of(sample.image, sample.flip, sample.timestep, sample.noise_key.step)
}

fn of(image: u32, flip: bool, timestep: u32, step: u64) -> f64 {
    f64::from(timestep) + f64::from(image) * 0.7 + (step % 97) as f64 * 0.3 - f64::from(u8::from(flip))
}

/// The rate that a sample would like in a slot, from 0 to 1.
fn wanted(seed: f64, slot: usize) -> f64 {
    let place = seed * 0.013 + slot as f64 * 0.37;
    // Its fraction, without a call for every number: a step of many workers has hundreds of thousands.
    (place - place as i64 as f64).abs()
}

/// Loss of every sample: the sum over slots of the squared distance to the rate it would like.
#[must_use]
pub fn losses(rates: &[f32], seeds: &[f64]) -> Vec<f64> {
    let slots = |seed: &f64| {
        let error = |(slot, rate): (usize, &f32)| (f64::from(*rate) - wanted(*seed, slot)).powi(2);
        rates.iter().enumerate().map(error).sum()
    };
    seeds.iter().map(slots).collect()
}

/// Loss of every sample, their mean, and its gradient by the rates.
#[must_use]
pub fn gradient(rates: &[f32], seeds: &[f64]) -> (Vec<f64>, f64, Vec<f64>) {
    let count = seeds.len().max(1) as f64;
    let mut losses = vec![0.0; seeds.len()];
    let mut by_rate = |(slot, rate): (usize, &f32)| {
        let mut sum = 0.0;
        for (loss, seed) in losses.iter_mut().zip(seeds) {
            let error = f64::from(*rate) - wanted(*seed, slot);
            *loss += error * error;
            sum += 2.0 * error;
        }
        sum / count
    };
    let gradient = rates.iter().enumerate().map(&mut by_rate).collect();
    let mean = losses.iter().sum::<f64>() / count;
    (losses, mean, gradient)
}
