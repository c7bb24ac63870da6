//! The vocabulary of SDXL in burn.

use super::activation::{Pointwise, geglu};
use super::attention::attention;
use super::conv::{Conv, conv};
use super::layout::transposed;
use super::node::Tracked;
use super::norm::{Norm, group_norm, layer_norm};
use super::precision::wide;
use super::rated::{Linear, Rated, Stacked, linear};
use crate::ops::Ops;
use burn::tensor::backend::Backend;
use burn::tensor::ops::PadMode;
use burn::tensor::{Int, Tensor, TensorData};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

/// burn's operations for one pass. Layers multiply in the precision of their weights; what runs past them, the residual
/// stream, is summed in f32: in bfloat16 a hundred roundings of it would cost the gradient more than all layers do.
///
/// One pass: with the networks attached and their rates in force.
pub struct BurnOps<B: Backend> {
    pub(super) stacked: Arc<HashMap<String, Stacked<B>>>,
    /// Rate times scale of each column, one tensor `[R]` for every distinct set of columns; tracked when a gradient is wanted.
    pub(super) columns: Vec<Tracked<B, 1>>,
    /// Whether a layer with networks was computed since this was last asked.
    rated: Cell<bool>,
}

impl<B: Backend> BurnOps<B> {
    /// Without any network: the base model.
    pub fn base() -> Self {
        Self::new(Arc::default(), Vec::new())
    }

    /// With these networks at these rates.
    pub(super) fn new(stacked: Arc<HashMap<String, Stacked<B>>>, columns: Vec<Tracked<B, 1>>) -> Self {
        Self { stacked, columns, rated: Cell::new(false) }
    }

    /// The same operations with no gradient asked for.
    pub(super) fn untracked(&self) -> Self {
        let columns = self.columns.iter().map(|column| Tensor::from_inner(column.clone().inner())).collect();
        Self::new(self.stacked.clone(), columns)
    }

    /// Whether a layer with networks was computed since the last call.
    pub(super) fn take_rated(&self) -> bool {
        self.rated.take()
    }

    fn rated(&self, name: &str) -> Option<Rated<'_, B>> {
        let stacked = self.stacked.get(name)?;
        let rates = self.columns.get(stacked.columns)?.clone();
        self.rated.set(true);
        Some(Rated { stacked, rates })
    }
}

/// Rows of an embedding: `[rows, width]`.
#[derive(Debug)]
pub struct Table<B: Backend>(pub(super) Tensor<B, 2>);

impl<B: Backend> Ops for BurnOps<B> {
    type Image = Tracked<B, 4>;
    type Tokens = Tracked<B, 3>;
    type Linear = Linear<B>;
    type Conv = Conv<B>;
    type Norm = Norm<B>;
    type Table = Table<B>;
    type Joined = Vec<Linear<B>>;

    fn linear(&self, layer: &Linear<B>, x: Self::Tokens) -> Self::Tokens {
        linear(layer, self.rated(&layer.name), x)
    }

    fn conv(&self, layer: &Conv<B>, x: Self::Image) -> Self::Image {
        conv(layer, self.rated(&layer.name), x)
    }

    fn group_norm(&self, norm: &Norm<B>, x: Self::Image, eps: f64, silu: bool) -> Self::Image {
        group_norm(norm, x, eps, silu)
    }

    fn layer_norm(&self, norm: &Norm<B>, x: Self::Tokens) -> Self::Tokens {
        layer_norm(norm, x, 1e-5)
    }

    fn attention(&self, q: Self::Tokens, k: Self::Tokens, v: Self::Tokens, heads: usize, causal: bool) -> Self::Tokens {
        attention(q, k, v, heads, causal)
    }

    fn self_attention(&self, qkv: &Vec<Linear<B>>, x: Self::Tokens, heads: usize) -> Self::Tokens {
        let [q, k, v] = [0, 1, 2].map(|layer| self.linear(&qkv[layer], x.clone()));
        attention(q, k, v, heads, false)
    }

    fn cross_attention(
        &self,
        q: &Linear<B>,
        kv: &Vec<Linear<B>>,
        x: Self::Tokens,
        over: Self::Tokens,
        heads: usize,
    ) -> Self::Tokens {
        let [k, v] = [0, 1].map(|layer| self.linear(&kv[layer], over.clone()));
        attention(self.linear(q, x), k, v, heads, false)
    }

