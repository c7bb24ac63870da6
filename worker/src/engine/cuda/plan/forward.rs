//! Nodes to leaf operations, forward.

use super::instruction::Heads;
use super::{Buffer, Geometry, Instruction, Planner};
use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::tape::{Element, GROUPS, Node, Op, Shape, Stack, Value};
use crate::ops::ConvShape;

/// A product's weight and what is added to it.
pub(super) struct Product {
    pub(super) weight: ParameterId,
    pub(super) transposed: bool,
    pub(super) bias: Option<ParameterId>,
    pub(super) addend: Option<Buffer>,
}

impl Planner<'_> {
    /// Writes the instructions of one node.
    pub(super) fn forward(&mut self, node: &Node) {
        let (x, kind) = (self.at(node.inputs[0]), self.kind(node.output));
        let shape = kind.shape;
        if let Op::Linear { weight, bias, stack } = node.op {
            let product = Product {
                weight,
                transposed: true,
                bias: bias.map(|bias| bias.of(kind.element)),
                addend: node.inputs.get(1).map(|residual| self.at(*residual)),
            };
            let inputs = self.kind(node.inputs[0]).shape.channels;
            let y = self.product(x, product, shape.rows(), [inputs, shape.channels], kind.element);
            let y = match stack {
                None => y,
                Some(stack) => {
                    let down = Product { weight: stack.down, transposed: true, bias: None, addend: None };
                    let h = self.product(x, down, shape.rows(), [inputs, stack.rank], Element::Narrow);
                    self.networks(node.output, h, stack, y)
                }
            };
            self.places.insert(node.output, y);
            return;
        }
        if let Op::Conv { weight, bias, stack, shape: conv } = node.op {
            let y = self.conv(x, weight, Some(bias.narrow), self.geometry(node, conv));
            let y = match stack {
                None => y,
                Some(stack) => {
                    let geometry = self.geometry(node, ConvShape { outputs: stack.rank, ..conv });
                    let h = self.conv(x, stack.down, None, geometry);
                    self.networks(node.output, h, stack, y)
                }
            };
            self.places.insert(node.output, y);
            return;
        }
        let out = self.buffer_of(kind);
        self.places.insert(node.output, out);
        let second = node.inputs.get(1).map(|value| self.at(*value));
        let instruction = match (node.op, second) {
            (Op::GroupNorm { norm, eps, silu }, _) => {
                let statistics = self.keep(node.output, 2 * GROUPS * shape.batch);
                Instruction::GroupNorm { x, norm, eps, silu, out, statistics, shape }
            }
            (Op::LayerNorm { norm }, _) => {
                let (rows, channels) = (shape.rows(), shape.channels);
                let statistics = self.keep(node.output, 2 * rows);
                Instruction::LayerNorm { x, norm, out, statistics, rows, channels }
            }
            (Op::Attention { .. }, _) => {
                let (sizes, [k, v]) = (self.heads(node), [1, 2].map(|input| self.at(node.inputs[input])));
                let sums = self.keep(node.output, sizes.batch * sizes.heads * sizes.queries);
                Instruction::Attention { q: x, k, v, out, sums, sizes }
            }
            (Op::Geglu, _) => Instruction::Geglu { x, out, rows: shape.rows(), channels: shape.channels },
            (Op::Pointwise(function), _) => Instruction::Pointwise { function, x, out, count: shape.count() },
            (Op::Upsample, _) => Instruction::Upsample { x, out, shape: self.kind(node.inputs[0]).shape },
            (Op::Add, Some(y)) => Instruction::Add { x, y, out, count: shape.count() },
            (Op::AddToPixels, Some(y)) => Instruction::AddToPixels { x, y, out, shape },
            (Op::Concat, Some(y)) => {
                Instruction::Concat { x, y, out, rows: shape.rows(), channels: self.channels(&node.inputs) }
            }
            // Cast alone is left; the others have been dealt with or have two inputs.
            _ => Instruction::Cast { x, out, count: shape.count() },
        };
        self.emit(instruction);
    }

    /// `x [rows, inner]` times a weight, as `[rows, columns]`.
    pub(super) fn product(
        &mut self,
        x: Buffer,
        product: Product,
        rows: usize,
        [inner, columns]: [usize; 2],
        element: Element,
    ) -> Buffer {
        let out = self.buffer(element, rows * columns);
        let Product { weight, transposed, bias, addend } = product;
        self.emit(Instruction::Product { x, weight, transposed, bias, addend, out, rows, inner, columns });
        out
    }

    fn conv(&mut self, x: Buffer, weight: ParameterId, bias: Option<ParameterId>, geometry: Geometry) -> Buffer {
        let out = self.buffer(Element::Narrow, geometry.output.count());
        self.emit(Instruction::Conv { x, weight, bias, out, geometry });
        out
    }

    /// What the networks add to `y`, given `h`: `y + (h * r) B^T`. Keeps `h`.
    fn networks(&mut self, output: Value, h: Buffer, stack: Stack, y: Buffer) -> Buffer {
        self.kept.insert(output, h);
        let (shape, rank) = (self.kind(output).shape, stack.rank);
        let Some(rates) = self.rates else { return y };
        let scaled = self.buffer(Element::Narrow, shape.rows() * rank);
        self.emit(Instruction::ScaleColumns { h, rates, from: stack.rates, out: scaled, rows: shape.rows(), rank });
        let up = Product { weight: stack.up, transposed: true, bias: None, addend: Some(y) };
        self.product(scaled, up, shape.rows(), [rank, shape.channels], self.element(y))
    }

    /// A wide buffer that the backward pass of the node with this output may read.
    fn keep(&mut self, output: Value, count: usize) -> Buffer {
        let buffer = self.buffer(Element::Wide, count);
        self.kept.insert(output, buffer);
        buffer
    }

    pub(super) fn geometry(&self, node: &Node, conv: ConvShape) -> Geometry {
        let output = self.kind(node.output).shape.with(conv.outputs);
        Geometry { input: self.kind(node.inputs[0]).shape, output, conv }
    }

    pub(super) fn heads(&self, node: &Node) -> Heads {
        let (q, k) = (self.kind(node.inputs[0]).shape, self.kind(node.inputs[1]).shape);
        let (heads, causal) = match node.op {
            Op::Attention { heads, causal } => (heads.max(1), causal),
            _ => (1, false),
        };
        let Shape { batch, channels, .. } = q;
        Heads { batch, heads, size: channels / heads, queries: q.places(), keys: k.places(), causal }
    }

    pub(super) fn channels(&self, inputs: &[Value]) -> [usize; 2] {
        [0, 1].map(|input| self.kind(inputs[input]).shape.channels)
    }
}
