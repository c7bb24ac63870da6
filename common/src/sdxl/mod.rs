//! What SDXL is made of: its sizes, its layers and tensors by name, and the names other layouts give them.
//!
//! Canonical names are, for the UNet and the VAE, those of the original single-file checkpoint below their prefix
//! (`input_blocks.4.1.proj_in`, `encoder.down.0.block.0.conv1`), and for the text encoders those of transformers
//! (`text_model.encoder.layers.0.self_attn.q_proj`).

pub mod config;
pub mod layout;
pub mod names;
pub mod random;

use crate::block::Block;
use std::fmt;

/// A part of the model with weights of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// CLIP-L.
    TextEncoder1,
    /// OpenCLIP bigG.
    TextEncoder2,
    /// The denoiser.
    Unet,
    /// The picture autoencoder.
    Vae,
}

impl Part {
    /// First segment of canonical names: `text_encoder`, `text_encoder_2`, `unet`, `vae`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::TextEncoder1 => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
            Self::Unet => "unet",
            Self::Vae => "vae",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

/// A tensor of the model: canonical name with its part's prefix (`unet.input_blocks.0.0.weight`) and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Canonical name, part's prefix first.
    pub name: String,
    /// Shape in PyTorch's order.
    pub shape: Vec<usize>,
}

/// What a layer computes, as far as a network that adds to it must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// Weight `[outputs, inputs]`.
    Linear {
        /// Width of the input.
        inputs: usize,
        /// Width of the output.
        outputs: usize,
    },
    /// Weight `[outputs, inputs, kernel, kernel]`.
    Conv {
        /// Channels of the input.
        inputs: usize,
        /// Channels of the output.
        outputs: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Stride in both directions.
        stride: usize,
        /// Padding on every side.
        padding: usize,
    },
}

/// A linear or convolution layer to which a network may add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The part that it belongs to: the UNet or a text encoder.
    pub part: Part,
    /// Canonical name with the part's prefix, without `.weight`: `unet.input_blocks.4.1.proj_in`.
    pub name: String,
    /// Its sizes.
    pub kind: LayerKind,
    /// The slot of the rates that scales a network's module here.
    pub block: Block,
}
