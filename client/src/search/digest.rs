//! What tells one base model from another.

use lora_rates_common::spec::hex;
use lora_rates_common::tensor_file::{Error, TensorFile};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes of the field that holds a header's length.
const LENGTH_BYTES: usize = 8;

/// SHA-256 over the headers of these safetensors files, length fields included, in this order: 64 hexadecimal digits.
///
/// A header has the names, types, shapes and places of all tensors and the author's notes. The weights themselves, some
/// seven gigabytes, are not read.
///
/// # Errors
/// A file can't be read.
pub fn headers(files: &[&Path]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for path in files {
        let file = TensorFile::open(path)?;
        let length = file.bytes().first_chunk().map_or(0, |length: &[u8; LENGTH_BYTES]| u64::from_le_bytes(*length));
        // An open file's header lies within it.
        let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(LENGTH_BYTES);
        hash.update(file.bytes().get(..end).unwrap_or(file.bytes()));
    }
    Ok(hex(&hash.finalize()))
}
