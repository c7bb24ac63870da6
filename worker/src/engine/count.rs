//! An engine that computes nothing: it counts the floating-point operations of one gradient.
//!
//! The model's own text is run over shapes, so the count is of exactly what an engine does: products of matrices, in
//! multiplications plus additions; norms and pointwise functions are left out, as is usual.

use crate::ops::{ConvShape, Loader, Ops};
use crate::sdxl::unet::{Conditions, Unet};
use lora_rates_common::sdxl::config::{SdxlConfig, UnetConfig};
use std::cell::Cell;
use std::convert::Infallible;

/// Operations of one microbatch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// Of the prediction.
    pub forward: f64,
    /// Of the activations' gradients and the rates'.
    pub backward: f64,
}

impl Count {
    /// Counts the UNet's operations for `batch` samples of `height` x `width` latents and prompts of `tokens` tokens,
    /// with networks stacked to `rank` in all on every layer of the transformers.
    pub fn of_unet(
        config: &SdxlConfig,
        batch: usize,
        (height, width): (usize, usize),
        tokens: usize,
        rank: usize,
    ) -> Self {
        let ops = Counter { count: Cell::default(), rank };
        let Ok(unet) = Unet::load(&mut Shapes, &config.unet);
        let UnetConfig { in_channels, model_channels, adm_channels, context_dim, .. } = config.unet;
        let vector = |tokens: usize, channels: usize| Shape { batch, channels, size: tokens, width: 1, tracked: false };
        let embedding = unet.embed(&ops, vector(1, model_channels), vector(1, adm_channels));
        let context = vector(tokens, context_dim);
        let x = Shape { batch, channels: in_channels, size: height, width, tracked: false };
        unet.forward(&ops, x, &Conditions { embedding, context });
        ops.count.get()
    }

    /// Both together.
    pub fn total(self) -> f64 {
        self.forward + self.backward
    }
}

/// An image of `size` x `width` pixels, or `size` tokens.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    channels: usize,
    size: usize,
    width: usize,
    /// Whether a gradient flows back through it.
    tracked: bool,
}

impl Shape {
    fn places(self) -> usize {
        self.batch * self.size * self.width
    }
}

struct Counter {
    count: Cell<Count>,
    rank: usize,
}

/// A layer's sizes, and whether networks are on it.
struct Layer {
    shape: ConvShape,
    rated: bool,
}

impl Counter {
    fn add(&self, forward: f64, backward: f64) {
        let Count { forward: f, backward: b } = self.count.get();
        self.count.set(Count { forward: f + forward, backward: b + backward });
    }

    fn layer(&self, layer: &Layer, x: Shape, places: usize) -> bool {
        let ConvShape { inputs, outputs, kernel, .. } = layer.shape;
        let product = 2.0 * (places * outputs * inputs * kernel * kernel) as f64;
        self.add(product, if x.tracked { product } else { 0.0 });
        if !layer.rated || self.rank == 0 {
            return x.tracked;
        }
        let down = 2.0 * (places * self.rank * inputs * kernel * kernel) as f64;
        let up = 2.0 * (places * self.rank * outputs) as f64;
        self.add(down + up, up + if x.tracked { down } else { 0.0 });
        true
    }
}

impl Ops for Counter {
    type Image = Shape;
    type Tokens = Shape;
    type Linear = Layer;
    type Conv = Layer;
    type Norm = ();
    type Table = ();
    type Joined = Layer;

    fn linear(&self, layer: &Layer, x: Shape) -> Shape {
        let tracked = self.layer(layer, x, x.places());
        Shape { channels: layer.shape.outputs, tracked, ..x }
    }

    fn conv(&self, layer: &Layer, x: Shape) -> Shape {
        let ConvShape { outputs, kernel, stride, padding, .. } = layer.shape;
        let side = |n: usize| (n + 2 * padding).saturating_sub(kernel) / stride + 1;
        let y = Shape { channels: outputs, size: side(x.size), width: side(x.width), ..x };
        Shape { tracked: self.layer(layer, x, y.places()), ..y }
    }

    fn attention(&self, q: Shape, k: Shape, v: Shape, _: usize, _: bool) -> Shape {
        // Two products forward; backward the probabilities' and the three inputs' gradients.
        let product = 2.0 * (q.places() * k.size * q.channels) as f64;
        let tracked = q.tracked || k.tracked || v.tracked;
        self.add(2.0 * product, if tracked { 4.0 * product } else { 0.0 });
        Shape { tracked, ..q }
    }

