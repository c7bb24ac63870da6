//! The loss of a prediction and its gradient: pure arithmetic in f64, the same for every engine.

use super::{Error, Microbatch};
use lora_rates_common::diffusion::{LossOptions, NoiseSchedule};
use rayon::prelude::*;

/// A judged prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Mean squared error of each sample.
    pub mse: Vec<f64>,
    /// Factor times error of each sample, its weight in the factor.
    pub losses: Vec<f64>,
    /// Mean over the samples of factor times error.
    pub loss: f64,
    /// Gradient of `loss` by the prediction, in its shape.
    pub grad: Vec<f32>,
}

/// What the model is shown: `sqrt(acp) latents + sqrt(1 - acp) noise`, in the shape of the latents.
///
/// # Errors
/// A timestep out of range.
pub fn noisy(batch: &Microbatch) -> Result<Vec<f32>, Error> {
    let schedule = NoiseSchedule::sdxl();
    let size = (batch.latents.len() / batch.timesteps.len().max(1)).max(1);
    let mut noisy = vec![0.0; batch.latents.len()];
    let mixes = batch.timesteps.iter().map(|timestep| schedule.mix(*timestep)).collect::<Result<Vec<_>, _>>();
    let mixes = mixes.map_err(request)?;
    let samples = batch.latents.par_chunks(size).zip(batch.noise.par_chunks(size)).zip(&mixes);
    noisy.par_chunks_mut(size).zip(samples).for_each(|(noisy, ((latents, noise), mix))| {
        let both = latents.iter().zip(noise);
        noisy.iter_mut().zip(both).for_each(|(y, (x, n))| *y = mix.noisy((*x).into(), (*n).into()) as f32);
    });
    Ok(noisy)
}

/// What the loss's gradient by a prediction follows from: `slope (prediction - target)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Aim {
    /// The noise, or the velocity, in the shape of the latents.
    pub target: Vec<f32>,
    /// Of each sample.
    pub slopes: Vec<f32>,
}

/// Says it before there is a prediction, for engines that compare where they predict.
///
/// # Errors
/// A timestep out of range.
pub fn aim(batch: &Microbatch, options: &LossOptions) -> Result<Aim, Error> {
    let schedule = NoiseSchedule::sdxl();
    let size = (batch.latents.len() / batch.timesteps.len().max(1)).max(1);
    let mut target = batch.noise.clone();
    let samples = batch.timesteps.par_iter().zip(target.par_chunks_mut(size)).zip(batch.latents.par_chunks(size));
    let slopes = samples.enumerate().map(|(sample, ((timestep, target), latents))| {
        if options.v_parameterization {
            let mix = schedule.mix(*timestep).map_err(request)?;
            target.iter_mut().zip(latents).for_each(|(n, x)| *n = mix.velocity((*x).into(), (*n).into()) as f32);
        }
        Ok(slope(batch, factor(batch, sample, options)?, size) as f32)
    });
    let slopes: Vec<Result<f32, Error>> = slopes.collect();
    Ok(Aim { slopes: slopes.into_iter().collect::<Result<_, _>>()?, target })
}

fn request(error: lora_rates_common::diffusion::Error) -> Error {
    Error::Request(error.to_string())
}

/// A sample's factor, its weight in it.
fn factor(batch: &Microbatch, sample: usize, options: &LossOptions) -> Result<f64, Error> {
    let weight = batch.loss_weights.get(sample).copied().unwrap_or(1.0);
    options.factor(batch.timesteps[sample], weight).map_err(request)
}

/// Derivative of the loss by the prediction over its distance from the target, in a sample of so many numbers.
fn slope(batch: &Microbatch, factor: f64, size: usize) -> f64 {
    2.0 * factor / (size as f64 * batch.timesteps.len() as f64)
}

/// Compares a prediction with its target: the noise, or the velocity.
///
/// # Errors
/// A timestep out of range, or a prediction that is not finite.
pub fn judge(batch: &Microbatch, options: &LossOptions, prediction: &[f32]) -> Result<Judged, Error> {
    let schedule = NoiseSchedule::sdxl();
    let samples = batch.timesteps.len();
    if [batch.latents.len(), batch.noise.len()] != [prediction.len(); 2] || !prediction.len().is_multiple_of(samples) {
        return Err(Error::Request("the prediction has another shape than the latents".into()));
    }
    let size = (prediction.len() / samples.max(1)).max(1);
    let mut grad = vec![0.0; prediction.len()];
    let one = |(sample, (timestep, grad)): (usize, (&u32, &mut [f32]))| {
        let range = sample * size..(sample + 1) * size;
        let (prediction, latents, noise) =
            (&prediction[range.clone()], &batch.latents[range.clone()], &batch.noise[range]);
        let mix = schedule.mix(*timestep).map_err(request)?;
        let factor = factor(batch, sample, options)?;
        let difference = |((p, x), n): ((&f32, &f32), &f32)| {
            let (x, n) = (f64::from(*x), f64::from(*n));
            f64::from(*p) - if options.v_parameterization { mix.velocity(x, n) } else { n }
        };
        let slope = slope(batch, factor, size);
        // One pass: the sum's additions must wait for each other, and the gradient is computed meanwhile.
        let mut squares = 0.0;
        for (to, d) in grad.iter_mut().zip(prediction.iter().zip(latents).zip(noise).map(difference)) {
            squares += d * d;
            *to = (slope * d) as f32;
        }
        let mse = squares / size as f64;
        if !mse.is_finite() {
            return Err(Error::NotFinite { sample, timestep: *timestep });
        }
        Ok((mse, factor * mse))
    };
    // Sample by sample beside each other, added up in their order.
    let places = batch.timesteps.par_iter().zip(grad.par_chunks_mut(size)).enumerate();
    let judged: Vec<Result<(f64, f64), Error>> = places.map(one).collect();
    let (mse, losses): (Vec<_>, Vec<_>) = judged.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let loss = losses.iter().map(|loss| loss / samples as f64).sum();
    Ok(Judged { mse, losses, loss, grad })
}
