//! Pointwise functions: forward and derivative, in f32, keeping their input alone.

use super::layout::plain;
use super::node::{Tracked, grad, node, parent};
use super::precision::{narrow, wide};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointwise {
    /// `x sigmoid(x)`.
    Silu,
    /// `x Phi(x)`, Phi being the normal distribution.
    Gelu,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
}

impl Pointwise {
    /// The function, in f32.
    pub(super) fn value<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Silu => x.clone() * activation::sigmoid(x),
            Self::Gelu => x.clone() * normal_distribution(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        }
    }

    /// Its derivative, in f32.
    pub(super) fn derivative<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Silu => sigmoid_product(x, 1.0),
            Self::QuickGelu => sigmoid_product(x, 1.702),
            Self::Gelu => {
                let density = (x.clone() * x.clone() * -0.5).exp() / (2.0 * PI).sqrt();
                normal_distribution(x.clone()) + x * density
            }
        }
    }

    /// Applies it to a tensor that gradients flow through.
    pub(super) fn apply<B: Backend, const D: usize>(self, x: Tracked<B, D>) -> Tracked<B, D> {
        let parent = parent(&x);
        let x = x.inner();
        let dtype = x.dtype();
        let y = narrow(self.value(wide(x.clone())), dtype);
        node([parent], y, move |g| [grad(narrow(wide(g) * self.derivative(wide(x.clone())), dtype))])
    }
}

/// `a * gelu(b)` for `x` = `[a, b]` along the last axis.
pub(super) fn geglu<B: Backend>(x: Tracked<B, 3>) -> Tracked<B, 3> {
    let parent = parent(&x);
    let x = x.inner();
    let dtype = x.dtype();
    let halves = |x: &Tensor<B, 3>| {
        let mut halves = x.clone().chunk(2, 2).into_iter();
        match (halves.next(), halves.next()) {
            (Some(a), Some(b)) => (wide(plain(a)), wide(plain(b))),
            _ => unreachable!("the layer before makes an even number of channels"),
        }
    };
    let (a, b) = halves(&x);
    let y = narrow(a * Pointwise::Gelu.value(b), dtype);
    node([parent], y, move |g| {
        let (a, b) = halves(&x);
        let g = wide(g);
        let ga = g.clone() * Pointwise::Gelu.value(b.clone());
        let gb = g * a * Pointwise::Gelu.derivative(b);
        [grad(Tensor::cat(vec![narrow(ga, dtype), narrow(gb, dtype)], 2))]
    })
}

/// Derivative of `x s` with `s = sigmoid(k x)`: `s + k x s (1 - s)`.
fn sigmoid_product<B: Backend, const D: usize>(x: Tensor<B, D>, k: f64) -> Tensor<B, D> {
    let s = activation::sigmoid(x.clone() * k);
    s.clone() + x * s.clone() * (s.neg() + 1.0) * k
}

fn normal_distribution<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}
