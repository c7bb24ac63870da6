//! A tensor of the model as it lies in a file.

use crate::tensor_file::{Error, TensorView};
use std::borrow::Cow;

/// A canonical tensor and how it is stored.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// The stored bytes, rows of other tensors already cut off. Its shape may differ from the canonical one by
    /// trailing axes of length 1, or be the transpose.
    pub view: TensorView<'a>,
    /// Whether `view` is the transpose: only of two axes, and only for the text projection of a single file.
    pub transpose: bool,
    /// Canonical shape.
    pub shape: Vec<usize>,
}

impl<'a> Stored<'a> {
    /// The weights as f32, in the order of the canonical shape.
    ///
    /// # Errors
    /// The type holds no floating-point numbers; that of an open checkpoint always does.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let weights = self.view.to_f32()?;
        let Some(rows) = self.stored_rows() else { return Ok(weights) };
        let columns = weights.len() / rows;
        Ok((0..columns).flat_map(|column| weights.iter().skip(column).step_by(columns).copied()).collect())
    }

    /// The weights' bytes in the stored type, in the order of the canonical shape. Borrowed unless transposed.
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        let Some(rows) = self.stored_rows() else { return Cow::Borrowed(self.view.data) };
        let element = self.view.dtype.bitsize() / 8;
        let row = self.view.data.len() / rows;
        // Elements lie apart by their size, columns' elements by a row's.
        let starts = (0..row).step_by(element.max(1));
        let elements = starts.flat_map(|start| (0..rows).map(move |index| index * row + start));
        Cow::Owned(elements.flat_map(|at| self.view.data.iter().skip(at).take(element).copied()).collect())
    }

    /// Rows of the stored matrix if it has to be transposed and has any element.
    fn stored_rows(&self) -> Option<usize> {
        let rows = *self.view.shape.first()?;
        (self.transpose && rows > 0 && !self.view.data.is_empty()).then_some(rows)
    }
}
