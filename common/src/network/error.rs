//! What can be wrong with a network file.

use crate::tensor_file::{self, Dtype};
use std::path::PathBuf;

/// Longest piece of a file's text that a message repeats, in characters.
const MAX_SHOWN: usize = 160;

/// Why a network can't be used. None of these goes away by trying again, save what the operating system refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No readable safetensors file.
    #[error(transparent)]
    File(#[from] tensor_file::Error),
    /// Modules other than LoRA and LoCon.
    #[error("{} holds {kind} modules ({key}): LoRA and LoCon are supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The first key that shows it.
        key: String,
        /// The kind, as its users call it.
        kind: &'static str,
    },
    /// A key matches no layer.
    #[error("{}: key {key}{} matches no layer of the model{}; give a network made for this model, or pass \
        --skip_unmatched_keys to leave such keys out", path.display(), more(*others), made_for(*family))]
    Unmatched {
        /// The file.
        path: PathBuf,
        /// The first such key.
        key: String,
        /// How many more there are.
        others: usize,
        /// The model that the file's keys and shapes speak of, if recognised.
        family: Option<&'static str>,
    },
    /// All keys were skipped.
    #[error("{}: none of its {keys} keys matches a layer of the model{}; give a network made for this model",
        path.display(), made_for(*family))]
    NothingMatched {
        /// The file.
        path: PathBuf,
        /// How many keys it has.
        keys: usize,
        /// The model that the file's keys and shapes speak of, if recognised.
        family: Option<&'static str>,
    },
    /// The file has no tensors.
    #[error("{} holds no modules; give a trained network", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// One layer is named twice.
    #[error("{}: {first} and {second} both name layer {layer}; keep one of them", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// Canonical name of the layer.
        layer: String,
        /// A key that names it.
        first: String,
        /// Another.
        second: String,
    },
    /// A module isn't whole.
    #[error("{}: {key} has no {missing} beside it; save or download the file again", path.display())]
    MissingHalf {
        /// The file.
        path: PathBuf,
        /// The key that is there.
        key: String,
        /// What isn't, in words.
        missing: &'static str,
    },
    /// A tensor doesn't fit its layer.
    #[error("{}: {key} has shape {found:?}, but {expected}{}; give a network made for this model",
        path.display(), made_for(*family))]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// Its shape.
        found: Vec<usize>,
        /// The layer and the shape that it takes, in words.
        expected: String,
        /// The model that the file's keys and shapes speak of, if recognised.
        family: Option<&'static str>,
    },
    /// A module of rank 0.
    #[error("{}: {key} has rank 0; train or save the network again", path.display())]
    ZeroRank {
        /// The file.
        path: PathBuf,
        /// The module's down tensor.
        key: String,
    },
    /// A type that holds no usable numbers.
    #[error("{}: {key} has type {dtype}; convert it to F16, BF16 or F32", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// Its type.
        dtype: Dtype,
    },
    /// An infinity or NaN among the weights.
    #[error("{}: {key} is infinite or NaN at element {place}; the training failed, use an earlier save",
        path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// Place of the first such number.
        place: usize,
    },
    /// An alpha that is no number.
    #[error("{}: {key} {why}; an alpha is one finite number", path.display())]
    Alpha {
        /// The file.
        path: PathBuf,
        /// The alpha's key.
        key: String,
        /// What it is instead.
        why: String,
    },
    /// The adapter's settings in the header make no sense.
    #[error("{}: its header's lora_adapter_metadata {why}; save the network again", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// One file was given twice.
    #[error("{} and {} are the same network; give each network once", first.display(), second.display())]
    SameFile {
        /// The path given first.
        first: PathBuf,
        /// The path given later.
        second: PathBuf,
    },
    /// A module was looked up in a network that isn't its own.
    #[error("{} has no key {key}: the module belongs to another network", path.display())]
    OtherNetwork {
        /// The file that was asked.
        path: PathBuf,
        /// The key that it lacks.
        key: String,
    },
}

/// A key as a message may show it: keys come from the file, which may hold control characters or megabytes.
pub(super) fn shown(key: &str) -> String {
    let mut text: String = key.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if key.chars().nth(MAX_SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

fn more(others: usize) -> String {
    match others {
        0 => String::new(),
        _ => format!(" (and {others} more)"),
    }
}

fn made_for(family: Option<&str>) -> String {
    family.map(|family| format!(" (the file looks made for {family})")).unwrap_or_default()
}
