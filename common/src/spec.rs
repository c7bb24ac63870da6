//! What a search is: everything that determines its numbers.

use crate::block::BLOCKS;
use crate::conclusion;
use crate::dataset::{self, Image};
use crate::diffusion::{self, LossOptions};
use crate::optimizer::{self, AdamW, INITIAL_RATE};
use crate::plan::{self, NoiseSampling, Plan, PlanImage, PlanOptions, TimestepSampling};
use crate::sampling;
use crate::schedule::{self, Schedule};
use crate::tokenizer::TokenLength;
use crate::validation::{self, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::str::FromStr;

/// Why a search can't be run as it is specified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to search over.
    #[error("no network is given: name at least one file with --network_weights")]
    NoNetworks,
    /// No slot has an effect.
    #[error("no network has a module with an effect: every slot is dead, there is nothing to search")]
    NothingLive,
    /// A number out of range.
    #[error("{name} is {value}; it must be {range}")]
    Range {
        /// Name of the option.
        name: &'static str,
        /// What it was given.
        value: String,
        /// What it may be, in words.
        range: &'static str,
    },
    /// The loss.
    #[error(transparent)]
    Loss(#[from] diffusion::Error),
    /// The optimizer.
    #[error(transparent)]
    Optimizer(#[from] optimizer::Error),
    /// The learning rate.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    /// The pictures, batches or timesteps.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// The sample pictures.
    #[error(transparent)]
    Sampling(#[from] sampling::Error),
}

/// Everything that determines a search's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchSpec {
    /// The base model.
    pub model: ModelRef,
    /// The networks, in the order of their rates.
    pub networks: Vec<NetworkRef>,
    /// The pictures, in the order that the plan counts them.
    pub images: Vec<Image>,
    /// What the user chose.
    pub options: SearchOptions,
    /// What is sampled on the way. It changes no step. Left out where it is not used, as the last options.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampling: sampling::Options,
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// A single-file checkpoint or a diffusers folder.
    pub path: PathBuf,
    /// A VAE of its own, if not the checkpoint's.
    pub vae: Option<PathBuf>,
    /// SHA-256 over the headers of its files, 64 hexadecimal digits.
    pub digest: String,
}

/// A network file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRef {
    /// The file's name without its extension.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// Which slots have a module.
    pub live: [bool; BLOCKS],
}

/// What a user chooses about a search, by the reference's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchOptions {
    /// Keys the noise, the timesteps and the order of the pictures.
    pub seed: u64,
    /// Updates of the rates.
    pub max_train_steps: u64,
    /// Samples of a microbatch.
    pub train_batch_size: u32,
    /// Microbatches of a step.
    pub gradient_accumulation_steps: u32,
    /// Mirror pictures at random.
    pub flip_aug: bool,
    /// First timestep drawn.
    pub min_timestep: u32,
    /// First timestep not drawn any more; at most 1000.
    pub max_timestep: u32,
    /// Tokens of a prompt that are read.
    pub max_token_length: TokenLength,
    /// Size of the number added to each channel of the noise; 0 for none.
    pub noise_offset: f32,
    /// Weight of the penalty; 0 leaves the rates free.
    pub application_loss_weight: f64,
    /// What makes a sample's loss of its error.
    pub loss: LossOptions,
    /// The optimizer.
    pub optimizer: AdamW,
    /// The learning rate and its course.
    pub learning_rate: schedule::Options,
    /// What the model is computed in.
    pub mixed_precision: Precision,
    /// Compute the activations of each block again instead of keeping them.
    pub gradient_checkpointing: bool,
    /// Encode every picture once and keep its latents; otherwise encode it for every use.
    pub cache_latents: bool,
    /// Folder for latents on disk, keyed by content; none: memory only.
    pub cache_dir: Option<PathBuf>,
    /// Leave out keys of networks that match no layer.
    pub skip_unmatched_keys: bool,
    /// Slots without any module take part in penalty and steps, as the reference had it.
    pub penalize_dead_slots: bool,
    // What follows is left out where it is not used: searches stored before it existed keep their fingerprints.
    /// Part of the pictures that is held out, from 0 to below 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validation_split: f64,
    /// Steps between two evaluations on the held-out pictures; 0 only without them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validate_every_n_steps: u64,
    /// Evaluations without improvement after which the search ends; 0 for never.
    #[serde(default, skip_serializing_if = "is_default")]
    pub early_stop: u32,
    /// Timesteps at which each held-out picture is measured; 0 for as many as [`Validation`] finds fit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validation_samples_per_image: u32,
    /// How the timesteps of a step are drawn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timestep_sampling: TimestepSampling,
    /// How noise is drawn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub noise_sampling: NoiseSampling,
    /// At the end, rates of a smaller size are set to 0 where the held-out loss allows it; 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prune: f64,
    /// At the end, the curvature of the held-out loss by each rate is measured.
    #[serde(default, skip_serializing_if = "is_default")]
    pub curvature: bool,
    /// Curvature below which a rate counts as not determined by the data; none for one that the penalty decides.
    #[serde(default, skip_serializing_if = "is_default")]
    pub curvature_bound: Option<f64>,
    /// Keep the UNet's weights in eight bits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fp8_base: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What numbers are stored in on the device; sums, norms and the loss are always f32 or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// 32 bits.
    #[default]
    #[serde(rename = "no")]
    F32,
    /// bfloat16: 8 bits of mantissa.
    #[serde(rename = "bf16")]
    Bf16,
}

impl FromStr for Precision {
    type Err = String;

