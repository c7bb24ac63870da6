//! Nodes to leaf operations, backward: gradients of activations, and where networks are, of their rates.
//!
//! With g the gradient of a rated layer's output, `gh = g B`: the gradient of the rates is the sum of `h gh` over the rows,
//! that of x is `g W + (gh * r) A`, or `g W'` where the weight was merged with its networks. No weight has a gradient.

use super::forward::Product;
use super::instruction::Weight;
use super::program::Stretch;
use super::{Buffer, Instruction, Partial, Planner};
use crate::engine::cuda::tape::{Element, Node, Op, Stack, Value};
use crate::ops::ConvShape;

impl Planner<'_> {
    /// Pulls the gradient of a node's output back to its inputs, if there is one.
    pub(super) fn backward(&mut self, node: &Node) {
        let Some(g) = self.grads.remove(&node.output) else { return };
        let (input, x) = (node.inputs[0], self.at(node.inputs[0]));
        let shape = self.kind(node.output).shape;
        let kept = self.kept.get(&node.output).copied();
        match (node.op, kept) {
            (Op::Linear { .. }, _) => self.linear_backward(node, g),
            (Op::Conv { .. }, _) => self.conv_backward(node, g),
            (Op::GroupNorm { norm, silu, .. }, Some(statistics)) => {
                let (addend, out) = (self.grads.remove(&input), self.gradient_of(input));
                self.emit(Instruction::GroupNormBackward { x, norm, silu, statistics, g, addend, out, shape });
                self.grads.insert(input, out);
            }
            (Op::LayerNorm { norm }, Some(statistics)) => {
                let (addend, out) = (self.grads.remove(&input), self.gradient_of(input));
                let (rows, channels) = (shape.rows(), shape.channels);
                self.emit(Instruction::LayerNormBackward { x, norm, statistics, g, addend, out, rows, channels });
                self.grads.insert(input, out);
            }
            (Op::Attention { .. }, Some(sums)) => self.attention_backward(node, g, sums),
            (Op::Geglu, _) => {
                let out = self.gradient_of(input);
                self.emit(Instruction::GegluBackward { x, g, out, rows: shape.rows(), channels: shape.channels });
                self.deposit(input, out);
            }
            (Op::Pointwise(function), _) => {
                let out = self.gradient_of(input);
                self.emit(Instruction::PointwiseBackward { function, x, g, out, count: shape.count() });
                self.deposit(input, out);
            }
            (Op::Add { .. }, _) => node.inputs.iter().for_each(|input| self.deposit(*input, g)),
            (Op::AddToPixels { .. }, _) => {
                self.deposit(input, g);
                if self.is_tracked(node.inputs[1]) {
                    let out = self.gradient_of(node.inputs[1]);
                    self.emit(Instruction::SumPixels { g, out, shape });
                    self.deposit(node.inputs[1], out);
                }
            }
            (Op::Concat, _) => self.concat_backward(node, g),
            (Op::Upsample, _) => {
                let out = self.gradient_of(input);
                self.emit(Instruction::UpsampleBackward { g, out, shape: self.kind(input).shape });
                self.deposit(input, out);
            }
            (Op::Cast, _) => self.deposit(input, g),
            // A norm or an attention always keeps something.
            (Op::GroupNorm { .. } | Op::LayerNorm { .. } | Op::Attention { .. }, None) => {}
        }
    }

    /// A buffer for a value's gradient.
    fn gradient_of(&mut self, value: Value) -> Buffer {
        self.buffer_of(self.kind(value))
    }

    /// Adds to a value's gradient.
    fn deposit(&mut self, value: Value, g: Buffer) {
        if !self.is_tracked(value) {
            return;
        }
        let sum = match self.grads.remove(&value) {
            None => self.cast(g, self.kind(value).element),
            Some(sum) => {
                let (out, count) = (self.gradient_of(value), self.kind(value).shape.count());
                self.emit(Instruction::Add { x: sum, y: g, bias: None, out, count });
                out
            }
        };
        self.grads.insert(value, sum);
    }

    fn linear_backward(&mut self, node: &Node, g: Buffer) {
        let Op::Linear { weight, stack, .. } = node.op else { return };
        if let Some(residual) = node.inputs.get(1) {
            self.deposit(*residual, g);
        }
        let (input, shape) = (node.inputs[0], self.kind(node.output).shape);
        let (inputs, wanted) = (self.kind(input).shape.channels, self.is_tracked(input));
        if stack.is_none() && !wanted {
            return;
        }
        let g = self.cast(g, Element::Narrow);
        let merged = self.merged.get(&node.output).copied();
        let scaled = stack.and_then(|stack| self.rate_gradient(node, g, stack, wanted && merged.is_none()));
        if !wanted {
            return;
        }
        let (mut addend, element) = (self.grads.remove(&input), self.kind(input).element);
        if let (Some(scaled), Some(stack)) = (scaled, stack) {
            let down = Product { addend, ..Product::by(stack.down, false) };
            addend = Some(self.product(scaled, down, shape.rows(), [stack.columns(), inputs], element));
        }
        let weight = merged.map_or(Weight::Parameter(weight), Weight::Merged);
        let back = Product { weight, transposed: false, bias: None, addend, parts: 1 };
        let out = self.product(g, back, shape.rows(), [shape.channels, inputs], element);
        self.grads.insert(input, out);
    }

    fn conv_backward(&mut self, node: &Node, g: Buffer) {
        let Op::Conv { weight, stack, shape: conv, .. } = node.op else { return };
        let (input, wanted) = (node.inputs[0], self.is_tracked(node.inputs[0]));
        let g = self.cast(g, Element::Narrow);
        let scaled = stack.and_then(|stack| self.rate_gradient(node, g, stack, wanted));
        if !wanted {
            return;
        }
        if let (Some(scaled), Some(stack)) = (scaled, stack) {
            let out = self.gradient_of(input);
            let geometry = self.geometry(node, ConvShape { outputs: stack.rank, ..conv });
            self.emit(Instruction::ConvBackward { g: scaled, weight: stack.down, out, geometry });
            self.deposit(input, out);
        }
        let out = self.gradient_of(input);
        let geometry = self.geometry(node, conv);
        self.emit(Instruction::ConvBackward { g, weight, out, geometry });
        self.deposit(input, out);
    }

    /// The gradient by the rates of a layer, and `gh * r` if the gradient of the layer's input is wanted.
    fn rate_gradient(&mut self, node: &Node, g: Buffer, stack: Stack, wanted: bool) -> Option<Buffer> {
        let (h, rates, partial) = (*self.kept.get(&node.output)?, self.rates?, self.partial?);
        let (shape, Stack { parts, rank: of_one, rates: from, .. }) = (self.kind(node.output).shape, stack);
        let (rows, rank) = (shape.rows(), stack.columns());
        let up = Product { parts, ..Product::by(stack.up, false) };
        let gh = self.product(g, up, rows, [shape.channels / parts, of_one], Element::Wide);
        let out = wanted.then(|| self.buffer(Element::Narrow, rows * rank));
        let to = self.stretches.last().map_or(0, |last| last.from + last.rank);
        let part = |part: usize| Stretch { rates: from + part * of_one, from: to + part * of_one, rank: of_one };
        self.stretches.extend((0..parts).map(part));
        let Partial { buffer: partial, chunks, columns } = partial;
        self.emit(Instruction::RateGradient { h, gh, rates, from, partial, chunks, columns, to, out, rows, rank });
        out
    }

    fn attention_backward(&mut self, node: &Node, g: Buffer, sums: Buffer) {
        let ([q, k, v], o, sizes) = (self.places_of(&node.inputs), self.at(node.output), self.heads(node));
        // What is one with q is differentiated with it.
        let keys = if node.inputs.len() > 1 { &node.inputs[1..] } else { &node.inputs };
        let keys_wanted = keys.iter().any(|value| self.is_tracked(*value));
        let by: Vec<Buffer> = node.inputs.iter().map(|value| self.gradient_of(*value)).collect();
        let [by_q, by_k, by_v] = [0, 1, 2].map(|input| by[input.min(by.len() - 1)]);
        let by_kv = keys_wanted.then_some([by_k, by_v]);
        self.emit(Instruction::AttentionBackward { q, k, v, o, sums, g, by_q, by_kv, sizes });
        self.deposit(node.inputs[0], by_q);
        if keys_wanted {
            node.inputs.iter().zip(by).skip(1).for_each(|(value, by)| self.deposit(*value, by));
        }
    }

    fn concat_backward(&mut self, node: &Node, g: Buffer) {
        let ([first, second], rows) = (self.channels(&node.inputs), self.kind(node.output).shape.rows());
        for (value, from, columns) in [(node.inputs[0], 0, first), (node.inputs[1], first, second)] {
            if self.is_tracked(value) {
                let out = self.gradient_of(value);
                self.emit(Instruction::Slice { g, out, rows, width: first + second, from, columns });
                self.deposit(value, out);
            }
        }
    }
}
