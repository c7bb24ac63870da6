//! Rated layers: a frozen weight plus all networks that touch it, stacked along rank.
//!
//! With `A` `[R, inputs]` and `B` `[outputs, R]` the stacked factors and `r` `[R]` each column's rate times its network's
//! scale, the layer is `y = W x + B (r * (A x))`. For the backward pass it keeps `h = A x` and nothing else: with `g` the
//! gradient of y and `g_h = B^T g`, the gradient of r is `sum(h * g_h)` over the tokens, that of x is
//! `W^T g + A^T (r * g_h)`, and no weight has one.

use super::node::{Tracked, grad, is_tracked, node, parent};
use super::precision::{narrow, wide};
use crate::ops::ConvShape;
use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorPrimitive};

/// A linear layer's frozen parameters.
#[derive(Debug)]
pub struct Linear<B: Backend> {
    pub(super) name: String,
    /// `[outputs, inputs]`.
    pub(super) weight: Tensor<B, 2>,
    /// `[outputs]`.
    pub(super) bias: Option<Tensor<B, 1>>,
}

/// A convolution's frozen parameters.
#[derive(Debug)]
pub struct Conv<B: Backend> {
    pub(super) name: String,
    /// `[outputs, inputs, kernel, kernel]`.
    pub(super) weight: Tensor<B, 4>,
    /// `[outputs]`.
    pub(super) bias: Tensor<B, 1>,
    pub(super) shape: ConvShape,
}

/// The networks that touch one layer, stacked along rank; convolutions and linear layers alike.
#[derive(Clone, Debug)]
pub(super) struct Stacked<B: Backend> {
    /// `[R, inputs, kernel, kernel]`; kernel 1 on linear layers.
    pub(super) down: Tensor<B, 4>,
    /// `[outputs, R]`.
    pub(super) up: Tensor<B, 2>,
    /// Which of the pass's columns are this layer's.
    pub(super) columns: usize,
}

/// A layer's stack with its columns' rates in force.
pub(super) struct Rated<'a, B: Backend> {
    pub(super) stacked: &'a Stacked<B>,
    /// Rate times scale of each column, f32: `[R]`.
    pub(super) rates: Tracked<B, 1>,
}

/// `x` `[b, t, inputs]` to `[b, t, outputs]`.
pub(super) fn linear<B: Backend>(layer: &Linear<B>, rated: Option<Rated<'_, B>>, x: Tracked<B, 3>) -> Tracked<B, 3> {
    let (from_x, x) = (parent(&x), x.inner());
    let [batch, tokens, inputs] = x.dims();
    let outputs = layer.weight.dims()[0];
    let dtype = x.dtype();
    let x = x.reshape([batch * tokens, inputs]);
    let mut y = x.clone().matmul(layer.weight.clone().transpose());
    if let Some(bias) = &layer.bias {
        y = y + bias.clone().unsqueeze();
    }
    let weight = layer.weight.clone();
    let Some(rated) = rated else {
        let y = y.reshape([batch, tokens, outputs]);
        return node([from_x], y, move |g| {
            let g = g.reshape([batch * tokens, outputs]).matmul(weight.clone());
            [grad(g.reshape([batch, tokens, inputs]))]
        });
    };
    let (from_rates, rates) = (parent(&rated.rates), rated.rates.inner().unsqueeze::<2>());
    let [rank, ..] = rated.stacked.down.dims();
    let down: Tensor<B, 2> = rated.stacked.down.clone().reshape([rank, inputs]);
    let up = rated.stacked.up.clone();
    let h = x.matmul(down.clone().transpose()); // [b t, R]
    let y = y + scale(h.clone(), &rates).matmul(up.clone().transpose());
    let x_wanted = is_tracked::<B>(&from_x);
    node([from_x, from_rates], y.reshape([batch, tokens, outputs]), move |g| {
        let g = g.reshape([batch * tokens, outputs]);
        let gh = wide(g.clone().matmul(up.clone())); // [b t, R]
        let by_rate = (wide(h.clone()) * gh.clone()).sum_dim(0).reshape([rank]);
        let by_x = x_wanted.then(|| {
            let through = narrow(gh * rates.clone(), dtype).matmul(down.clone());
            let by_x = g.matmul(weight.clone()) + through;
            by_x.reshape([batch, tokens, inputs]).into_primitive().tensor()
        });
        [by_x, grad(by_rate)]
    })
}

/// `x` `[b, inputs, h, w]` to `[b, outputs, h', w']`.
pub(super) fn conv<B: Backend>(layer: &Conv<B>, rated: Option<Rated<'_, B>>, x: Tracked<B, 4>) -> Tracked<B, 4> {
    let (from_x, x) = (parent(&x), x.inner());
    let (dims, dtype) = (x.dims(), x.dtype());
    let options = options(layer.shape);
    let y = conv2d(x.clone(), layer.weight.clone(), Some(layer.bias.clone()), options.clone());
    let weight = layer.weight.clone();
    let Some(rated) = rated else {
        return node([from_x], y, move |g| [grad(conv_to_input(dims, weight.clone(), g, &options))]);
    };
    let (from_rates, rates) = (parent(&rated.rates), rated.rates.inner());
    let (down, up) = (rated.stacked.down.clone(), rated.stacked.up.clone());
    let [outputs, rank] = up.dims();
    let rates: Tensor<B, 4> = rates.reshape([1, rank, 1, 1]);
    let h = conv2d(x, down.clone(), None, options.clone()); // [b, R, h', w']
    let y = y + pointwise(scale(h.clone(), &rates), up.clone().reshape([outputs, rank, 1, 1]));
    let x_wanted = is_tracked::<B>(&from_x);
    node([from_x, from_rates], y, move |g| {
        let back = up.clone().transpose().reshape([rank, outputs, 1, 1]);
        let gh = wide(pointwise(g.clone(), back)); // [b, R, h', w']
        let by_rate = (wide(h.clone()) * gh.clone()).sum_dim(0).sum_dim(2).sum_dim(3).reshape([rank]);
        let by_x = x_wanted.then(|| {
            let through = conv_to_input(dims, down.clone(), narrow(gh * rates.clone(), dtype), &options);
            (conv_to_input(dims, weight.clone(), g, &options) + through).into_primitive().tensor()
        });
        [by_x, grad(by_rate)]
    })
}

/// `h` times its columns' rates, the product in f32.
fn scale<B: Backend, const D: usize>(h: Tensor<B, D>, rates: &Tensor<B, D>) -> Tensor<B, D> {
    let dtype = h.dtype();
    narrow(wide(h) * rates.clone(), dtype)
}

fn options(shape: ConvShape) -> ConvOptions<2> {
    ConvOptions::new([shape.stride; 2], [shape.padding; 2], [1; 2], 1)
}

fn pointwise<B: Backend>(x: Tensor<B, 4>, weight: Tensor<B, 4>) -> Tensor<B, 4> {
    conv2d(x, weight, None, ConvOptions::new([1; 2], [0; 2], [1; 2], 1))
}

/// Gradient of a convolution's input, whose shape is `dims`.
fn conv_to_input<B: Backend>(
    dims: [usize; 4],
    weight: Tensor<B, 4>,
    g: Tensor<B, 4>,
    options: &ConvOptions<2>,
) -> Tensor<B, 4> {
    // burn asks for the input itself but reads its shape alone.
    let x = Tensor::<B, 4>::empty(dims, (&g.device(), g.dtype()));
    let [x, weight, g] = [x, weight, g].map(|t| t.into_primitive().tensor());
    Tensor::from_primitive(TensorPrimitive::Float(B::conv2d_x_backward(x, weight, g, options.clone())))
}
