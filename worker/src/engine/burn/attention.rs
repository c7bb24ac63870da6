//! Attention that keeps its inputs alone: the backward pass computes the probabilities again.
//!
//! At 1024 x 1024 the probabilities of one layer are 10 x 4096 x 4096 numbers; keeping them for all layers would cost
//! more memory than everything else together. Scores and their gradients stay in f32: the gradient of a softmax is a
//! difference of nearly equal numbers. Queries are taken in chunks, so that not even one layer's are there at once.

use super::node::{Tracked, grad, is_tracked, node, parent};
use super::precision::{narrow, wide};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

/// Scores computed at once: 2^27 in f32 are half a gigabyte.
const SCORES: usize = 1 << 27;

/// Inputs with the heads apart: `[b, heads, tokens, size]`.
struct Heads<B: Backend> {
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    causal: bool,
    scale: f64,
}

/// Attention of `q` `[b, t, c]` over `k`, `v` `[b, s, c]`.
pub(super) fn attention<B: Backend>(
    q: Tracked<B, 3>,
    k: Tracked<B, 3>,
    v: Tracked<B, 3>,
    heads: usize,
    causal: bool,
) -> Tracked<B, 3> {
    let parents = [parent(&q), parent(&k), parent(&v)];
    let wanted: Vec<bool> = parents.iter().map(is_tracked::<B>).collect();
    let (q, k, v) = (q.inner(), k.inner(), v.inner());
    let size = q.dims()[2] / heads;
    let scale = 1.0 / (size as f64).sqrt();
    let inputs = Heads { q: split(q, heads), k: split(k, heads), v: split(v, heads), causal, scale };
    let y = merge(inputs.forward());
    node(parents, y, move |g| {
        let [q, k, v] = inputs.backward(split(g, heads));
        let keep = |x: Tensor<B, 4>, wanted: bool| if wanted { grad(merge(x)) } else { None };
        [keep(q, wanted[0]), keep(k, wanted[1]), keep(v, wanted[2])]
    })
}

impl<B: Backend> Heads<B> {
    /// Ranges of queries whose scores are held at once.
    fn chunks(&self) -> Vec<std::ops::Range<usize>> {
        let [batch, heads, tokens, _] = self.q.dims();
        let step = (SCORES / (batch * heads * self.k.dims()[2]).max(1)).clamp(1, tokens);
        (0..tokens).step_by(step).map(|from| from..(from + step).min(tokens)).collect()
    }

    fn rows(&self, x: &Tensor<B, 4>, range: &std::ops::Range<usize>) -> Tensor<B, 4> {
        let [batch, heads, tokens, size] = x.dims();
        if *range == (0..tokens) { x.clone() } else { x.clone().slice([0..batch, 0..heads, range.clone(), 0..size]) }
    }

    /// Probabilities `[b, heads, range, s]`, f32.
    fn probabilities(&self, range: &std::ops::Range<usize>) -> Tensor<B, 4> {
        let q = self.rows(&self.q, range);
        let scores = wide(q).matmul(wide(self.k.clone()).swap_dims(2, 3)) * self.scale;
        let scores = match self.causal {
            true => scores + future(range, self.k.dims()[2], &self.k.device()),
            false => scores,
        };
        let shifted = (scores.clone() - scores.max_dim(3)).exp();
        shifted.clone() / shifted.sum_dim(3)
    }

    fn forward(&self) -> Tensor<B, 4> {
        let dtype = self.q.dtype();
        let v = wide(self.v.clone());
        let part = |range| narrow(self.probabilities(&range).matmul(v.clone()), dtype);
        join(self.chunks().into_iter().map(part).collect(), 2)
    }

    /// Gradients of q, k and v. With `P` the probabilities and `D = g V^T`, the scores' is `P (D - sum(D P))`.
    fn backward(&self, g: Tensor<B, 4>) -> [Tensor<B, 4>; 3] {
        let dtype = self.q.dtype();
        let (k, v, g) = (wide(self.k.clone()), wide(self.v.clone()), wide(g));
        let (mut gq, mut gk, mut gv) = (Vec::new(), None, None);
        for range in self.chunks() {
            let (p, g) = (self.probabilities(&range), self.rows(&g, &range));
            let d = g.clone().matmul(v.clone().swap_dims(2, 3));
            let along = (d.clone() * p.clone()).sum_dim(3);
            let scores = (d - along) * p.clone() * self.scale;
            gq.push(narrow(scores.clone().matmul(k.clone()), dtype));
            accumulate(&mut gk, scores.swap_dims(2, 3).matmul(wide(self.rows(&self.q, &range))));
            accumulate(&mut gv, p.swap_dims(2, 3).matmul(g));
        }
        let zeros = || self.k.zeros_like();
        [join(gq, 2), narrow(gk.unwrap_or_else(zeros), dtype), narrow(gv.unwrap_or_else(zeros), dtype)]
    }
}

fn accumulate<B: Backend>(sum: &mut Option<Tensor<B, 4>>, term: Tensor<B, 4>) {
    *sum = Some(match sum.take() {
        None => term,
        Some(sum) => sum + term,
    });
}

fn join<B: Backend>(mut parts: Vec<Tensor<B, 4>>, axis: usize) -> Tensor<B, 4> {
    if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(parts, axis) }
}

/// `[b, t, c]` to `[b, heads, t, c / heads]`.
fn split<B: Backend>(x: Tensor<B, 3>, heads: usize) -> Tensor<B, 4> {
    let [batch, tokens, channels] = x.dims();
    x.reshape([batch, tokens, heads, channels / heads]).swap_dims(1, 2)
}

/// `[b, heads, t, size]` to `[b, t, heads size]`.
fn merge<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, heads, tokens, size] = x.dims();
    x.swap_dims(1, 2).reshape([batch, tokens, heads * size])
}

/// What hides the future: 0 where query `i` of the range may see key `j`, else very negative.
fn future<B: Backend>(range: &std::ops::Range<usize>, keys: usize, device: &B::Device) -> Tensor<B, 4> {
    let mask: Vec<f32> =
        range.clone().flat_map(|i| (0..keys).map(move |j| if j <= i { 0.0 } else { f32::MIN / 2.0 })).collect();
    Tensor::from_data(TensorData::new(mask, [1, 1, range.len(), keys]), (device, DType::F32))
}
