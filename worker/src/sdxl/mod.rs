//! SDXL, written once over the operations of [`crate::ops`]: what is computed, not how.

pub mod clip;
pub mod embedding;
pub mod resblock;
pub mod transformer;
pub mod unet;
pub mod vae;