    fn self_attention(&self, qkv: &Layer, x: Shape, heads: usize) -> Shape {
        let [q, k, v] = [(); 3].map(|()| self.linear(qkv, x));
        self.attention(q, k, v, heads, false)
    }

    fn cross_attention(&self, q: &Layer, kv: &Layer, x: Shape, over: Shape, heads: usize) -> Shape {
        let [k, v] = [(); 2].map(|()| self.linear(kv, over));
        self.attention(self.linear(q, x), k, v, heads, false)
    }

    fn geglu(&self, x: Shape) -> Shape {
        Shape { channels: x.channels / 2, ..x }
    }

    fn add(&self, x: Shape, y: Shape) -> Shape {
        Shape { tracked: x.tracked || y.tracked, ..x }
    }

    fn add_image(&self, x: Shape, y: Shape) -> Shape {
        Ops::add(self, x, y)
    }

    fn add_to_pixels(&self, x: Shape, y: Shape) -> Shape {
        Ops::add(self, x, y)
    }

    fn concat(&self, x: Shape, y: Shape) -> Shape {
        Shape { channels: x.channels + y.channels, tracked: x.tracked || y.tracked, ..x }
    }

    fn concat_image(&self, x: Shape, y: Shape) -> Shape {
        self.concat(x, y)
    }

    fn upsample(&self, x: Shape) -> Shape {
        Shape { size: 2 * x.size, width: 2 * x.width, ..x }
    }

    fn pad_bottom_right(&self, x: Shape) -> Shape {
        Shape { size: x.size + 1, width: x.width + 1, ..x }
    }

    fn to_tokens(&self, x: Shape) -> Shape {
        Shape { size: x.size * x.width, width: 1, ..x }
    }

    fn to_image(&self, x: Shape, like: &Shape) -> Shape {
        Shape { size: like.size, width: like.width, ..x }
    }

    fn group_norm(&self, (): &(), x: Shape, _: f64, _: bool) -> Shape {
        x
    }

    fn layer_norm(&self, (): &(), x: Shape) -> Shape {
        x
    }

    fn silu(&self, x: Shape) -> Shape {
        x
    }

    fn gelu(&self, x: Shape) -> Shape {
        x
    }

    fn quick_gelu(&self, x: Shape) -> Shape {
        x
    }

    fn embed(&self, (): &(), ids: &[Vec<u32>]) -> Shape {
        Shape { batch: ids.len(), channels: 0, size: ids.first().map_or(0, Vec::len), width: 1, tracked: false }
    }

    fn add_positions(&self, x: Shape, (): &()) -> Shape {
        x
    }

    fn pick_tokens(&self, x: Shape, _: &[usize]) -> Shape {
        Shape { size: 1, ..x }
    }

    fn join_chunks(&self, x: Shape, chunks: usize) -> Shape {
        Shape { batch: x.batch / chunks.max(1), size: 75 * chunks + 2, ..x }
    }
}

/// Makes layers of shapes alone.
struct Shapes;

impl Loader for Shapes {
    type Ops = Counter;
    type Error = Infallible;

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, _: bool) -> Result<Layer, Infallible> {
        Ok(Layer { shape: ConvShape::pointwise(inputs, outputs), rated: name.contains("transformer_blocks") })
    }

    fn joined(&mut self, names: &[String], inputs: usize, outputs: usize) -> Result<Layer, Infallible> {
        self.linear(&names[0], inputs, outputs, false)
    }

    fn conv(&mut self, _: &str, shape: ConvShape) -> Result<Layer, Infallible> {
        Ok(Layer { shape, rated: false })
    }

    fn norm(&mut self, _: &str, _: usize) -> Result<(), Infallible> {
        Ok(())
    }

    fn table(&mut self, _: &str, _: usize, _: usize) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdxl_at_1024_takes_the_measured_number_of_operations() {
        // 6.8 TFLOP forward and 14.8 with the activations' backward and one rank-32 network: counted by PyTorch.
        let count = Count::of_unet(&SdxlConfig::sdxl_base(), 1, (128, 128), 77, 32);
        assert!((count.forward / 6.8e12 - 1.0).abs() < 0.03, "{count:?}");
        assert!((count.total() / 14.8e12 - 1.0).abs() < 0.05, "{count:?}");
        let twice = Count::of_unet(&SdxlConfig::sdxl_base(), 2, (128, 128), 77, 32);
        assert!((twice.total() / count.total() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn without_networks_nothing_flows_back() {
        assert_eq!(Count::of_unet(&SdxlConfig::sdxl_base(), 1, (64, 64), 77, 0).backward, 0.0);
    }
}
