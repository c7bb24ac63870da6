//! The one way between the protocol and the domain, and the one gate where what comes over the network is checked.
//!
//! Domain to protocol is `From`; protocol to domain is `TryFrom` with [`Error`], which names the field. Past this module
//! nothing is checked again for form, length or range; what only the search knows (shapes of a gradient, which leases
//! there are) is checked there.

mod blob;
mod check;
mod conclusion;
mod error;
mod message;
mod options;
mod sampling;
mod search;
mod service;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use blob::blob_key;
pub use error::Error;
pub use message::{
    Baseline, CreateSearch, PrepareProgress, SearchEvent, SearchState, SearchStatus, StepRecord, Validation,
};
pub use message::{BlobKey, Memory, ModelDescription, WorkerState, WorkerStatus};
pub use message::{Describe, Described, Encode, Encoded, Evaluate, Evaluated, Heartbeat};
pub use message::{Failed, Gradient, Hello, Lease, Prepare, Progress, Rates};
pub use sampling::{Draw, Drawn, SamplePicture, draw};
pub use search::{search_id, search_states};
pub use service::{RatesOf, model_path, network_rates};
pub use worker::{encode, evaluate, lease};

use crate::block::BLOCKS;

/// Most networks of a search.
pub const MAX_NETWORKS: usize = 256;
/// Most rates of a search.
pub const MAX_RATES: usize = MAX_NETWORKS * BLOCKS;
/// Most pictures of a search.
pub const MAX_IMAGES: usize = 100_000;
/// Longest caption, in bytes.
pub const MAX_CAPTION: usize = 64 << 10;
/// Longest path, in bytes.
pub const MAX_PATH: usize = 4096;
/// Longest name of a worker, a device, a network or an identifier, in bytes.
pub const MAX_NAME: usize = 1024;
/// Longest message in words, in bytes; what is over is cut, not refused.
pub const MAX_MESSAGE: usize = 16 << 10;
/// Most samples of a microbatch.
pub const MAX_BATCH: u32 = 4096;
/// Most microbatches of a step.
pub const MAX_ACCUMULATION: u32 = 65_536;
/// Most steps of a search.
pub const MAX_STEPS: u64 = 100_000_000;
/// Largest blob, in bytes.
pub const MAX_BLOB: u64 = 8 << 30;
/// Most searches or workers on a page.
pub const MAX_PAGE: u32 = 1000;
/// Longest token of a page, in bytes.
pub const MAX_TOKEN: usize = 64;
/// Longest JSON of a model's sizes, in bytes.
pub const MAX_CONFIG: usize = 64 << 10;
