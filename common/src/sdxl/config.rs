//! The sizes of an SDXL model, and how they are read off its tensors.

mod infer;
mod validate;

#[cfg(test)]
mod tests;

use super::{Part, names};
use serde::{Deserialize, Serialize};

/// Width of one attention head, in the UNet and both text encoders.
pub const HEAD_SIZE: usize = 64;
/// Groups of every group normalisation, in the UNet and the VAE.
pub const NORM_GROUPS: usize = 32;
/// Tokens of one chunk of a prompt, marks included: rows of the position tables.
pub const TEXT_POSITIONS: usize = 77;
/// Entries of CLIP's vocabulary: rows of the token tables.
pub const VOCABULARY: usize = 49408;
/// Numbers that describe a picture's size to the UNet: original height and width, crop top and left, target height
/// and width.
pub const SIZE_NUMBERS: usize = 6;
/// What the VAE's latents are multiplied with before the UNet sees them.
pub const LATENT_SCALE: f64 = 0.13025;

/// Sizes that don't make an SDXL model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A tensor that every SDXL model has isn't there.
    #[error("tensor {tensor} is missing; give a complete model of the SDXL family")]
    Missing {
        /// Its canonical name.
        tensor: String,
    },
    /// A tensor has too many or too few axes.
    #[error("tensor {tensor} has shape {shape:?}, which SDXL's can't have; give a model of the SDXL family")]
    Rank {
        /// Its canonical name.
        tensor: String,
        /// The shape found.
        shape: Vec<usize>,
    },
    /// The sizes contradict each other, or the rest of the program.
    #[error("{what}; give a model of the SDXL family")]
    Impossible {
        /// The part that it is about.
        part: Part,
        /// What contradicts what.
        what: String,
    },
}

impl Error {
    /// The part of the model that it is about; of a contradiction between two, the UNet.
    pub fn part(&self) -> Part {
        match self {
            Self::Impossible { part, .. } => *part,
            Self::Missing { tensor } | Self::Rank { tensor, .. } => names::part(tensor).unwrap_or(Part::Unet),
        }
    }
}

/// All sizes of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SdxlConfig {
    /// The denoiser.
    pub unet: UnetConfig,
    /// CLIP-L.
    pub text_encoder_1: TextConfig,
    /// OpenCLIP bigG.
    pub text_encoder_2: TextConfig,
    /// The picture autoencoder.
    pub vae: VaeConfig,
}

/// Sizes of the UNet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Channels of the noisy latent.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Channels of the first level.
    pub model_channels: usize,
    /// Channels of each level as a multiple of `model_channels`.
    pub channel_mult: Vec<usize>,
    /// Residual blocks per level on the way down; one more on the way up.
    pub num_res_blocks: usize,
    /// Transformer blocks behind each residual block, by level; 0 for none.
    pub transformer_depth: Vec<usize>,
    /// Transformer blocks in the middle.
    pub middle_depth: usize,
    /// Width of the text conditioning: both encoders' hidden sizes together.
    pub context_dim: usize,
    /// Width of the vector conditioning: the pooled text and the six size embeddings.
    pub adm_channels: usize,
    /// Width of the timestep embedding.
    pub time_embed_dim: usize,
}

/// Sizes of a text encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Width of a token's state.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the inner layer of each MLP.
    pub mlp: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Rows of the token table.
    pub vocab: usize,
    /// What stands between the two layers of each MLP.
    pub activation: Activation,
    /// Width of the projected pooled state, if there is a projection.
    pub projection: Option<usize>,
}

/// The nonlinearity of a text encoder's MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * Phi(x)` with the exact normal distribution function.
    Gelu,
}

/// Sizes of the VAE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeConfig {
    /// Channels of each level, the finest first.
    pub channels: Vec<usize>,
    /// Channels of a latent.
    pub latent: usize,
    /// Residual blocks per level of the encoder; one more in the decoder.
    pub num_res_blocks: usize,
}

impl SdxlConfig {
    /// The published SDXL base model.
    pub fn sdxl_base() -> Self {
        let text_encoder_1 = TextConfig {
            hidden: 768,
            layers: 12,
            mlp: 3072,
            positions: TEXT_POSITIONS,
            vocab: VOCABULARY,
            activation: Activation::QuickGelu,
            projection: None,
        };
        Self {
            unet: UnetConfig {
                in_channels: 4,
                out_channels: 4,
                model_channels: 320,
                channel_mult: vec![1, 2, 4],
                num_res_blocks: 2,
                transformer_depth: vec![0, 2, 10],
                middle_depth: 10,
                context_dim: 2048,
                adm_channels: 2816,
                time_embed_dim: 1280,
            },
            text_encoder_2: TextConfig {
                hidden: 1280,
                layers: 32,
                mlp: 5120,
                activation: Activation::Gelu,
                projection: Some(1280),
                ..text_encoder_1.clone()
            },
            text_encoder_1,
            vae: VaeConfig { channels: vec![128, 256, 512, 512], latent: 4, num_res_blocks: 2 },
        }
    }

    /// SDXL's arrangement at a tenth of its width, for demonstrations and tests: a CPU computes it in a moment.
    pub fn tiny() -> Self {
        let base = Self::sdxl_base();
        let text_encoder_1 = TextConfig { hidden: 64, layers: 3, mlp: 256, ..base.text_encoder_1 };
        let text_encoder_2 =
            TextConfig { hidden: 128, layers: 4, mlp: 512, projection: Some(128), ..base.text_encoder_2 };
        let unet = UnetConfig {
            model_channels: 32,
            transformer_depth: vec![0, 1, 2],
            middle_depth: 2,
            context_dim: 64 + 128,
            adm_channels: 128 + 6 * 256,
            time_embed_dim: 128,
            ..base.unet
        };
        let vae = VaeConfig { channels: vec![32, 32, 64, 64], ..base.vae };
        Self { unet, text_encoder_1, text_encoder_2, vae }
    }

    /// Width of the pooled text, the first part of the vector conditioning.
    pub fn pooled_width(&self) -> usize {
        self.text_encoder_2.projection.unwrap_or(self.text_encoder_2.hidden)
    }

    /// Width of the sinusoids of one of the six size numbers: 256 in every published model.
    pub fn size_embedding_width(&self) -> usize {
        self.unet.adm_channels.saturating_sub(self.pooled_width()) / SIZE_NUMBERS
    }
}

impl UnetConfig {
    /// Resolutions that the UNet works at.
    pub fn levels(&self) -> usize {
        self.channel_mult.len()
    }

    /// Channels of a level; 0 for one that isn't there.
    pub fn channels(&self, level: usize) -> usize {
        self.model_channels.saturating_mul(self.channel_mult.get(level).copied().unwrap_or(0))
    }

    /// Transformer blocks behind each residual block of a level; 0 for one that isn't there.
    pub fn depth(&self, level: usize) -> usize {
        self.transformer_depth.get(level).copied().unwrap_or(0)
    }
}

impl VaeConfig {
    /// Resolutions that the VAE works at.
    pub fn levels(&self) -> usize {
        self.channels.len()
    }
}
