//! Whole-system tests: numbers against golden, and processes against each other. What several of them need is here.

pub mod cluster;
pub mod connecting;
#[cfg(feature = "golden")]
pub mod golden;
pub mod reference;
pub mod searches;
pub mod synthetic;