    /// Reads what `--mixed_precision` takes: `no` or `bf16`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "no" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "fp16" => Err("SDXL's activations exceed the range of fp16: use bf16, or no for f32".to_owned()),
            _ => Err("it must be no (f32) or bf16".to_owned()),
        }
    }
}

impl SearchSpec {
    /// Checks that the search can be run at all.
    ///
    /// # Errors
    /// For the first thing that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        if self.networks.is_empty() {
            return Err(Error::NoNetworks);
        }
        if !self.networks.iter().any(|network| network.live.contains(&true)) {
            return Err(Error::NothingLive);
        }
        let options = &self.options;
        let weight = options.application_loss_weight;
        if !weight.is_finite() || weight < 0.0 {
            let range = "a number of at least 0";
            return Err(Error::Range { name: "application_loss_weight", value: weight.to_string(), range });
        }
        let offset = options.noise_offset;
        if !(0.0..=10.0).contains(&offset) {
            let range = "a number from 0 to 10 (0.05 to 0.1 are usual)";
            return Err(Error::Range { name: "noise_offset", value: offset.to_string(), range });
        }
        if let Some(image) = self.images.iter().find(|image| !image.loss_weight.is_finite()) {
            let value = format!("{} for {}", image.loss_weight, image.path.display());
            return Err(Error::Range { name: "loss_weight", value, range: "a number" });
        }
        options.loss.validate()?;
        options.optimizer.validate()?;
        self.schedule()?;
        validation::validate(self)?;
        self.sampling.validate()?;
        conclusion::validate(options, options.validate_every_n_steps > 0)?;
        self.plan()?;
        Ok(())
    }

    /// The evaluations on held-out pictures, if there are any.
    pub fn validation(&self) -> Option<Validation> {
        Validation::new(self)
    }

    /// What the encoding of a picture is kept under: a digest of all that it depends on.
    ///
    /// `image` is the picture's number; `None` if there is no such picture.
    pub fn encoding_key(&self, image: u32, flip: bool) -> Option<String> {
        let image = self.images.get(usize::try_from(image).ok()?)?;
        let dataset::buckets::Fit { bucket, resized, cut, .. } = &image.fit;
        let parts = (&self.model.digest, &image.sha256, bucket, resized, cut, flip);
        Some(hex(&Sha256::digest(format!("encoding 1 {parts:?}"))))
    }

    /// The encodings that the search needs: numbers of pictures, and whether they are mirrored. Held-out pictures are
    /// never mirrored. None if every use encodes anew.
    pub fn encodings(&self) -> Vec<(u32, bool)> {
        if !self.options.cache_latents {
            return Vec::new();
        }
        let held_out = validation::held_out(self);
        let flips = |(number, held_out): (u32, bool)| {
            let mirrored = self.options.flip_aug && !held_out;
            [(number, false)].into_iter().chain(mirrored.then_some((number, true)))
        };
        (0..).zip(held_out).flat_map(flips).collect()
    }

    /// Which samples every step has.
    ///
    /// # Errors
    /// No pictures, or batches or timesteps that make no sense.
    pub fn plan(&self) -> Result<Plan, Error> {
        // A picture that is held out is in the list, so that numbers stay what they are, but never shown.
        let image = |(image, held_out): (&Image, bool)| PlanImage {
            bucket: image.fit.bucket,
            repeats: if held_out { 0 } else { image.repeats },
        };
        let images: Vec<PlanImage> = self.images.iter().zip(validation::held_out(self)).map(image).collect();
        Ok(Plan::new(&images, &self.options.plan())?)
    }

    /// The learning rate of every step.
    ///
    /// # Errors
    /// A learning rate, warm-up or number of steps that makes no sense.
    pub fn schedule(&self) -> Result<Schedule, Error> {
        Ok(Schedule::new(&self.options.learning_rate, self.options.max_train_steps)?)
    }

    /// Which of the 20 N rates are searched.
    pub fn live(&self) -> Vec<bool> {
        let all = self.options.penalize_dead_slots;
        self.networks.iter().flat_map(|network| network.live).map(|live| live || all).collect()
    }

    /// The rates before the first step: 0.5, and 0 in dead slots.
    pub fn initial_rates(&self) -> Vec<f64> {
        self.live().into_iter().map(|live| if live { INITIAL_RATE } else { 0.0 }).collect()
    }

    /// SHA-256 over what determines the numbers: contents instead of paths. Two searches with equal fingerprints have
    /// the same trajectory.
    pub fn fingerprint(&self) -> String {
        let mut plain = self.clone();
        plain.model.path = PathBuf::new();
        plain.model.vae = None;
        plain.options.cache_dir = None;
        plain.networks.iter_mut().for_each(|network| network.path = PathBuf::new());
        plain.images.iter_mut().for_each(|image| image.path = PathBuf::new());
        // The types hold no maps with keys other than text and no numbers that JSON lacks once they are validated.
        let text = serde_json::to_string(&plain).unwrap_or_default();
        hex(&Sha256::digest(text))
    }
}

impl SearchOptions {
    /// The part that the plan reads.
    pub fn plan(&self) -> PlanOptions {
        PlanOptions {
            batch_size: self.train_batch_size,
            accumulation: self.gradient_accumulation_steps,
            seed: self.seed,
            flip_aug: self.flip_aug,
            min_timestep: self.min_timestep,
            max_timestep: self.max_timestep,
            timestep_sampling: self.timestep_sampling,
            noise_sampling: self.noise_sampling,
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