    fn geglu(&self, x: Self::Tokens) -> Self::Tokens {
        geglu(x)
    }

    fn silu(&self, x: Self::Tokens) -> Self::Tokens {
        Pointwise::Silu.apply(x)
    }

    fn gelu(&self, x: Self::Tokens) -> Self::Tokens {
        Pointwise::Gelu.apply(x)
    }

    fn quick_gelu(&self, x: Self::Tokens) -> Self::Tokens {
        Pointwise::QuickGelu.apply(x)
    }

    fn add(&self, x: Self::Tokens, y: Self::Tokens) -> Self::Tokens {
        wide(x) + wide(y)
    }

    fn add_image(&self, x: Self::Image, y: Self::Image) -> Self::Image {
        wide(x) + wide(y)
    }

    fn add_to_pixels(&self, x: Self::Image, y: Self::Tokens) -> Self::Image {
        let [batch, _, channels] = y.dims();
        wide(x) + wide(y).reshape([batch, channels, 1, 1])
    }

    fn concat(&self, x: Self::Tokens, y: Self::Tokens) -> Self::Tokens {
        Tensor::cat(vec![wide(x), wide(y)], 2)
    }

    fn concat_image(&self, x: Self::Image, y: Self::Image) -> Self::Image {
        Tensor::cat(vec![wide(x), wide(y)], 1)
    }

    fn upsample(&self, x: Self::Image) -> Self::Image {
        let [batch, channels, height, width] = x.dims();
        let pixels: Tensor<_, 6> = x.reshape([batch, channels, height, 1, width, 1]);
        let pixels = pixels.expand([batch, channels, height, 2, width, 2]);
        pixels.reshape([batch, channels, 2 * height, 2 * width])
    }

    fn pad_bottom_right(&self, x: Self::Image) -> Self::Image {
        x.pad((0, 1, 0, 1), PadMode::Constant(0.0))
    }

    fn to_tokens(&self, x: Self::Image) -> Self::Tokens {
        transposed(x.flatten::<3>(2, 3))
    }

    fn to_image(&self, x: Self::Tokens, like: &Self::Image) -> Self::Image {
        let [batch, _, height, width] = like.dims();
        let channels = x.dims()[2];
        transposed(x).reshape([batch, channels, height, width])
    }

    fn embed(&self, table: &Table<B>, ids: &[Vec<u32>]) -> Self::Tokens {
        let (rows, length) = (ids.len(), ids.first().map_or(0, Vec::len));
        let width = table.0.dims()[1];
        let flat: Vec<i32> = ids.iter().flatten().map(|&id| id as i32).collect();
        let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(flat, [rows * length]), &table.0.device());
        Tensor::from_inner(table.0.clone().select(0, ids).reshape([rows, length, width]))
    }

    fn add_positions(&self, x: Self::Tokens, table: &Table<B>) -> Self::Tokens {
        let [_, tokens, width] = x.dims();
        let rows = table.0.clone().slice([0..tokens, 0..width]);
        wide(x) + wide(Tensor::from_inner(rows.unsqueeze()))
    }

    fn pick_tokens(&self, x: Self::Tokens, positions: &[usize]) -> Self::Tokens {
        let width = x.dims()[2];
        let pick = |(sample, &at): (usize, &usize)| x.clone().slice([sample..sample + 1, at..at + 1, 0..width]);
        Tensor::cat(positions.iter().enumerate().map(pick).collect(), 0)
    }

    fn join_chunks(&self, x: Self::Tokens, chunks: usize) -> Self::Tokens {
        if chunks == 1 {
            return x;
        }
        let [rows, length, width] = x.dims();
        let samples = rows / chunks;
        let x: Tensor<_, 4> = x.reshape([samples, chunks, length, width]);
        let cut = |chunk: usize, tokens: std::ops::Range<usize>| {
            let part = x.clone().slice([0..samples, chunk..chunk + 1, tokens.clone(), 0..width]);
            part.reshape([samples, tokens.len(), width])
        };
        let mut parts = vec![cut(0, 0..1)];
        parts.extend((0..chunks).map(|chunk| cut(chunk, 1..length - 1)));
        parts.push(cut(chunks - 1, length - 1..length));
        Tensor::cat(parts, 1)
    }
}
