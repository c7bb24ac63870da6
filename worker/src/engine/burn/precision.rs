//! Sums, norms and exponentials are computed in f32 whatever the activations are stored in.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// What activations are stored and multiplied in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    /// Of tensors large enough to matter.
    pub(super) large: DType,
    /// Tensors of fewer numbers stay in f32: they don't fill a GPU, so a shorter type saves neither time nor memory, and
    /// every rounding left out makes the gradient better.
    pub(super) small: usize,
}

impl Storage {
    /// The type for a tensor of this shape.
    pub(super) fn of<const D: usize>(self, shape: [usize; D]) -> DType {
        if shape.iter().product::<usize>() < self.small { DType::F32 } else { self.large }
    }
}

/// `x` in f32.
pub(super) fn wide<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    narrow(x, DType::F32)
}

/// `x` as `dtype`.
pub(super) fn narrow<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
