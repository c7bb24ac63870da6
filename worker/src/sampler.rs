//! Sample pictures: Euler's method with classifier-free guidance over the UNet, then the VAE.

use crate::engine::{Error, GradientEngine, LATENT_CHANNELS, Shown};
use lora_rates_common::picture::{Pixels, RgbImage, from_pixels};
use lora_rates_common::sampling::{self, Euler, LATENT_SIDE, Prompt, guided};
use lora_rates_common::sdxl::config::{LATENT_SCALE, SIZE_NUMBERS};
use lora_rates_common::tokenizer::Tokens;

/// A picture to be sampled, ready for the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The negative prompt and the prompt, of one length.
    pub prompts: [Tokens; 2],
    /// Height and width of the latents.
    pub latent: (usize, usize),
    /// Original height and width, crop top and left, target height and width.
    pub time_ids: [f32; SIZE_NUMBERS],
    /// Standard normals to begin with, `[4, height, width]`.
    pub noise: Vec<f32>,
    /// The guidance's scale.
    pub scale: f64,
    /// The steps.
    pub course: Euler,
    /// The model predicts velocity, not noise.
    pub velocity: bool,
}

impl Task {
    /// A picture of this prompt, whose negative and positive text are tokenised as `prompts`, under its seed or else this
    /// one.
    ///
    /// # Errors
    /// The prompt's number of steps is out of range.
    pub fn new(prompt: &Prompt, prompts: [Tokens; 2], seed: u64, velocity: bool) -> Result<Self, sampling::Error> {
        Ok(Self {
            prompts,
            latent: prompt.latent(),
            time_ids: prompt.time_ids(),
            noise: prompt.noise(LATENT_CHANNELS, seed),
            scale: prompt.scale,
            course: Euler::new(prompt.steps)?,
            velocity,
        })
    }
}

/// The latents of a picture, scaled as the UNet has them, `[4, height, width]`. `goes_on` hears of the steps done, and of
/// how many, and ends it by saying no: then there are none.
///
/// # Errors
/// Those of the engine; [`Error::NotFinite`] when the prediction is.
pub fn latents(
    engine: &mut dyn GradientEngine,
    task: &Task,
    rates: &[f32],
    goes_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Vec<f32>>, Error> {
    let (height, width) = task.latent;
    let mut x = task.noise.clone();
    task.course.begin(&mut x);
    let timesteps = task.course.timesteps();
    for (step, &timestep) in timesteps.iter().enumerate() {
        if !goes_on(step, timesteps.len()) {
            return Ok(None);
        }
        // Both prompts see the same latents.
        let noisy = task.course.shown(step, &x).repeat(2);
        let (timesteps, time_ids) = ([timestep; 2], [task.time_ids; 2]);
        let shown =
            Shown { height, width, noisy: &noisy, timesteps: &timesteps, prompts: &task.prompts, time_ids: &time_ids };
        let prediction = guided(&engine.predict(&shown, rates)?, task.scale);
        if prediction.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { sample: 0, timestep });
        }
        task.course.step(step, &mut x, &prediction, task.velocity);
    }
    Ok(goes_on(timesteps.len(), timesteps.len()).then_some(x))
}

/// The picture of scaled latents `[4, height, width]`: `[3, 8 height, 8 width]`, about -1..1.
///
/// # Errors
/// Those of the engine.
pub fn decode(engine: &mut dyn GradientEngine, latents: &[f32], latent: (usize, usize)) -> Result<Pixels, Error> {
    let (height, width) = latent;
    let unscaled: Vec<f32> = latents.iter().map(|value| (f64::from(*value) / LATENT_SCALE) as f32).collect();
    let data = engine.decode(&unscaled, height, width)?;
    if data.iter().any(|value| !value.is_finite()) {
        return Err(Error::Request("the VAE makes the picture infinite or NaN: try another with --vae".into()));
    }
    // The sides of a prompt are far below what u32 holds.
    let side = |latent: usize| u32::try_from(latent).unwrap_or(u32::MAX).saturating_mul(LATENT_SIDE);
    Ok(Pixels { width: side(width), height: side(height), data })
}

/// Samples a picture; as [`latents`], then [`decode`].
///
/// # Errors
/// Those of both.
pub fn picture(
    engine: &mut dyn GradientEngine,
    task: &Task,
    rates: &[f32],
    goes_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<RgbImage>, Error> {
    let Some(latents) = latents(engine, task, rates, goes_on)? else { return Ok(None) };
    // What the UNet leaves is memory that the VAE may need.
    engine.free_memory();
    Ok(Some(from_pixels(&decode(engine, &latents, task.latent)?)))
}
