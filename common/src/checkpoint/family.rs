//! Which kind of model a file is, judged by the names of its tensors.

use crate::tensor_file::TensorFile;
use std::fmt;

/// Families of models that people may take for SDXL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Stable Diffusion 1.x.
    Sd1,
    /// Stable Diffusion 2.x.
    Sd2,
    /// Stable Diffusion 3.x.
    Sd3,
    /// Flux.
    Flux,
    /// The second stage published with SDXL 1.0, with one text encoder alone.
    Refiner,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sd1 => "a Stable Diffusion 1.5 checkpoint",
            Self::Sd2 => "a Stable Diffusion 2 checkpoint",
            Self::Sd3 => "a Stable Diffusion 3 checkpoint",
            Self::Flux => "a Flux checkpoint",
            Self::Refiner => "an SDXL refiner checkpoint",
        })
    }
}

/// What a single file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Perhaps an SDXL checkpoint: its tensors decide.
    Sdxl,
    /// A checkpoint of another family.
    Other(Family),
    /// Something that is no checkpoint.
    Not(&'static str),
}

impl Content {
    pub(super) fn of(file: &TensorFile) -> Self {
        let has = |prefix: &str| file.names().any(|name| name.starts_with(prefix));
        // Below the prefix of a whole checkpoint, or bare: the denoiser alone.
        let denoiser = |prefix: &str| has(prefix) || has(&format!("model.diffusion_model.{prefix}"));
        // First, for a network's names contain those of its model.
        if file.names().any(of_a_network) {
            Self::Not("a LoRA or kindred network")
        } else if denoiser("joint_blocks.") {
            Self::Other(Family::Sd3)
        } else if denoiser("double_blocks.") || has("single_transformer_blocks.") {
            Self::Other(Family::Flux)
        } else if has("cond_stage_model.model.") {
            Self::Other(Family::Sd2)
        } else if has("cond_stage_model.") {
            Self::Other(Family::Sd1)
        } else if has("conditioner.embedders.0.model.") && !has("conditioner.embedders.1.") {
            Self::Other(Family::Refiner)
        } else if has("model.diffusion_model.") || has("conditioner.embedders.") {
            Self::Sdxl
        } else if has("input_blocks.") || has("down_blocks.") {
            Self::Not("a UNet alone")
        } else if has("encoder.down") || has("decoder.up") || has("first_stage_model.") {
            Self::Not("a VAE alone")
        } else if has("text_model.") || has("transformer.resblocks.") {
            Self::Not("a text encoder alone")
        } else {
            Self::Not("a file of other tensors")
        }
    }
}

fn of_a_network(name: &str) -> bool {
    const MARKS: [&str; 8] =
        ["lora_up", "lora_down", "lora_A.", "lora_B.", ".lora.up.", ".lora.down.", "hada_w1_", "lokr_w"];
    name.starts_with("lora_") || MARKS.iter().any(|mark| name.contains(mark))
}
