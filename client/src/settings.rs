//! What a search is asked to do: every option with a value, checked as far as that needs no file.

mod error;
mod resolve;
#[cfg(test)]
mod tests;

pub use error::Error;
pub(crate) use resolve::file_name;

use crate::remote::Target;
use lora_rates_common::dataset::DatasetOptions;
use lora_rates_common::dataset::buckets::BucketOptions;
use lora_rates_common::diffusion::{LossOptions, TIMESTEPS};
use lora_rates_common::optimizer::AdamW;
use lora_rates_common::plan::{NoiseSampling, TimestepSampling};
use lora_rates_common::schedule;
use lora_rates_common::spec::{Precision, SearchOptions};
use lora_rates_common::tokenizer::TokenLength;
use lora_rates_worker::device::Device;
use lora_rates_worker::engine::EngineKind;
use std::path::PathBuf;

/// A search to be run, on this machine or by a coordinator.
///
/// The defaults are those of the command line; `model`, `networks` and `dataset.train_data_dir` have none and must be
/// set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A single-file checkpoint or a diffusers folder; with a coordinator the path below its workers' model folder.
    pub model: PathBuf,
    /// Another VAE than the checkpoint's.
    pub vae: Option<PathBuf>,
    /// The networks, in the order of their rates.
    pub networks: Vec<PathBuf>,
    /// The pictures.
    pub dataset: DatasetOptions,
    /// What decides the numbers. `seed` and, with `max_train_epochs`, `max_train_steps` are set when the search starts.
    pub options: SearchOptions,
    /// The seed; none: that of the search that is resumed, else a new one.
    pub seed: Option<u64>,
    /// Passes over all pictures; if given, they decide the number of steps.
    pub max_train_epochs: Option<u64>,
    /// What is sampled on the way, if anything is.
    pub samples: Option<Samples>,
    /// Where the model is computed, a worker for each; none: on all GPUs, else on the CPU.
    pub devices: Vec<Device>,
    /// By which engine.
    pub engine: EngineKind,
    /// Who searches; none: this process.
    pub coordinator: Option<Target>,
    /// Name in the coordinator's lists.
    pub name: String,
    /// Tell of everything that happens as JSON, a line each, on standard output.
    pub json: bool,
    /// Folder for the results. It is made if it is missing.
    pub output_dir: PathBuf,
    /// Name of the results.
    pub output_name: String,
    /// Save the rates every so many steps.
    pub save_every_n_steps: Option<u64>,
    /// What to do with a search that is there already.
    pub existing: Existing,
}

/// Pictures to sample on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// A file of prompts, one a line.
    pub prompts: PathBuf,
    /// Steps between two times; 0: only at the end, and perhaps at the beginning.
    pub every_n_steps: u64,
    /// Before the first step too.
    pub at_first: bool,
}

/// What to do with an unfinished search of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Fail and say what there is.
    #[default]
    Refuse,
    /// Go on with it.
    Resume,
    /// Forget it and start anew.
    Overwrite,
}

impl Default for Settings {
    fn default() -> Self {
        // The reference shows every picture at one size unless told otherwise.
        let buckets = BucketOptions { enable: false, ..BucketOptions::default() };
        Self {
            model: PathBuf::new(),
            vae: None,
            networks: Vec::new(),
            dataset: DatasetOptions { buckets, ..DatasetOptions::default() },
            options: default_options(),
            seed: None,
            max_train_epochs: None,
            samples: None,
            devices: Vec::new(),
            engine: EngineKind::Auto,
            coordinator: None,
            name: "rates".to_owned(),
            json: false,
            output_dir: PathBuf::from("./output"),
            output_name: "rates".to_owned(),
            save_every_n_steps: None,
            existing: Existing::Refuse,
        }
    }
}

fn default_options() -> SearchOptions {
    SearchOptions {
        seed: 0,
        max_train_steps: 1600,
        train_batch_size: 1,
        gradient_accumulation_steps: 1,
        flip_aug: false,
        min_timestep: 0,
        max_timestep: TIMESTEPS,
        max_token_length: TokenLength::T75,
        noise_offset: 0.0,
        application_loss_weight: 1e-4,
        loss: LossOptions::default(),
        optimizer: AdamW::default(),
        learning_rate: schedule::Options::default(),
        mixed_precision: Precision::F32,
        gradient_checkpointing: false,
        cache_latents: true,
        cache_dir: None,
        skip_unmatched_keys: false,
        penalize_dead_slots: false,
        validation_split: 0.0,
        validate_every_n_steps: 0,
        early_stop: 0,
        validation_samples_per_image: 0,
        // A quarter of the gradient's variance at the same cost: docs/performance.md.
        timestep_sampling: TimestepSampling::Stratified,
        noise_sampling: NoiseSampling::Independent,
        prune: 0.0,
        curvature: false,
        curvature_bound: None,
        fp8_base: false,
    }
}
