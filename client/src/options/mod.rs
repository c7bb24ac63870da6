//! The options of `lora-rates search`, as they are written on the command line or in a configuration file.
//!
//! Every field is optional here, so that the two can be laid over each other; [`crate::settings::Settings`] is what
//! they come to. Names are those of the reference.

mod config_file;
mod help;
mod resolution;
#[cfg(test)]
mod tests;

pub use config_file::{Error, read};
pub use help::{EXAMPLES, SWEEP_EXAMPLES};
pub use resolution::Resolution;

use crate::failure::Failure;
use lora_rates_common::schedule::LrScheduler;
use lora_rates_common::tokenizer::TokenLength;
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};

/// Makes one set of options of two: every field that the first leaves open is taken from the second.
macro_rules! overlay {
    ($over:expr, $under:expr; $($field:ident)*) => {
        Options { $($field: $over.$field.or($under.$field),)* }
    };
}

/// What a user may choose about a search.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[command(rename_all = "snake_case", allow_negative_numbers = true)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// SDXL checkpoint: a .safetensors file or a diffusers folder
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub pretrained_model_name_or_path: Option<PathBuf>,
    /// Another VAE than the checkpoint's: a file or a folder
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub vae: Option<PathBuf>,

    /// The LoRA files whose rates are searched, one or more, each 20 rates
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Networks")]
    pub network_weights: Option<Vec<PathBuf>>,
    /// Kind of the networks: networks.lora (LoRA and LoCon files) is the only one [default: networks.lora]
    #[arg(long, value_name = "NAME", help_heading = "Networks")]
    pub network_module: Option<String>,
    /// Leave out keys of a network that match no layer of the model instead of refusing the file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Networks")]
    pub skip_unmatched_keys: Option<bool>,

    /// Folder of pictures, or of folders named N_class: N repeats, and the caption of pictures that have none
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    pub train_data_dir: Option<PathBuf>,
    /// Folder of held-out pictures, in the same form: never trained on; the loss on them is measured. Repeats don't
    /// count there
    #[arg(long, value_name = "FOLDER", help_heading = "Validation")]
    pub validation_data_dir: Option<PathBuf>,
    /// Extension of the caption files beside the pictures [default: .caption]
    #[arg(long, value_name = "EXT", help_heading = "Data")]
    pub caption_extension: Option<String>,
    /// Size of the pictures: N, or WIDTH,HEIGHT [default: 1024]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub resolution: Option<Resolution>,
    /// Let every picture keep about its own aspect ratio
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Data")]
    pub enable_bucket: Option<bool>,
    /// Shortest side of a bucket [default: 256]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub min_bucket_reso: Option<u32>,
    /// Longest side of a bucket [default: 1024]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_bucket_reso: Option<u32>,
    /// Sides of buckets are multiples of this [default: 64]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub bucket_reso_steps: Option<u32>,
    /// Never enlarge a picture
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Data")]
    pub bucket_no_upscale: Option<bool>,
    /// Mirror one picture in two, left to right
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Data")]
    pub flip_aug: Option<bool>,
    /// Tokens of a caption that are read: 75, 150 or 225 [default: 75]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_token_length: Option<TokenLength>,
    /// Encode every picture once and keep the result; false encodes it anew for each use [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Data")]
    pub cache_latents: Option<bool>,
    /// Keep the encoded pictures on disk too, for later searches
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Data")]
    pub cache_latents_to_disk: Option<bool>,
    /// Where --cache_latents_to_disk keeps them [default: OUTPUT_DIR/cache]
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    pub cache_dir: Option<PathBuf>,

    /// Pictures that are computed together [default: 1]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub train_batch_size: Option<u32>,
    /// Batches whose gradients make one step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub gradient_accumulation_steps: Option<u32>,
    /// Steps of the search [default: 1600]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub max_train_steps: Option<u64>,
    /// Passes over all pictures, instead of a number of steps; wins over --max_train_steps
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub max_train_epochs: Option<u64>,
    /// Learning rate [default: 0.1]
    #[arg(long, value_name = "RATE", help_heading = "Search")]
    pub learning_rate: Option<f64>,
    /// Optimizer: AdamW is the only one [default: AdamW]
    #[arg(long, value_name = "NAME", help_heading = "Search")]
    pub optimizer_type: Option<String>,
    /// Options of AdamW [default: betas=0.9,0.999 eps=1e-8 weight_decay=0.01]
    #[arg(long, value_name = "KEY=VALUE", num_args = 1.., help_heading = "Search")]
    pub optimizer_args: Option<Vec<String>>,
    /// constant, constant_with_warmup, linear, cosine, cosine_with_restarts or polynomial [default: constant]
    #[arg(long, value_name = "NAME", help_heading = "Search")]
    pub lr_scheduler: Option<LrScheduler>,
    /// Steps over which the learning rate rises from 0 [default: 0]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub lr_warmup_steps: Option<u64>,
    /// Restarts of cosine_with_restarts [default: 1]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub lr_scheduler_num_cycles: Option<u32>,
    /// Power of polynomial [default: 1]
    #[arg(long, value_name = "POWER", help_heading = "Search")]
    pub lr_scheduler_power: Option<f64>,
    /// Keys the noise, the timesteps and the order of the pictures [default: a new one, printed and saved]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub seed: Option<u64>,

    /// Weight of the penalty on the rates' sizes; 0 leaves them free [default: 0.0001]
    #[arg(long, value_name = "WEIGHT", help_heading = "Loss")]
    pub application_loss_weight: Option<f64>,
    /// Let blocks in which a network has no module pay the penalty and move, as the reference did
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Loss")]
    pub penalize_dead_slots: Option<bool>,
    /// Min-SNR weighting of the loss; 5 is usual
    #[arg(long, value_name = "GAMMA", help_heading = "Loss")]
    pub min_snr_gamma: Option<f64>,
    /// Weight the loss by 1 / sqrt(SNR)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Loss")]
    pub debiased_estimation_loss: Option<bool>,
    /// The model predicts velocity, not noise
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Loss")]
    pub v_parameterization: Option<bool>,
    /// Scale the loss of a velocity as if it were one of noise; needs --v_parameterization
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Loss")]
    pub scale_v_pred_loss_like_noise_pred: Option<bool>,
    /// Add this much of the loss scaled as a velocity's
    #[arg(long, value_name = "PART", help_heading = "Loss")]
    pub v_pred_like_loss: Option<f64>,
    /// Size of a number added to each channel of the noise; 0.05 to 0.1 are usual [default: 0]
    #[arg(long, value_name = "SIZE", help_heading = "Loss")]
    pub noise_offset: Option<f32>,
    /// First timestep that is drawn [default: 0]
    #[arg(long, value_name = "T", help_heading = "Loss")]
    pub min_timestep: Option<u32>,
    /// First timestep that is not drawn any more [default: 1000]
    #[arg(long, value_name = "T", help_heading = "Loss")]
    pub max_timestep: Option<u32>,

    /// How the timesteps of a step are drawn: stratified (one of each part of the range, for a steadier gradient), or
    /// uniform (each for itself, as the original tool did) [default: stratified]
    #[arg(long, value_name = "NAME", help_heading = "Loss")]
    pub timestep_sampling: Option<String>,
    /// How noise is drawn: independent, or antithetic (every second epoch repeats the one before it with the noise
    /// negated and the timesteps mirrored) [default: independent]
    #[arg(long, value_name = "NAME", help_heading = "Loss")]
    pub noise_sampling: Option<String>,

    /// Hold out this part of the pictures, never train on them, and measure the loss on them, as in 0.2
    #[arg(long, value_name = "PART", help_heading = "Validation")]
    pub validation_split: Option<f64>,
    /// Steps between two measurements on the held-out pictures [default: 100]
    #[arg(long, value_name = "N", help_heading = "Validation")]
    pub validate_every_n_steps: Option<u64>,
    /// Timesteps at which each held-out picture is measured: more make error bars smaller [default: 4, more of few pictures]
    #[arg(long, value_name = "N", help_heading = "Validation")]
    pub validation_samples_per_image: Option<u32>,
    /// End the search after so many measurements in a row without a new best [default: never]
    #[arg(long, value_name = "N", help_heading = "Validation")]
    pub early_stop: Option<u32>,

    /// Sample pictures of these prompts, one a line, at the end and when asked for below (see the examples)
    #[arg(long, value_name = "FILE", help_heading = "Sample pictures")]
    pub sample_prompts: Option<PathBuf>,
    /// Sample them every N steps too
    #[arg(long, value_name = "N", help_heading = "Sample pictures")]
    pub sample_every_n_steps: Option<u64>,
    /// Sample them before the first step too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Sample pictures")]
    pub sample_at_first: Option<bool>,
    /// Sampler: euler is the only one [default: euler]
    #[arg(long, value_name = "NAME", help_heading = "Sample pictures")]
    pub sample_sampler: Option<String>,
    /// At the end, set rates of a smaller size to 0 if the held-out loss doesn't rise beyond its error, or beyond what the
    /// penalty falls by; else try T/2, T/4, ...
    #[arg(long, value_name = "T", help_heading = "Validation")]
    pub prune: Option<f64>,
    /// At the end, measure how the held-out loss bends with each rate: which ones the data determine
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Validation")]
    pub curvature: Option<bool>,
    /// Below this curvature a rate counts as not determined by the data [default: 10 application_loss_weight: the penalty
    /// moves such rates by more than 0.1]
    #[arg(long, value_name = "CURVATURE", help_heading = "Validation")]
    pub curvature_bound: Option<f64>,

    /// cpu, or cuda:K for the GPU of number K; several with commas, a worker each [default: all GPUs, else the CPU]
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', action = clap::ArgAction::Append,
        help_heading = "Device")]
    #[serde(deserialize_with = "one_or_more")]
    pub device: Option<Vec<String>>,
    /// What computes the UNet: burn (any device) or cuda (NVIDIA GPUs, many times as fast, with --mixed_precision bf16);
    /// auto is cuda where that can compute [default: auto]
    #[arg(long, value_name = "auto|burn|cuda", help_heading = "Device")]
    pub engine: Option<String>,
    /// What the model is computed in: no (32 bits) or bf16 [default: no]
    #[arg(long, value_name = "TYPE", help_heading = "Device")]
    pub mixed_precision: Option<String>,
    /// Compute activations twice to save memory
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Device")]
    pub gradient_checkpointing: Option<bool>,
    /// Keep the UNet's weights in eight bits, for GPUs of 12 GB; needs engine cuda
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true,
        help_heading = "Device")]
    pub fp8_base: Option<bool>,

    /// Folder for the results [default: ./output]
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub output_dir: Option<PathBuf>,
    /// Name of the results: NAME.safetensors, NAME.json and the folder NAME-state [default: rates]
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub output_name: Option<String>,
    /// Name in a coordinator's lists [default: the output_name]
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub name: Option<String>,
    /// Save the rates every N steps, as NAME-stepNNNNNNNN.safetensors
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub save_every_n_steps: Option<u64>,
}

