//! Group and layer normalisation, statistics in f32; kept for the backward pass: the input, means and deviations.

use super::activation::Pointwise;
use super::layout::by_channel;
use super::node::{Tracked, grad, node, parent};
use super::precision::{Storage, narrow, wide};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Groups of channels in every group norm of SDXL.
const GROUPS: usize = 32;

/// Scale and shift `[channels]`, f32.
#[derive(Debug)]
pub struct Norm<B: Backend> {
    pub(super) scale: Tensor<B, 1>,
    pub(super) shift: Tensor<B, 1>,
    pub(super) storage: Storage,
}

/// `(x - mean) / sqrt(variance + eps)` over the last axis.
struct Standard<B: Backend> {
    mean: Tensor<B, 3>,
    /// `1 / sqrt(variance + eps)`.
    inverse: Tensor<B, 3>,
}

impl<B: Backend> Standard<B> {
    /// Statistics of the rows of `x` `[b, rows, n]`: `[b, rows, 1]`.
    fn of(x: Tensor<B, 3>, eps: f64) -> Self {
        let mean = x.clone().mean_dim(2);
        let centred = x - mean.clone();
        let variance = (centred.clone() * centred).mean_dim(2);
        Self { mean, inverse: (variance + eps).sqrt().recip() }
    }

    fn apply(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        (x - self.mean.clone()) * self.inverse.clone()
    }

    /// Gradient of `x` from that of the standardised `z`: `inverse (g - mean(g) - z mean(g z))`.
    fn pull(&self, z: Tensor<B, 3>, g: Tensor<B, 3>) -> Tensor<B, 3> {
        let along = (g.clone() * z.clone()).mean_dim(2);
        let mean = g.clone().mean_dim(2);
        (g - mean - z * along) * self.inverse.clone()
    }
}

/// Layer norm of each token of `x` `[b, t, c]`.
pub(super) fn layer_norm<B: Backend>(norm: &Norm<B>, x: Tracked<B, 3>, eps: f64) -> Tracked<B, 3> {
    let parent = parent(&x);
    let x = x.inner();
    let (dtype, output) = (x.dtype(), norm.storage.of(x.dims()));
    let standard = Standard::of(wide(x.clone()), eps);
    let scale = norm.scale.clone().reshape([1, 1, -1]);
    let y = standard.apply(wide(x.clone())) * scale.clone() + norm.shift.clone().reshape([1, 1, -1]);
    node([parent], narrow(y, output), move |g| {
        let z = standard.apply(wide(x.clone()));
        [grad(narrow(standard.pull(z, wide(g) * scale.clone()), dtype))]
    })
}

/// Group norm of `x` `[b, c, h, w]`, then SiLU if asked.
pub(super) fn group_norm<B: Backend>(norm: &Norm<B>, x: Tracked<B, 4>, eps: f64, silu: bool) -> Tracked<B, 4> {
    let parent = parent(&x);
    let x = x.inner();
    let (dims, dtype) = (x.dims(), x.dtype());
    let output = norm.storage.of(dims);
    let [batch, channels, height, width] = dims;
    let rows = [batch, GROUPS, channels / GROUPS * height * width];
    let standard = Standard::of(wide(x.clone()).reshape(rows), eps);
    let (scale, shift) = (by_channel(norm.scale.clone(), batch), by_channel(norm.shift.clone(), batch));
    let slope = scale.clone();
    let affine = move |z: Tensor<B, 3>| z.reshape(dims) * scale.clone() + shift.clone();
    let y = affine(standard.apply(wide(x.clone()).reshape(rows)));
    let y = if silu { Pointwise::Silu.value(y) } else { y };
    node([parent], narrow(y, output), move |g| {
        let z = standard.apply(wide(x.clone()).reshape(rows));
        let g = match silu {
            true => wide(g) * Pointwise::Silu.derivative(affine(z.clone())),
            false => wide(g),
        };
        let g = standard.pull(z, (g * slope.clone()).reshape(rows));
        [grad(narrow(g.reshape(dims), dtype))]
    })
}
