//! Rated convolutions, and the two ways of computing one.

use super::layout::{by_channel, on_processor};
use super::node::{Tracked, grad, is_tracked, node, parent};
use super::precision::{Storage, narrow, wide};
use super::rated::{Rated, scale};
use crate::ops::ConvShape;
use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorPrimitive, s};

/// A convolution's frozen parameters.
#[derive(Debug)]
pub struct Conv<B: Backend> {
    pub(super) name: String,
    /// `[outputs, inputs, kernel, kernel]`.
    pub(super) weight: Tensor<B, 4>,
    /// `[outputs]`.
    pub(super) bias: Tensor<B, 1>,
    pub(super) way: Way,
    pub(super) storage: Storage,
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) shape: ConvShape,
    /// As one product of the unfolded image and the weights, instead of by burn's own kernel. On GPUs the untuned kernel
    /// does without the matrix units and is slower by far; the price is an image nine times as large for a moment.
    pub(super) unfold: bool,
}

impl Way {
    /// `x` `[b, inputs, h, w]` with a weight `[outputs, inputs, kernel, kernel]`, no bias.
    fn forward<B: Backend>(self, x: Tensor<B, 4>, weight: Tensor<B, 4>) -> Tensor<B, 4> {
        if self.unfold {
            return unfolded(x, weight, self.shape.stride, self.shape.padding);
        }
        conv2d(x, weight, None, self.options())
    }

    /// Gradient of the input, whose shape is `dims`, from that of the output.
    fn to_input<B: Backend>(self, dims: [usize; 4], weight: Tensor<B, 4>, g: Tensor<B, 4>) -> Tensor<B, 4> {
        let ConvShape { kernel, stride, padding, .. } = self.shape;
        let [_, _, height, width] = g.dims();
        // Then the gradient is the convolution of the spread-out g with the mirrored kernel.
        let mirrored = 2 * padding + 1 == kernel && (height * stride, width * stride) == (dims[2], dims[3]);
        if mirrored {
            let (g, weight) = (spread(g, stride), weight.flip([2, 3]).swap_dims(0, 1));
            if self.unfold {
                return unfolded(g, weight, 1, padding);
            }
            return conv2d(g, weight, None, ConvOptions::new([1; 2], [padding; 2], [1; 2], 1));
        }
        // burn asks for the input itself but reads its shape alone.
        let x = Tensor::<B, 4>::empty(dims, (&g.device(), g.dtype()));
        let [x, weight, g] = [x, weight, g].map(|t| t.into_primitive().tensor());
        Tensor::from_primitive(TensorPrimitive::Float(B::conv2d_x_backward(x, weight, g, self.options())))
    }

    fn options(self) -> ConvOptions<2> {
        ConvOptions::new([self.shape.stride; 2], [self.shape.padding; 2], [1; 2], 1)
    }
}

/// The convolution as one product: `[b h' w', kernel kernel inputs]` times `[kernel kernel inputs, outputs]`.
fn unfolded<B: Backend>(x: Tensor<B, 4>, weight: Tensor<B, 4>, stride: usize, padding: usize) -> Tensor<B, 4> {
    let [outputs, inputs, kernel, _] = weight.dims();
    let x = x.permute([0, 2, 3, 1]); // [b, h, w, inputs]
    let [batch, height, width, _] = x.dims();
    let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
    let (height, width) = (side(height), side(width));
    let x = if padding == 0 { x } else { pad(x, padding) };
    let reach = |n: usize| stride * (n - 1) + 1;
    let shifted = |row: usize, column: usize| {
        let step = stride as isize;
        x.clone().slice(s![.., row..row + reach(height);step, column..column + reach(width);step, ..])
    };
    let places = (0..kernel).flat_map(|row| (0..kernel).map(move |column| (row, column)));
    let mut parts: Vec<Tensor<B, 4>> = places.map(|(row, column)| shifted(row, column)).collect();
    let columns = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(parts, 3) };
    let columns = columns.reshape([batch * height * width, kernel * kernel * inputs]);
    let weight = weight.permute([2, 3, 1, 0]).reshape([kernel * kernel * inputs, outputs]);
    columns.matmul(weight).reshape([batch, height, width, outputs]).permute([0, 3, 1, 2])
}

