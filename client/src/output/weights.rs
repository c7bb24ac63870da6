//! The rates as the reference's file: one tensor `weights` of 20 N f32.

use lora_rates_common::tensor_file::{Error, NewTensor, write};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the tensor.
pub const TENSOR: &str = "weights";

/// Writes the 20 N rates, network by network: whole or not at all.
///
/// # Errors
/// The operating system refuses.
pub fn save(path: &Path, rates: &[f64]) -> Result<(), Error> {
    let rates: Vec<f32> = rates.iter().map(|rate| *rate as f32).collect();
    write(path, &[NewTensor::from_f32(TENSOR, &[rates.len()], &rates)], &BTreeMap::new())
}
