//! Engines: what computes a microbatch's loss and its gradient by the rates, on one device.

pub mod breakdown;
pub mod burn;
mod columns;
pub mod count;
pub mod cuda;
pub mod loss;

use breakdown::Breakdown;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::network::Network;
use lora_rates_common::picture::Pixels;
use lora_rates_common::sdxl::config::LATENT_SCALE;
use lora_rates_common::spec::Precision;
use lora_rates_common::tokenizer::Tokens;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Channels of a latent.
pub const LATENT_CHANNELS: usize = 4;

/// Why an engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] lora_rates_common::checkpoint::Error),
    /// A network could not be read.
    #[error(transparent)]
    Network(#[from] lora_rates_common::network::Error),
    /// A stored tensor could not be read.
    #[error(transparent)]
    Tensor(#[from] lora_rates_common::tensor_file::Error),
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
    /// The device gave up.
    #[error("the device failed: {0}")]
    Device(String),
    /// The device has too little memory for what it was asked. With fewer samples at once it may succeed.
    #[error("the device is out of memory: {0}")]
    OutOfMemory(String),
    /// The model's output is not a number.
    #[error(
        "the model's prediction is not finite at timestep {timestep} (sample {sample} of the microbatch): with \
         --mixed_precision bf16 try --mixed_precision no; if it stays, the checkpoint or a network is damaged"
    )]
    NotFinite {
        /// Place in the microbatch.
        sample: usize,
        /// Its timestep.
        timestep: u32,
    },
}

/// What the device's libraries say when memory runs out: CubeCL, the CUDA driver, Rust's allocator.
const NO_MEMORY: [&str; 6] =
    ["out of memory", "out_of_memory", "outofmemory", "buffertoobig", "can't allocate buffer", "memory allocation of"];

impl Error {
    /// What a failure of the device in these words means.
    pub fn of_device(words: impl Into<String>) -> Self {
        let words = words.into();
        let lower = words.to_lowercase();
        // The rest is a backtrace.
        let first = || words.lines().next().unwrap_or_default().to_owned();
        if NO_MEMORY.iter().any(|sign| lower.contains(sign)) { Self::OutOfMemory(first()) } else { Self::Device(words) }
    }
}

/// Samples of one bucket, computed together. All pixels, channels and tokens are in row-major order.
#[derive(Clone, Debug, Default)]
pub struct Microbatch {
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Scaled latents `[b, 4, height, width]`.
    pub latents: Vec<f32>,
    /// Noise `[b, 4, height, width]`.
    pub noise: Vec<f32>,
    /// Timesteps `[b]`, below 1000.
    pub timesteps: Vec<u32>,
    /// Prompts `[b]`, all of the same length.
    pub prompts: Vec<Tokens>,
    /// Original height and width, crop top and left, target height and width: `[b]`.
    pub time_ids: Vec<[f32; 6]>,
    /// Weight of each sample's loss: `[b]`.
    pub loss_weights: Vec<f64>,
}

impl Microbatch {
    /// What the model is shown of it, given its noisy latents.
    pub fn shown<'a>(&'a self, noisy: &'a [f32]) -> Shown<'a> {
        let Self { height, width, timesteps, prompts, time_ids, .. } = self;
        Shown { height: *height, width: *width, noisy, timesteps, prompts, time_ids }
    }

    /// Some of its samples; those that are not there are left out.
    pub fn part(&self, samples: Range<usize>) -> Self {
        let size = self.latents.len() / self.timesteps.len().max(1);
        let numbers = samples.start * size..samples.end * size;
        Self {
            height: self.height,
            width: self.width,
            latents: cut(&self.latents, numbers.clone()),
            noise: cut(&self.noise, numbers),
            timesteps: cut(&self.timesteps, samples.clone()),
            prompts: cut(&self.prompts, samples.clone()),
            time_ids: cut(&self.time_ids, samples.clone()),
            loss_weights: cut(&self.loss_weights, samples),
        }
    }

    /// Checks that all parts speak of the same samples.
    ///
    /// # Errors
    /// [`Error::Request`], naming the part.
    pub fn validate(&self, channels: usize) -> Result<(), Error> {
        let batch = self.timesteps.len();
        let pixels = batch.saturating_mul(channels).saturating_mul(self.height).saturating_mul(self.width);
        let parts = [
            ("latents", self.latents.len(), pixels),
            ("noise", self.noise.len(), pixels),
            ("prompts", self.prompts.len(), batch),
            ("time_ids", self.time_ids.len(), batch),
            ("loss_weights", self.loss_weights.len(), batch),
        ];
        if pixels == 0 {
            return Err(Error::Request("the microbatch is empty".into()));
        }
        if let Some((name, got, want)) = parts.into_iter().find(|(_, got, want)| got != want) {
            return Err(Error::Request(format!("{name} of the microbatch has {got} elements instead of {want}")));
        }
        if let Some(t) = self.timesteps.iter().find(|t| **t >= 1000) {
            return Err(Error::Request(format!("timestep {t} of the microbatch is not below 1000")));
        }
        let chunks = self.prompts.first().map_or(0, |tokens| tokens.clip_l.len());
        if self.prompts.iter().any(|tokens| tokens.clip_l.len() != chunks || tokens.clip_g.len() != chunks) {
            return Err(Error::Request("prompts of one microbatch differ in length".into()));
        }
        Ok(())
    }
}

fn cut<T: Clone>(all: &[T], range: Range<usize>) -> Vec<T> {
    all.iter().skip(range.start).take(range.len()).cloned().collect()
}

/// What the model is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Noisy latents `[b, 4, height, width]`.
    pub noisy: &'a [f32],
    /// Timesteps `[b]`.
    pub timesteps: &'a [u32],
    /// Prompts `[b]`, all of the same length.
    pub prompts: &'a [Tokens],
    /// Original height and width, crop top and left, target height and width: `[b]`.
    pub time_ids: &'a [[f32; 6]],
}

