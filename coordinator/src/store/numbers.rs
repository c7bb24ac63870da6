//! Lists of f64 as blobs, little-endian, to the last bit.

/// Bytes of a number.
const SIZE: usize = size_of::<f64>();

pub(super) fn to_blob(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// `None` when it is no whole number of numbers.
pub(super) fn from_blob(blob: &[u8]) -> Option<Vec<f64>> {
    let (numbers, rest) = blob.as_chunks::<SIZE>();
    rest.is_empty().then(|| numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}
