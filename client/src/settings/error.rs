//! What can be wrong with options, before any file is opened.

use lora_rates_common::dataset::buckets;
use lora_rates_common::{diffusion, optimizer, schedule};

/// Why options make no sense. Each names the option.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option that must be given is not.
    #[error("--{option} is missing: {what}")]
    Missing {
        /// The option.
        option: &'static str,
        /// What to give.
        what: &'static str,
    },
    /// A number out of range.
    #[error("--{option} is {value}; it must be {range}")]
    Range {
        /// The option.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What it may be, in words.
        range: String,
    },
    /// A value that there is not, with the reason.
    #[error("--{option} {value}: {why}")]
    Unsupported {
        /// The option.
        option: &'static str,
        /// What it was given.
        value: String,
        /// Why not, and what to give instead.
        why: String,
    },
    /// An option that makes no sense without another.
    #[error("--{option} needs --{needed}: {what}")]
    Needs {
        /// The option.
        option: &'static str,
        /// The other.
        needed: &'static str,
        /// Why.
        what: &'static str,
    },
    /// Two options that contradict each other.
    #[error("--{0} and --{1} exclude each other: give one of them")]
    Conflict(&'static str, &'static str),
    /// The sizes of the pictures.
    #[error(transparent)]
    Buckets(#[from] buckets::Error),
    /// The loss.
    #[error(transparent)]
    Loss(#[from] diffusion::Error),
    /// The optimizer's options.
    #[error(transparent)]
    OptimizerArgs(#[from] optimizer::ArgumentError),
    /// The learning rate.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
}
