//! Euler's method along the probability flow (Karras et al., 2022, algorithm 2 without churn), on the timesteps and with
//! the scalings of diffusers' `EulerDiscreteScheduler` under SDXL's published configuration: scaled-linear betas,
//! leading timesteps with offset 1, linear interpolation, a last sigma of 0.

use super::{Error, MAX_STEPS};
use crate::diffusion::{NoiseSchedule, TIMESTEPS};

/// Added to every timestep.
const OFFSET: u32 = 1;

/// The course of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Euler {
    /// What the model is shown at, falling.
    timesteps: Vec<u32>,
    /// Noise over signal at each of them, and 0 after the last.
    sigmas: Vec<f32>,
}

impl Euler {
    /// A course of so many steps.
    ///
    /// # Errors
    /// [`Error::Range`] for fewer than 1 or more than 999.
    pub fn new(steps: u32) -> Result<Self, Error> {
        if !(1..=MAX_STEPS).contains(&steps) {
            let range = format!("from 1 to {MAX_STEPS}");
            return Err(Error::Range { name: "steps", value: steps.to_string(), range });
        }
        let stride = TIMESTEPS / steps;
        let timesteps: Vec<u32> = (0..steps).rev().map(|step| step * stride + OFFSET).collect();
        let acp = NoiseSchedule::sdxl().alphas_cumprod();
        // Timesteps are whole, so that interpolating between the table's entries is reading one.
        let sigma = |t: &u32| acp.get(*t as usize).map_or(0.0, |acp| ((1.0 - acp) / acp).sqrt());
        let sigmas = timesteps.iter().map(sigma).chain([0.0]).collect();
        Ok(Self { timesteps, sigmas })
    }

    /// The timesteps, one a step.
    #[must_use]
    pub fn timesteps(&self) -> &[u32] {
        &self.timesteps
    }

    /// Noise over signal at each timestep, and 0 at the end.
    #[must_use]
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn sigma(&self, step: usize) -> f64 {
        self.sigmas.get(step).copied().map_or(0.0, f64::from)
    }

    /// Scales standard normals to what the first step begins with.
    pub fn begin(&self, noise: &mut [f32]) {
        let scale = (self.sigma(0).powi(2) + 1.0).sqrt();
        noise.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }

    /// What the model is shown in a step, counted from 0.
    #[must_use]
    pub fn shown(&self, step: usize, latents: &[f32]) -> Vec<f32> {
        let scale = (self.sigma(step).powi(2) + 1.0).sqrt().recip();
        latents.iter().map(|value| (f64::from(*value) * scale) as f32).collect()
    }

    /// Makes a step, counted from 0, along the model's prediction of noise, or of velocity.
    pub fn step(&self, step: usize, latents: &mut [f32], prediction: &[f32], velocity: bool) {
        let (sigma, next) = (self.sigma(step), self.sigma(step + 1));
        let variance = sigma * sigma + 1.0;
        for (latent, output) in latents.iter_mut().zip(prediction) {
            let (x, output) = (f64::from(*latent), f64::from(*output));
            let slope = match velocity {
                false => output,
                true => {
                    let denoised = x / variance - output * sigma / variance.sqrt();
                    (x - denoised) / sigma
                }
            };
            *latent = (x + slope * (next - sigma)) as f32;
        }
    }
}

/// Guides the prediction for a prompt away from that for its negative: `negative + scale (positive - negative)` (Ho and
/// Salimans, 2022). `both` is `[2, n]`, the negative first.
#[must_use]
pub fn guided(both: &[f32], scale: f64) -> Vec<f32> {
    let (negative, positive) = both.split_at(both.len() / 2);
    let guide = |(n, p): (&f32, &f32)| (f64::from(*n) + scale * (f64::from(*p) - f64::from(*n))) as f32;
    negative.iter().zip(positive).map(guide).collect()
}
