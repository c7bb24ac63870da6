//! A tensor as it lies in its file.

use super::Error;
use half::{bf16, f16};
use safetensors::Dtype;
use std::ops::Range;
use std::path::Path;

/// A tensor of an open file, borrowed from its memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// The file that it lies in, for messages.
    pub path: &'a Path,
    /// Its name in that file.
    pub name: &'a str,
    /// Type of an element.
    pub dtype: Dtype,
    /// Shape in PyTorch's order; the last axis is contiguous.
    pub shape: Vec<usize>,
    /// Its bytes, little endian. Not aligned.
    pub data: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// All elements as f32, in the order of the file.
    ///
    /// # Errors
    /// [`Error::NotFloat`] unless the type is F16, BF16, F32 or F64.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        Ok(match self.dtype {
            Dtype::F16 => self.map(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => self.map(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F32 => self.map(f32::from_le_bytes),
            Dtype::F64 => self.map(|bytes| f64::from_le_bytes(bytes) as f32),
            _ => return Err(self.not_float()),
        })
    }

    /// Whether the type is one that [`Self::to_f32`] reads.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }

    /// Place (counted in elements) of the first infinity or NaN; `None` if there is none, or if the type is none that
    /// [`Self::to_f32`] reads. An F64 beyond the range of f32 counts as infinite.
    pub fn first_non_finite(&self) -> Option<usize> {
        match self.dtype {
            // A number is infinite or NaN exactly if all bits of its exponent are set.
            Dtype::F16 => self.find(|bytes| u16::from_le_bytes(bytes) & 0x7c00 == 0x7c00),
            Dtype::BF16 => self.find(|bytes| u16::from_le_bytes(bytes) & 0x7f80 == 0x7f80),
            Dtype::F32 => self.find(|bytes| u32::from_le_bytes(bytes) & 0x7f80_0000 == 0x7f80_0000),
            Dtype::F64 => self.find(|bytes| !(f64::from_le_bytes(bytes) as f32).is_finite()),
            _ => None,
        }
    }

    /// Rows `[start, end)` of the first axis; `None` if there is no first axis or it is shorter.
    pub fn rows(&self, rows: Range<usize>) -> Option<TensorView<'a>> {
        let count = *self.shape.first()?;
        if rows.start > rows.end || rows.end > count || !self.data.len().is_multiple_of(count.max(1)) {
            return None;
        }
        let row = self.data.len() / count.max(1);
        let mut shape = self.shape.clone();
        *shape.first_mut()? = rows.len();
        let data = self.data.get(rows.start * row..rows.end * row)?;
        Some(TensorView { shape, data, ..*self })
    }

    fn not_float(&self) -> Error {
        Error::NotFloat { path: self.path.to_owned(), tensor: self.name.to_owned(), dtype: self.dtype }
    }

    fn map<const N: usize>(&self, convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        self.data.as_chunks::<N>().0.iter().map(|bytes| convert(*bytes)).collect()
    }

    fn find<const N: usize>(&self, bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
        // Runs without an early exit become vector instructions: a checkpoint has billions of elements, nearly all
        // good.
        const RUN: usize = 4096;
        let elements = self.data.as_chunks::<N>().0;
        let any = |run: &[[u8; N]]| run.iter().fold(false, |any, bytes| any | bad(*bytes));
        let run = elements.chunks(RUN).position(any)?;
        elements.iter().skip(run * RUN).position(|bytes| bad(*bytes)).map(|place| run * RUN + place)
    }
}
