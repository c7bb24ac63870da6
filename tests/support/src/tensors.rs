//! A reader of safetensors files that shares no code with the one under test.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::cache;

/// A safetensors file held in memory.
pub struct TensorFile {
    bytes: Vec<u8>,
    /// Offset of the first tensor's data in `bytes`.
    start: usize,
    header: HashMap<String, Value>,
}

/// One tensor as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Element type in the format's spelling, such as `F16`.
    pub dtype: &'a str,
    /// Little-endian elements, last axis fastest.
    pub bytes: &'a [u8],
    shape: &'a Value,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Panics
    /// If it cannot be read or its header is not one.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self::parse(cache::read(path)).unwrap_or_else(|| panic!("{} is not a safetensors file", path.display()))
    }

    /// Takes a file's contents; `None` if they do not begin with a safetensors header.
    #[must_use]
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let start = usize::try_from(length).ok()?.checked_add(8)?;
        let header = serde_json::from_slice(bytes.get(8..start)?).ok()?;
        Some(Self { bytes, start, header })
    }

    /// The names of all tensors, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.keys().map(String::as_str).filter(|name| *name != "__metadata__")
    }

    /// A tensor by its name.
    ///
    /// # Panics
    /// If the file has none of that name, or its entry in the header makes no sense.
    #[must_use]
    pub fn get(&self, name: &str) -> Tensor<'_> {
        let entry = self.header.get(name).unwrap_or_else(|| panic!("the file has no tensor {name}"));
        let offset = |at: usize| entry["data_offsets"][at].as_u64().map(|offset| self.start + offset as usize);
        let bytes = offset(0).zip(offset(1)).and_then(|(from, to)| self.bytes.get(from..to));
        let dtype = entry["dtype"].as_str();
        let (Some(dtype), Some(bytes)) = (dtype, bytes) else { panic!("the header's entry of {name} makes no sense") };
        Tensor { dtype, bytes, shape: &entry["shape"] }
    }
}

impl Tensor<'_> {
    /// The sizes of all axes.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        sizes(self.shape)
    }

    /// The elements of an F32 or F64 tensor, as f64.
    ///
    /// # Panics
    /// If it has another type.
    #[must_use]
    pub fn floats(&self) -> Vec<f64> {
        match self.dtype {
            "F32" => elements(self.bytes, |raw| f64::from(f32::from_le_bytes(raw))),
            "F64" => elements(self.bytes, f64::from_le_bytes),
            other => panic!("floats() reads F32 and F64, not {other}"),
        }
    }
}

/// A JSON list of sizes.
pub(crate) fn sizes(list: &Value) -> Vec<usize> {
    let axes = list.as_array().unwrap_or_else(|| panic!("{list} is no list of sizes"));
    axes.iter().map(|axis| axis.as_u64().unwrap_or_else(|| panic!("{list} is no list of sizes")) as usize).collect()
}

fn elements<const WIDTH: usize>(bytes: &[u8], decode: impl Fn([u8; WIDTH]) -> f64) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|raw| decode(*raw)).collect()
}
