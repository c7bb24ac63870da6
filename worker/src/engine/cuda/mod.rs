//! The engine for NVIDIA GPUs: the UNet's forward pass and the gradients that the rates need, planned before anything runs.
//!
//! The model's text is run over a recorder ([`tape`]); a planner makes a program of leaf operations of it, forward and
//! backward, and finds every buffer a place in one arena ([`plan`]); a device runs programs ([`executor`]): the processor
//! one plain loop at a time ([`mod@reference`]), or a GPU, for which leaf operations become kernels and library calls
//! ([`launch`]).
//!
//! Everything but the calls themselves is tested without a GPU.

#[cfg(feature = "cuda")]
pub mod device;
mod engine;
mod error;
pub mod executor;
pub mod launch;
mod networks;
pub mod packed;
pub mod parameters;
pub mod plan;
mod read;
pub mod reference;
pub mod tape;

#[cfg(test)]
mod tests;

pub use engine::CudaEngine;
pub use error::Error;
