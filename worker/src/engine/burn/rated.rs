//! Rated layers: a frozen weight plus all networks that touch it, stacked along rank.
//!
//! With `A` `[R, inputs]` and `B` `[outputs, R]` the stacked factors and `r` `[R]` each column's rate times its network's
//! scale, the layer is `y = W x + B (r * (A x))`. For the backward pass it keeps `h = A x` and nothing else: with `g` the
//! gradient of y and `g_h = B^T g`, the gradient of r is `sum(h * g_h)` over the tokens, that of x is
//! `W^T g + A^T (r * g_h)`, and no weight has one.

use super::node::{Tracked, grad, is_tracked, node, parent};
use super::precision::{Storage, narrow, wide};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A linear layer's frozen parameters.
#[derive(Debug)]
pub struct Linear<B: Backend> {
    pub(super) name: String,
    pub(super) storage: Storage,
    /// `[outputs, inputs]`.
    pub(super) weight: Tensor<B, 2>,
    /// `[outputs]`.
    pub(super) bias: Option<Tensor<B, 1>>,
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
    let given = x.dtype();
    let dtype = layer.storage.of([batch, tokens, inputs.max(outputs)]);
    let weight = narrow(layer.weight.clone(), dtype);
    let x = narrow(x, dtype).reshape([batch * tokens, inputs]);
    let mut y = wide(x.clone().matmul(weight.transpose()));
    if let Some(bias) = &layer.bias {
        y = y + wide(bias.clone()).unsqueeze();
    }
    // Narrowed again where it is used: a copy of another type must not live until the backward pass.
    let weight = layer.weight.clone();
    let weight = move || narrow(weight.clone(), dtype);
    let Some(rated) = rated else {
        let y = narrow(y, dtype).reshape([batch, tokens, outputs]);
        return node([from_x], y, move |g| {
            let g = narrow(g, dtype).reshape([batch * tokens, outputs]).matmul(weight());
            [grad(narrow(g.reshape([batch, tokens, inputs]), given))]
        });
    };
    let (from_rates, rates) = (parent(&rated.rates), rated.rates.inner().unsqueeze::<2>());
    let [rank, ..] = rated.stacked.down.dims();
    let down: Tensor<B, 2> = narrow(rated.stacked.down.clone().reshape([rank, inputs]), dtype);
    let up = narrow(rated.stacked.up.clone(), dtype);
    let h = x.matmul(down.clone().transpose()); // [b t, R]
    let y = narrow(y + wide(scale(h.clone(), &rates).matmul(up.clone().transpose())), dtype);
    let x_wanted = is_tracked::<B>(&from_x);
    node([from_x, from_rates], y.reshape([batch, tokens, outputs]), move |g| {
        let g = narrow(g, dtype).reshape([batch * tokens, outputs]);
        let gh = wide(g.clone().matmul(up.clone())); // [b t, R]
        let by_rate = (wide(h.clone()) * gh.clone()).sum_dim(0).reshape([rank]);
        let by_x = x_wanted.then(|| {
            let through = narrow(gh * rates.clone(), dtype).matmul(down.clone());
            let by_x = wide(g.matmul(weight())) + wide(through);
            narrow(by_x.reshape([batch, tokens, inputs]), given).into_primitive().tensor()
        });
        [by_x, grad(by_rate)]
    })
}

/// `h` times its columns' rates, the product in f32.
pub(super) fn scale<B: Backend, const D: usize>(h: Tensor<B, D>, rates: &Tensor<B, D>) -> Tensor<B, D> {
    let dtype = h.dtype();
    narrow(wide(h) * rates.clone(), dtype)
}
