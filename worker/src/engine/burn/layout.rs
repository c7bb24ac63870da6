//! Layouts that burn's processor backend is fast on.
//!
//! Its elementwise kernels run over contiguous memory, over a vector along the last axis and over one number per row;
//! anything else (a transposed tensor, a vector along an inner axis) is walked number by number, which took a third of a
//! whole step. GPUs don't care, and there a copy would cost a launch, so tensors on GPUs are left as they are.

use super::node::{Tracked, grad, node, parent};
use burn::backend::Flex;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::any::TypeId;

/// Whether tensors of this backend are computed by the processor.
pub(super) fn on_processor<B: Backend>() -> bool {
    TypeId::of::<B>() == TypeId::of::<Flex>()
}

/// The same numbers, on the processor in contiguous memory.
pub(super) fn plain<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    if !on_processor::<B>() {
        return x;
    }
    let dims = x.dims();
    let count: usize = dims.iter().product();
    x.reshape([count]).reshape(dims)
}

/// A vector `[c]` as something that is broadcast over `[batch, c, h, w]`.
pub(super) fn by_channel<B: Backend>(vector: Tensor<B, 1>, batch: usize) -> Tensor<B, 4> {
    let vector: Tensor<B, 4> = vector.reshape([1, -1, 1, 1]);
    if on_processor::<B>() { vector.repeat_dim(0, batch) } else { vector }
}

/// `[b, m, n]` to `[b, n, m]`, and its gradient back.
pub(super) fn transposed<B: Backend>(x: Tracked<B, 3>) -> Tracked<B, 3> {
    let from = parent(&x);
    node([from], plain(x.inner().swap_dims(1, 2)), |g| [grad(plain(g.swap_dims(1, 2)))])
}