impl Options {
    /// These options, and for what they leave open, those of `under`.
    #[must_use]
    pub fn over(self, under: Self) -> Self {
        overlay!(self, under;
            pretrained_model_name_or_path vae
            network_weights network_module skip_unmatched_keys
            train_data_dir caption_extension resolution enable_bucket min_bucket_reso max_bucket_reso
            bucket_reso_steps bucket_no_upscale flip_aug max_token_length cache_latents cache_latents_to_disk cache_dir
            train_batch_size gradient_accumulation_steps max_train_steps max_train_epochs learning_rate
            optimizer_type optimizer_args lr_scheduler lr_warmup_steps lr_scheduler_num_cycles lr_scheduler_power seed
            application_loss_weight penalize_dead_slots min_snr_gamma debiased_estimation_loss v_parameterization
            scale_v_pred_loss_like_noise_pred v_pred_like_loss noise_offset min_timestep max_timestep timestep_sampling noise_sampling
            validation_data_dir validation_split validate_every_n_steps validation_samples_per_image early_stop
            prune curvature curvature_bound
            sample_prompts sample_every_n_steps sample_at_first sample_sampler
            device engine mixed_precision gradient_checkpointing fp8_base
            output_dir output_name name save_every_n_steps
        )
    }
}

/// The options of a command line, and for what they leave open those of a file.
///
/// # Errors
/// The file can't be read, or has what is no option.
pub(crate) fn laid_over(options: Options, file: Option<&Path>) -> Result<Options, Failure> {
    let file = file.map(read).transpose().map_err(|error| match error {
        // A file that isn't there is like any other missing file.
        Error::Read { .. } => Failure::Run(error.into()),
        error => Failure::usage(error),
    })?;
    Ok(options.over(file.unwrap_or_default()))
}

/// A word, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(String),
        More(Vec<String>),
    }
    Ok(Some(match Written::deserialize(deserializer) {
        Ok(Written::One(words)) => words.split(',').map(|word| word.trim().to_owned()).collect(),
        Ok(Written::More(words)) => words,
        Err(_) => return Err(serde::de::Error::custom("write one word, as in \"cuda:0\", or a list of them")),
    }))
}