/// Zeros around `[b, h, w, c]`.
fn pad<B: Backend>(x: Tensor<B, 4>, by: usize) -> Tensor<B, 4> {
    let [batch, height, width, channels] = x.dims();
    // burn's own padding makes its zeros in the device's default type, whatever x is stored in.
    let shape = [batch, height + 2 * by, width + 2 * by, channels];
    let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
    zeros.slice_assign(s![.., by..by + height, by..by + width, ..], x)
}

/// Puts `stride - 1` zeros behind every pixel of `[b, c, h, w]`.
fn spread<B: Backend>(x: Tensor<B, 4>, stride: usize) -> Tensor<B, 4> {
    if stride == 1 {
        return x;
    }
    let [batch, channels, height, width] = x.dims();
    let mut out = Tensor::<B, 6>::zeros([batch, channels, height, stride, width, stride], (&x.device(), x.dtype()));
    out = out.slice_assign(s![.., .., .., 0..1, .., 0..1], x.reshape([batch, channels, height, 1, width, 1]));
    out.reshape([batch, channels, height * stride, width * stride])
}

/// A 1 x 1 convolution of `x` `[b, inputs, h, w]` with `[outputs, inputs]`.
fn pointwise<B: Backend>(x: Tensor<B, 4>, weight: Tensor<B, 2>) -> Tensor<B, 4> {
    let [batch, inputs, height, width] = x.dims();
    let outputs = weight.dims()[0];
    if on_processor::<B>() {
        // The result lies as the other tensors do.
        return conv2d(x, weight.reshape([outputs, inputs, 1, 1]), None, ConvOptions::new([1; 2], [0; 2], [1; 2], 1));
    }
    let x = x.permute([0, 2, 3, 1]).reshape([batch * height * width, inputs]);
    x.matmul(weight.transpose()).reshape([batch, height, width, outputs]).permute([0, 3, 1, 2])
}

/// `x` `[b, inputs, h, w]` to `[b, outputs, h', w']`.
pub(super) fn conv<B: Backend>(layer: &Conv<B>, rated: Option<Rated<'_, B>>, x: Tracked<B, 4>) -> Tracked<B, 4> {
    let (from_x, x) = (parent(&x), x.inner());
    let (dims, given) = (x.dims(), x.dtype());
    let dtype = layer.storage.of(dims);
    let weight = layer.weight.clone();
    let weight = move || narrow(weight.clone(), dtype);
    let x = narrow(x, dtype);
    let way = layer.way;
    let bias = by_channel(layer.bias.clone(), dims[0]);
    let y = wide(way.forward(x.clone(), weight())) + wide(bias);
    let Some(rated) = rated else {
        return node([from_x], narrow(y, dtype), move |g| {
            [grad(narrow(way.to_input(dims, weight(), narrow(g, dtype)), given))]
        });
    };
    let (from_rates, rates) = (parent(&rated.rates), rated.rates.inner());
    let (down, up) = (narrow(rated.stacked.down.clone(), dtype), narrow(rated.stacked.up.clone(), dtype));
    let rank = up.dims()[1];
    let rates = by_channel(rates, dims[0]);
    let h = way.forward(x, down.clone()); // [b, R, h', w']
    let y = narrow(y + wide(pointwise(scale(h.clone(), &rates), up.clone())), dtype);
    let x_wanted = is_tracked::<B>(&from_x);
    node([from_x, from_rates], y, move |g| {
        let g = narrow(g, dtype);
        let gh = wide(pointwise(g.clone(), up.clone().transpose())); // [b, R, h', w']
        let by_rate = (wide(h.clone()) * gh.clone()).sum_dim(0).sum_dim(2).sum_dim(3).reshape([rank]);
        let by_x = x_wanted.then(|| {
            let through = way.to_input(dims, down.clone(), narrow(gh * rates.clone(), dtype));
            narrow(wide(way.to_input(dims, weight(), g)) + wide(through), given).into_primitive().tensor()
        });
        [by_x, grad(by_rate)]
    })
}
