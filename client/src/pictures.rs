//! Pictures at given rates, without a search: a model on its device, and prompts.

use crate::failure::Failure;
use lora_rates_common::block::BLOCKS;
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::network::{self, Network, Unmatched};
use lora_rates_common::picture::RgbImage;
use lora_rates_common::sampling::Prompt;
use lora_rates_common::spec::Precision;
use lora_rates_common::tokenizer::{TokenLength, Tokenizers};
use lora_rates_worker::device::{self, Device};
use lora_rates_worker::engine::{EngineOptions, GradientEngine};
use lora_rates_worker::sampler::{self, Task};
use lora_rates_worker::source::Source;
use std::path::PathBuf;

/// What pictures are sampled with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    /// A single-file checkpoint or a diffusers folder.
    pub model: PathBuf,
    /// Another VAE than the checkpoint's.
    pub vae: Option<PathBuf>,
    /// The networks, in the order of their rates; may be none.
    pub networks: Vec<PathBuf>,
    /// Leave out keys of networks that match no layer.
    pub skip_unmatched_keys: bool,
    /// Where to compute; none: on the first GPU, else on the CPU.
    pub device: Option<Device>,
    /// What the model is computed in.
    pub precision: Precision,
    /// The model predicts velocity, not noise.
    pub v_parameterization: bool,
    /// Tokens of a prompt that are read.
    pub max_token_length: TokenLength,
}

/// A model with its networks, ready to sample.
pub struct Sampler {
    engine: Box<dyn GradientEngine>,
    tokenizers: Tokenizers,
    networks: usize,
    velocity: bool,
    length: TokenLength,
}

impl Sampler {
    /// Loads the model onto its device and attaches the networks.
    ///
    /// # Errors
    /// A file is missing, broken or doesn't fit the others, or the device can't compute it.
    pub fn load(base: &Base) -> Result<Self, Failure> {
        let checkpoint = match &base.vae {
            Some(vae) => Checkpoint::open_with_vae(&base.model, vae)?,
            None => Checkpoint::open(&base.model)?,
        };
        let unmatched = if base.skip_unmatched_keys { Unmatched::Skip } else { Unmatched::Refuse };
        let networks: Vec<Network> = match base.networks.is_empty() {
            true => Vec::new(),
            false => {
                network::open_all(&base.networks, checkpoint.config(), unmatched).map_err(|error| match error {
                    network::Error::SameFile { .. } => Failure::usage(error),
                    error => error.into(),
                })?
            }
        };
        // Checkpointing is for gradients.
        let options = EngineOptions { precision: base.precision, ..Default::default() };
        let device = base.device.unwrap_or_else(device::best);
        let mut engine = device::load(device, Source::Checkpoint(Box::new(checkpoint)), options)?;
        engine.attach(&networks)?;
        tracing::info!("the model is on {}", engine.device());
        Ok(Self {
            engine,
            tokenizers: Tokenizers::new()?,
            networks: networks.len(),
            velocity: base.v_parameterization,
            length: base.max_token_length,
        })
    }

    /// How many rates there are: 20 N.
    pub fn rates(&self) -> usize {
        BLOCKS * self.networks
    }

    /// Samples the picture of a prompt under these 20 N rates. `seed` is for a prompt without one. `told` hears of the
    /// steps done, and of how many.
    ///
    /// # Errors
    /// The prompt or the rates make no sense, or the engine fails.
    pub fn picture(
        &mut self,
        prompt: &Prompt,
        seed: u64,
        rates: &[f64],
        told: &mut dyn FnMut(usize, usize),
    ) -> Result<RgbImage, Failure> {
        prompt.validate()?;
        let tokens = |text: &str| self.tokenizers.encode(text, self.length);
        let prompts = [tokens(&prompt.negative_prompt)?, tokens(&prompt.prompt)?];
        let task = Task::new(prompt, prompts, seed, self.velocity)?;
        let rates: Vec<f32> = rates.iter().map(|rate| *rate as f32).collect();
        let mut goes_on = |done, total| {
            told(done, total);
            true
        };
        let picture = sampler::picture(self.engine.as_mut(), &task, &rates, &mut goes_on)?;
        picture.ok_or(Failure::Interrupted)
    }
}
