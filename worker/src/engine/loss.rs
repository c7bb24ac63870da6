//! The loss of a prediction and its gradient: pure arithmetic in f64, the same for every engine.

use super::{Error, Microbatch};
use lora_rates_common::diffusion::{LossOptions, NoiseSchedule};

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
    let size = batch.latents.len() / batch.timesteps.len().max(1);
    let mut noisy = Vec::with_capacity(batch.latents.len());
    let samples = batch.latents.chunks(size.max(1)).zip(batch.noise.chunks(size.max(1)));
    for ((latents, noise), timestep) in samples.zip(&batch.timesteps) {
        let mix = schedule.mix(*timestep).map_err(|e| Error::Request(e.to_string()))?;
        noisy.extend(latents.iter().zip(noise).map(|(x, n)| mix.noisy((*x).into(), (*n).into()) as f32));
    }
    Ok(noisy)
}

/// Compares a prediction with its target: the noise, or the velocity.
///
/// # Errors
/// A timestep out of range, or a prediction that is not finite.
pub fn judge(batch: &Microbatch, options: &LossOptions, prediction: &[f32]) -> Result<Judged, Error> {
    let request = |e: lora_rates_common::diffusion::Error| Error::Request(e.to_string());
    let schedule = NoiseSchedule::sdxl();
    let samples = batch.timesteps.len();
    let size = (prediction.len() / samples.max(1)).max(1);
    let mut judged =
        Judged { mse: Vec::new(), losses: Vec::new(), loss: 0.0, grad: Vec::with_capacity(prediction.len()) };
    for (sample, timestep) in batch.timesteps.iter().enumerate() {
        let range = sample * size..(sample + 1) * size;
        let parts = (prediction.get(range.clone()), batch.latents.get(range.clone()), batch.noise.get(range));
        let (Some(prediction), Some(latents), Some(noise)) = parts else {
            return Err(Error::Request("the prediction has another shape than the latents".into()));
        };
        let mix = schedule.mix(*timestep).map_err(request)?;
        let weight = batch.loss_weights.get(sample).copied().unwrap_or(1.0);
        let factor = options.factor(*timestep, weight).map_err(request)?;
        let difference = |((p, x), n): ((&f32, &f32), &f32)| {
            let (x, n) = (f64::from(*x), f64::from(*n));
            f64::from(*p) - if options.v_parameterization { mix.velocity(x, n) } else { n }
        };
        let slope = 2.0 * factor / (size as f64 * samples as f64);
        // One pass: the sum's additions must wait for each other, and the gradient is computed meanwhile.
        let mut squares = 0.0;
        judged.grad.extend(prediction.iter().zip(latents).zip(noise).map(difference).map(|d| {
            squares += d * d;
            (slope * d) as f32
        }));
        let mse = squares / size as f64;
        if !mse.is_finite() {
            return Err(Error::NotFinite { sample, timestep: *timestep });
        }
        judged.loss += factor * mse / samples as f64;
        judged.losses.push(factor * mse);
        judged.mse.push(mse);
    }
    Ok(judged)
}
