//! The domain of LoRA Rates, pure: no tokio, no tonic, no burn.
//!
//! Everything that the coordinator, the workers and the client must agree on lives here, and nothing that needs a
//! network, a clock or an accelerator.

pub mod block;
pub mod checkpoint;
pub mod conclusion;
pub mod convert;
pub mod dataset;
pub mod diffusion;
pub mod network;
pub mod noise;
pub mod optimizer;
pub mod penalty;
pub mod picture;
pub mod plan;
pub mod sampling;
pub mod schedule;
pub mod sdxl;
pub mod spec;
pub mod tensor_file;
pub mod tokenizer;
pub mod validation;
