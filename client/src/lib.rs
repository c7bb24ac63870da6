//! The command `lora-rates`: what people type.

pub mod commands;
pub mod demo;
pub mod failure;