/// Prompts as the UNet takes them, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedText {
    /// Both encoders' last-but-one states `[b, 75 k + 2, 2048]`, CLIP-L's channels first.
    pub context: Vec<f32>,
    /// bigG's pooled vector `[b, 1280]`.
    pub pooled: Vec<f32>,
}

/// What a microbatch comes to.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The model's prediction `[b, 4, height, width]`.
    pub prediction: Vec<f32>,
    /// Mean squared error of each sample, unweighted.
    pub mse: Vec<f64>,
    /// Mean over the samples of factor times error: the data loss, without the penalty.
    pub loss: f64,
    /// Its gradient by the 20 N rates, network by network; 0 where a network has no module.
    pub grad: Vec<f64>,
}

/// Mean and log variance of a picture's latents, unscaled: `[8, height, width]`, log variance clamped to -30..20.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Means `[4, height, width]`, then log variances.
    pub values: Vec<f32>,
}

impl Moments {
    /// Draws latents with these standard normals `[4, height, width]` and scales them for the UNet: `[4, height, width]`.
    pub fn sample(&self, noise: &[f32]) -> Vec<f32> {
        let (means, logvars) = self.values.split_at(self.values.len() / 2);
        let draw =
            |((mean, logvar), noise): ((&f32, &f32), &f32)| (mean + (logvar / 2.0).exp() * noise) * LATENT_SCALE as f32;
        means.iter().zip(logvars).zip(noise).map(draw).collect()
    }
}

/// One model on one device.
pub trait GradientEngine: Send {
    /// The device, in words: `CPU (2 threads)`, `cuda:0`.
    fn device(&self) -> String;

    /// Waits until the device has done all that it was asked.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn synchronize(&mut self) -> Result<(), Error>;

    /// Encodes one picture with the VAE, in f32.
    ///
    /// # Errors
    /// [`Error`].
    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error>;

    /// Decodes unscaled latents `[4, height, width]` to `[3, 8 height, 8 width]`, about -1..1, in f32.
    ///
    /// # Errors
    /// [`Error`].
    fn decode(&mut self, latents: &[f32], height: usize, width: usize) -> Result<Vec<f32>, Error>;

    /// Forgets the VAE until it is needed again.
    fn release_vae(&mut self);

    /// Replaces the networks attached to the model.
    ///
    /// # Errors
    /// [`Error`].
    fn attach(&mut self, networks: &[Network]) -> Result<(), Error>;

    /// Encodes prompts of one length under these rates.
    ///
    /// # Errors
    /// [`Error`].
    fn encode_text(&mut self, prompts: &[Tokens], rates: &[f32]) -> Result<EncodedText, Error>;

    /// Whether an attached network changes the text encoders, so that prompts must be encoded in every step.
    fn touches_text(&self) -> bool;

    /// Tells the engine what a prompt encodes to without networks, so that it need not encode it.
    ///
    /// # Errors
    /// [`Error::Request`] if the sizes are another model's.
    fn remember_text(&mut self, prompt: Tokens, encoded: EncodedText) -> Result<(), Error>;

    /// The model's prediction `[b, 4, height, width]` under these rates.
    ///
    /// # Errors
    /// [`Error`].
    fn predict(&mut self, shown: &Shown<'_>, rates: &[f32]) -> Result<Vec<f32>, Error>;

    /// Loss and gradient of a microbatch under these rates, 20 for each attached network.
    ///
    /// # Errors
    /// [`Error`]; the engine stays usable.
    fn gradient(&mut self, batch: &Microbatch, rates: &[f32], options: &LossOptions) -> Result<Gradient, Error>;

    /// The loss of each sample under these rates, without gradient: factor times error times the sample's weight.
    ///
    /// # Errors
    /// [`Error`]; the engine stays usable.
    fn losses(&mut self, batch: &Microbatch, rates: &[f32], options: &LossOptions) -> Result<Vec<f64>, Error> {
        // The channels of a latent, which every engine has.
        batch.validate(LATENT_CHANNELS)?;
        let noisy = loss::noisy(batch)?;
        let prediction = self.predict(&batch.shown(&noisy), rates)?;
        Ok(loss::judge(batch, options, &prediction)?.losses)
    }

    /// Where the time of this gradient goes; `None` from an engine that can't tell.
    ///
    /// # Errors
    /// [`Error`]; the engine stays usable.
    fn breakdown(
        &mut self,
        _batch: &Microbatch,
        _rates: &[f32],
        _options: &LossOptions,
    ) -> Result<Option<Breakdown>, Error> {
        Ok(None)
    }

    /// Gives memory that nothing uses back to the device.
    fn free_memory(&mut self) {}
}

/// Which engine computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// cuda on an NVIDIA GPU in bfloat16 whose libraries are there, else burn.
    #[default]
    Auto,
    /// burn, on any device.
    Burn,
    /// cuBLASLt, cuDNN and kernels of our own for the UNet; NVIDIA GPUs only, in bfloat16.
    Cuda,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Burn => "burn",
            Self::Cuda => "cuda",
        })
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Auto, Self::Burn, Self::Cuda];
        let found = all.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is no engine; give auto, burn or cuda"))
    }
}

/// How a model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineOptions {
    /// By what.
    pub engine: EngineKind,
    /// Weights and activations of UNet and text encoders.
    pub precision: Precision,
    /// Keep only the blocks' outputs for the backward pass, and compute the rest again.
    pub gradient_checkpointing: bool,
    /// Keep the UNet's weights in eight bits: engine `cuda` alone can.
    pub fp8_base: bool,
}
