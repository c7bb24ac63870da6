//! The diffusion process of SDXL, and what it makes of a sample's loss.

mod loss;

use std::sync::LazyLock;

pub use loss::LossOptions;

/// Timesteps of the process.
pub const TIMESTEPS: u32 = 1000;

/// The first and the last beta.
const BETAS: (f64, f64) = (0.00085, 0.012);

/// What is wrong with a timestep or with the options of the loss.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A timestep past the end.
    #[error("there is no timestep {0}; the last is {last}", last = TIMESTEPS - 1)]
    Timestep(u32),
    /// An option of the loss outside its range.
    #[error("{name} is {value}; it must be a number {range}")]
    Range {
        /// Name of the option.
        name: &'static str,
        /// What it was given.
        value: f64,
        /// What it may be, in words.
        range: &'static str,
    },
    /// An option that means something for velocity alone.
    #[error("scale_v_pred_loss_like_noise_pred needs v_parameterization: only a velocity's loss can be scaled so")]
    NeedsVelocity,
    /// An option that means something for noise alone.
    #[error("v_pred_like_loss can't go with v_parameterization: the loss is a velocity's already")]
    AlreadyVelocity,
}

/// How latents and noise mix at a timestep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// `sqrt(alphas_cumprod)`.
    pub signal: f64,
    /// `sqrt(1 - alphas_cumprod)`.
    pub noise: f64,
}

impl Mix {
    /// One element of the noisy latents: `signal latent + noise eps`.
    #[must_use]
    pub fn noisy(&self, latent: f64, eps: f64) -> f64 {
        self.signal * latent + self.noise * eps
    }

    /// One element of the velocity: `signal eps - noise latent` (Salimans and Ho, 2022).
    #[must_use]
    pub fn velocity(&self, latent: f64, eps: f64) -> f64 {
        self.signal * eps - self.noise * latent
    }
}

/// The tables of the process, one entry per timestep, in the f32 that the reference keeps them in.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f32>,
    snr: Vec<f32>,
}

impl NoiseSchedule {
    /// DDPM with scaled-linear betas from 0.00085 to 0.012 over 1000 steps.
    #[must_use]
    pub fn sdxl() -> &'static Self {
        static TABLES: LazyLock<NoiseSchedule> = LazyLock::new(NoiseSchedule::compute);
        &TABLES
    }

    /// Computed with the roundings of PyTorch, so that `alphas_cumprod` is the reference's bit for bit: betas in f32
    /// with fused multiply-adds from both ends, their running product in f64.
    fn compute() -> Self {
        let (start, end) = (BETAS.0.sqrt() as f32, BETAS.1.sqrt() as f32);
        let step = (end - start) / (TIMESTEPS - 1) as f32;
        let root = |t: u32| {
            if t < TIMESTEPS / 2 {
                step.mul_add(t as f32, start)
            } else {
                step.mul_add(-((TIMESTEPS - 1 - t) as f32), end)
            }
        };
        let mut product = 1.0_f64;
        let alphas_cumprod: Vec<f32> = (0..TIMESTEPS)
            .map(|t| {
                product *= f64::from(1.0 - root(t) * root(t));
                product as f32
            })
            .collect();
        let snr = alphas_cumprod.iter().map(|acp| (acp.sqrt() / (1.0 - acp).sqrt()).powi(2)).collect();
        Self { alphas_cumprod, snr }
    }

    /// The running product of `1 - beta`, one per timestep.
    #[must_use]
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// The signal-to-noise ratio `alphas_cumprod / (1 - alphas_cumprod)`, one per timestep.
    #[must_use]
    pub fn snr(&self) -> &[f32] {
        &self.snr
    }

    /// How latents and noise mix at this timestep.
    ///
    /// # Errors
    /// [`Error::Timestep`] from 1000 on.
    pub fn mix(&self, timestep: u32) -> Result<Mix, Error> {
        let acp = entry(&self.alphas_cumprod, timestep)?;
        Ok(Mix { signal: acp.sqrt(), noise: (1.0 - acp).sqrt() })
    }
}

/// An entry of a table over the timesteps.
fn entry(table: &[f32], timestep: u32) -> Result<f64, Error> {
    let index = usize::try_from(timestep).ok();
    let found = index.and_then(|index| table.get(index));
    found.map(|value| f64::from(*value)).ok_or(Error::Timestep(timestep))
}

#[cfg(test)]
mod tests;
