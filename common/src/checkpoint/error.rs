//! What can be wrong with a checkpoint.

use super::Family;
use crate::sdxl::config::LATENT_SCALE;
use crate::sdxl::{Part, config};
use crate::tensor_file::{self, Dtype};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a path is no SDXL checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of weights can't be read.
    #[error(transparent)]
    File(#[from] tensor_file::Error),
    /// Another file of the checkpoint can't be read.
    #[error("can't read {}: {source}; check the path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A JSON file of the checkpoint is broken.
    #[error("{} is broken: {what}; download it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A model of another family.
    #[error("{} is {family}; LoRA Rates searches SDXL: give an SDXL checkpoint", path.display())]
    Family {
        /// The checkpoint.
        path: PathBuf,
        /// The family that it belongs to.
        family: Family,
    },
    /// A file of weights that is no checkpoint.
    #[error(
        "{} is {kind}, not a checkpoint; give an SDXL checkpoint (a single file or a diffusers folder)",
        path.display()
    )]
    NotCheckpoint {
        /// The file or folder.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// A file or folder that is no VAE.
    #[error("{} is no VAE of the SDXL family; give a VAE's file or its diffusers folder", path.display())]
    NotVae {
        /// The file or folder.
        path: PathBuf,
    },
    /// The VAE of another family: its shapes may fit, its latents don't.
    #[error(
        "the VAE in {} has latents scaled by {scale}, SDXL's by {LATENT_SCALE}; give a VAE of the SDXL family",
        path.display()
    )]
    VaeScale {
        /// The VAE's configuration.
        path: PathBuf,
        /// The scale that it states.
        scale: f64,
    },
    /// A folder without the weights that it should hold.
    #[error("{} holds no {stem}.safetensors; download the folder again, with its safetensors files", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// The expected file name without `.safetensors`.
        stem: &'static str,
    },
    /// A whole part of the model isn't there.
    #[error("{} has no {part}; {}", path.display(), remedy(*part))]
    NoPart {
        /// The checkpoint.
        path: PathBuf,
        /// The part.
        part: Part,
    },
    /// The sizes make no SDXL model.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: config::Error,
    },
    /// A tensor isn't as it should be.
    #[error("{}: tensor {tensor} {fault}{}; {}", path.display(), also(*more), fault.remedy())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The tensor's name: as stored, or the canonical one if it is missing.
        tensor: String,
        /// What is wrong with it.
        fault: Fault,
        /// How many other tensors are wrong.
        more: usize,
    },
    /// A weight is infinite or not a number.
    #[error("{}: tensor {tensor} has infinite or undefined weights; download or convert it again", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
    },
    /// A tensor was asked for that no model of these sizes has.
    #[error("{} has no tensor {tensor}; ask for one that its layout lists", path.display())]
    NoTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The name asked for.
        tensor: String,
    },
}

/// What is wrong with a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It isn't there.
    Missing,
    /// Its shape is another.
    Shape {
        /// The shape found, as a canonical tensor.
        found: Vec<usize>,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// Its elements are of another kind than 16, 32 or 64 bit floating-point numbers.
    Type(Dtype),
    /// SDXL has none of this name.
    Extra,
    /// Another stored tensor stands for the same one.
    Twice,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Shape { found, expected } => write!(f, "has shape {found:?}, not {expected:?}"),
            Self::Type(dtype) => write!(f, "has type {dtype}"),
            Self::Extra => f.write_str("is none of SDXL's"),
            Self::Twice => f.write_str("is stored twice"),
        }
    }
}

impl Fault {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Missing => "give a complete SDXL checkpoint",
            Self::Type(_) => "give a checkpoint in fp16, bf16 or fp32",
            Self::Shape { .. } | Self::Extra | Self::Twice => "give a checkpoint of SDXL's own structure",
        }
    }
}

fn also(more: usize) -> String {
    match more {
        0 => String::new(),
        1 => " (and 1 more tensor is wrong)".to_owned(),
        more => format!(" (and {more} more tensors are wrong)"),
    }
}

fn remedy(part: Part) -> &'static str {
    match part {
        Part::Vae => "give one with --vae",
        _ => "give a complete SDXL checkpoint",
    }
}
