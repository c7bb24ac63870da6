//! The options of commands that load the model by themselves, and the loading.

use crate::failure::Failure;
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::network::{self, Network, Unmatched};
use lora_rates_common::spec::Precision;
use lora_rates_worker::device::{self, Device};
use lora_rates_worker::engine::{EngineKind, EngineOptions, GradientEngine};
use lora_rates_worker::source::Source;
use std::path::PathBuf;

/// Model, networks and where they are computed.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(super) struct ModelArgs {
    /// The base model: a single-file SDXL checkpoint or a diffusers folder
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub(super) pretrained_model_name_or_path: PathBuf,

    /// The networks, in the order of their rates
    #[arg(long, required = true, num_args = 1.., value_name = "FILE", help_heading = "Networks")]
    pub(super) network_weights: Vec<PathBuf>,

    /// Leave out keys of a network that match no layer of the model instead of refusing the file
    #[arg(long, help_heading = "Networks")]
    pub(super) skip_unmatched_keys: bool,

    /// Where to compute: cpu, cuda or cuda:K [default: the first GPU, else the CPU]
    #[arg(long, help_heading = "Device")]
    pub(super) device: Option<Device>,

    /// What computes the UNet: burn or cuda (bf16 on NVIDIA GPUs; not yet measured there, so auto is burn)
    #[arg(long, default_value_t, value_name = "auto|burn|cuda", help_heading = "Device")]
    pub(super) engine: EngineKind,

    /// What the model is computed in: no (f32) or bf16
    #[arg(long, default_value = "no", value_name = "no|bf16", help_heading = "Device")]
    pub(super) mixed_precision: Precision,

    /// Compute the activations of each block again instead of keeping them: less memory, more time
    #[arg(long, help_heading = "Device")]
    pub(super) gradient_checkpointing: bool,

    /// Keep the UNet's weights in eight bits; needs --engine cuda
    #[arg(long, help_heading = "Device")]
    pub(super) fp8_base: bool,
}

/// What makes a sample's loss of its error, and what the rates cost.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Loss")]
pub(super) struct LossArgs {
    /// Weight of the penalty on the rates
    #[arg(long, default_value_t = 1e-4, value_parser = weight, allow_negative_numbers = true, value_name = "WEIGHT")]
    pub(super) application_loss_weight: f64,

    /// Let slots without any module take part in the penalty, as the reference had it
    #[arg(long)]
    pub(super) penalize_dead_slots: bool,

    /// The model predicts velocity, not noise
    #[arg(long)]
    pub(super) v_parameterization: bool,

    /// Min-SNR weighting of the loss with this gamma; 5 is usual
    #[arg(long, allow_negative_numbers = true, value_name = "GAMMA")]
    pub(super) min_snr_gamma: Option<f64>,

    /// Weight the loss by 1 / sqrt(snr)
    #[arg(long)]
    pub(super) debiased_estimation_loss: bool,

    /// Scale the loss of a velocity as if it were one of noise; needs --v_parameterization
    #[arg(long)]
    pub(super) scale_v_pred_loss_like_noise_pred: bool,

    /// Add, to a loss of noise, this much of the loss scaled as a velocity's
    #[arg(long, allow_negative_numbers = true, value_name = "PART")]
    pub(super) v_pred_like_loss: Option<f64>,
}

/// A model with its networks attached, on its device.
pub(super) struct Loaded {
    pub(super) engine: Box<dyn GradientEngine>,
    /// Which of the 20 N slots have a module with an effect.
    pub(super) live: Vec<bool>,
}

impl ModelArgs {
    /// Loads the model onto its device and attaches the networks.
    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        let checkpoint = Checkpoint::open(&self.pretrained_model_name_or_path)?;
        let unmatched = if self.skip_unmatched_keys { Unmatched::Skip } else { Unmatched::Refuse };
        let networks = network::open_all(&self.network_weights, checkpoint.config(), unmatched);
        let networks = networks.map_err(|error| match error {
            network::Error::SameFile { .. } => Failure::usage(error),
            error => error.into(),
        })?;
        let device = self.device.unwrap_or_else(device::best);
        let Self { engine, mixed_precision: precision, gradient_checkpointing, fp8_base, .. } = *self;
        let options = EngineOptions { engine, precision, gradient_checkpointing, fp8_base };
        let mut engine = device::load(device, Source::Checkpoint(Box::new(checkpoint)), options)?;
        engine.attach(&networks)?;
        tracing::info!("the model is on {}", engine.device());
        Ok(Loaded { engine, live: networks.iter().flat_map(Network::live).collect() })
    }
}

impl LossArgs {
    /// The options of the loss, checked.
    pub(super) fn options(&self) -> Result<LossOptions, Failure> {
        let options = LossOptions {
            v_parameterization: self.v_parameterization,
            min_snr_gamma: self.min_snr_gamma,
            debiased_estimation: self.debiased_estimation_loss,
            scale_v_pred_loss_like_noise_pred: self.scale_v_pred_loss_like_noise_pred,
            v_pred_like_loss: self.v_pred_like_loss,
        };
        options.validate().map_err(Failure::usage)?;
        Ok(options)
    }

    /// Which slots the penalty counts.
    pub(super) fn penalized(&self, live: &[bool]) -> Vec<bool> {
        live.iter().map(|live| *live || self.penalize_dead_slots).collect()
    }
}

fn weight(text: &str) -> Result<f64, String> {
    let weight = text.parse::<f64>().ok().filter(|weight| weight.is_finite() && *weight >= 0.0);
    weight.ok_or_else(|| "give a number of at least 0".into())
}
