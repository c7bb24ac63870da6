//! The one way between the protocol and the domain, and the one gate where what comes over the network is checked.
//!
//! Domain to protocol is `From`; protocol to domain is `TryFrom` with [`Error`], which names the field. Past this module
//! nothing is checked again for form, length or range; what only the search knows (shapes of a gradient, which leases
//! there are) is checked there.

mod check;
mod error;
mod message;
mod options;
mod search;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use error::Error;
pub use message::{CreateSearch, PrepareProgress, SearchEvent, SearchState, SearchStatus, StepRecord};
pub use message::{Failed, Gradient, Hello, Lease, Prepare, Progress, Rates};
pub use search::search_id;
pub use worker::lease;

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
