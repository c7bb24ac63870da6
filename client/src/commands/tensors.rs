//! Tensors that a user hands to a command: read from a file and checked, so that the engine gets what it expects.

use lora_rates_common::tensor_file::{self, Dtype, TensorFile, TensorView};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong with a tensor file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] tensor_file::Error),
    /// It lacks a tensor.
    #[error("{} has no tensor {tensor}; it must be there, with shape {shape}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What its shape must be.
        shape: String,
    },
    /// A tensor has another shape.
    #[error("tensor {tensor} of {} has shape {found:?}; it must be {shape}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// What its shape must be.
        shape: String,
    },
    /// A tensor holds another kind of number.
    #[error("tensor {tensor} of {} has type {found:?}; it must be {wanted}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its type.
        found: Dtype,
        /// What its type must be.
        wanted: &'static str,
    },
    /// A number is out of range, or the shape is one that the model can't compute.
    #[error("tensor {tensor} of {}: {what}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it, and what it must be.
        what: String,
    },
}

/// What one axis of a tensor must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Axis {
    /// Any number of elements from 1 on; the name is for messages.
    Free(&'static str),
    /// This many elements.
    Is(usize),
}

/// A tensor's elements in row-major order, and its shape.
#[derive(Debug)]
pub(super) struct Shaped<T, const AXES: usize> {
    pub(super) shape: [usize; AXES],
    pub(super) values: Vec<T>,
}

/// An open file of input tensors.
#[derive(Debug)]
pub(super) struct Inputs(TensorFile);

impl Inputs {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self(TensorFile::open(path)?))
    }

    pub(super) fn contains(&self, tensor: &str) -> bool {
        self.0.contains(tensor)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names()
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A tensor of finite floating-point numbers.
    pub(super) fn floats<const AXES: usize>(
        &self,
        tensor: &str,
        axes: [Axis; AXES],
    ) -> Result<Shaped<f32, AXES>, Error> {
        let (view, shape) = self.view(tensor, axes)?;
        if !view.is_float() {
            return Err(self.wrong_type(&view, "F32 (F16, BF16 and F64 are read too)"));
        }
        if let Some(at) = view.first_non_finite() {
            return Err(self.value(tensor, format!("element {at} is infinite or no number")));
        }
        Ok(Shaped { shape, values: view.to_f32()? })
    }

    /// A tensor of i64 in `range`; `what` calls one of its elements in messages.
    pub(super) fn integers<const AXES: usize>(
        &self,
        tensor: &str,
        axes: [Axis; AXES],
        range: Range<usize>,
        what: &str,
    ) -> Result<Shaped<u32, AXES>, Error> {
        let (view, shape) = self.view(tensor, axes)?;
        if view.dtype != Dtype::I64 {
            return Err(self.wrong_type(&view, "I64"));
        }
        let read = |(at, bytes): (usize, &[u8; 8])| {
            let value = i64::from_le_bytes(*bytes);
            let fits = usize::try_from(value).is_ok_and(|value| range.contains(&value));
            u32::try_from(value).ok().filter(|_| fits).ok_or_else(|| {
                let (first, last) = (range.start, range.end.saturating_sub(1));
                self.value(tensor, format!("element {at} is {value}; a {what} must be {first} to {last}"))
            })
        };
        let values = view.data.as_chunks::<8>().0.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Shaped { shape, values })
    }

    /// An error about this tensor's contents.
    pub(super) fn value(&self, tensor: &str, what: String) -> Error {
        Error::Value { path: self.path().to_owned(), tensor: tensor.to_owned(), what }
    }

    fn view<const AXES: usize>(
        &self,
        name: &str,
        axes: [Axis; AXES],
    ) -> Result<(TensorView<'_>, [usize; AXES]), Error> {
        let (path, tensor) = (|| self.path().to_owned(), name.to_owned());
        let Some(view) = self.0.get(name) else {
            return Err(Error::Missing { path: path(), tensor, shape: shown(&axes) });
        };
        let shape = <[usize; AXES]>::try_from(view.shape.as_slice()).ok();
        let fits = |shape: &[usize; AXES]| shape.iter().zip(&axes).all(|(found, axis)| axis.takes(*found));
        let Some(shape) = shape.filter(fits) else {
            return Err(Error::Shape { path: path(), tensor, found: view.shape, shape: shown(&axes) });
        };
        Ok((view, shape))
    }

    fn wrong_type(&self, view: &TensorView<'_>, wanted: &'static str) -> Error {
        let (path, tensor) = (self.path().to_owned(), view.name.to_owned());
        Error::Type { path, tensor, found: view.dtype, wanted }
    }
}

impl Axis {
    fn takes(self, found: usize) -> bool {
        match self {
            Self::Free(_) => found > 0,
            Self::Is(size) => found == size,
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free(name) => f.write_str(name),
            Self::Is(size) => write!(f, "{size}"),
        }
    }
}

/// `[B, 4, h, w]`
fn shown(axes: &[Axis]) -> String {
    let axes: Vec<String> = axes.iter().map(Axis::to_string).collect();
    format!("[{}]", axes.join(", "))
}
