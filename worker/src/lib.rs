//! The worker: SDXL with its networks on one device, and the session that works for a coordinator.

pub mod bench;
pub mod blob_cache;
pub mod cache;
pub mod device;
pub mod encoding;
pub mod engine;
pub mod gpu_thread;
pub mod models;
pub mod ops;
pub mod parts;
pub mod sampler;
pub mod sdxl;
pub mod search;
pub mod session;
pub mod source;
