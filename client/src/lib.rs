//! The command `lora-rates`: what people type.

pub mod cli;
pub mod commands;
#[cfg(feature = "demo")]
pub mod demo;
pub mod failure;
mod interrupt;
pub mod options;
pub mod output;
pub mod pictures;
pub mod progress;
mod random_model;
pub mod remote;
pub mod search;
pub mod settings;
mod sweep;
#[cfg(feature = "demo")]
mod world;
