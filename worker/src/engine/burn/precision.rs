//! Sums, norms and exponentials are computed in f32 whatever the activations are stored in.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// `x` in f32.
pub(super) fn wide<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    narrow(x, DType::F32)
}

/// `x` as `dtype`.
pub(super) fn narrow<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
