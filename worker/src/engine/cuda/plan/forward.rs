//! Nodes to leaf operations, forward.

use super::instruction::{Heads, SideBySide, Weight};
use super::{Buffer, Geometry, Instruction, Planner};
use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::tape::{Element, GROUPS, Node, Op, Shape, Stack, Value};
use crate::ops::ConvShape;

/// A product's weight and what is added to it.
pub(super) struct Product {
    pub(super) weight: Weight,
    pub(super) transposed: bool,
    pub(super) bias: Option<ParameterId>,
    pub(super) addend: Option<Buffer>,
    pub(super) parts: usize,
}

impl Product {
    /// With nothing added.
    pub(super) fn by(weight: ParameterId, transposed: bool) -> Self {
        Self { weight: Weight::Parameter(weight), transposed, bias: None, addend: None, parts: 1 }
    }
}

impl Planner<'_> {
    /// Writes the instructions of one node.
    pub(super) fn forward(&mut self, node: &Node) {
        let (x, kind) = (self.at(node.inputs[0]), self.kind(node.output));
        let shape = kind.shape;
        if let Op::Linear { weight, bias, stack } = node.op {
            let inputs = self.kind(node.inputs[0]).shape.channels;
            let merged = stack.and_then(|stack| self.merge(node.output, weight, stack, [shape.rows(), inputs]));
            let product = Product {
                weight: merged.map_or(Weight::Parameter(weight), Weight::Merged),
                transposed: true,
                bias: bias.map(|bias| bias.of(kind.element)),
                addend: node.inputs.get(1).map(|residual| self.at(*residual)),
                parts: 1,
            };
            let y = self.product(x, product, shape.rows(), [inputs, shape.channels], kind.element);
            let y = match stack {
                None => y,
                Some(stack) => {
                    let down = Product::by(stack.down, true);
                    let h = self.product(x, down, shape.rows(), [inputs, stack.columns()], Element::Narrow);
                    self.kept.insert(node.output, h);
                    if merged.is_some() { y } else { self.networks(node.output, h, stack, y) }
                }
            };
            self.places.insert(node.output, y);
            return;
        }
        if let Op::Conv { weight, bias, stack, shape: conv } = node.op {
            let y = self.conv(x, weight, bias.map(|bias| bias.narrow), self.geometry(node, conv));
            let y = match stack {
                None => y,
                Some(stack) => {
                    let geometry = self.geometry(node, ConvShape { outputs: stack.rank, ..conv });
                    let h = self.conv(x, stack.down, None, geometry);
                    self.kept.insert(node.output, h);
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
                let (sizes, [_, k, v]) = (self.heads(node), self.places_of(&node.inputs));
                let sums = self.keep(node.output, sizes.batch * sizes.heads * sizes.queries);
                Instruction::Attention { q: x, k, v, out, sums, sizes }
            }
            (Op::Geglu, _) => Instruction::Geglu { x, out, rows: shape.rows(), channels: shape.channels },
            (Op::Pointwise(function), _) => Instruction::Pointwise { function, x, out, count: shape.count() },
            (Op::Upsample, _) => Instruction::Upsample { x, out, shape: self.kind(node.inputs[0]).shape },
            (Op::Add { bias }, Some(y)) => {
                let bias = bias.map(|bias| (bias.wide, shape.channels));
                Instruction::Add { x, y, bias, out, count: shape.count() }
            }
            (Op::AddToPixels { bias }, Some(y)) => {
                Instruction::AddToPixels { x, y, bias: bias.map(|bias| bias.wide), out, shape }
            }
            (Op::Concat, Some(y)) => {
                Instruction::Concat { x, y, out, rows: shape.rows(), channels: self.channels(&node.inputs) }
            }
            // Cast alone is left; the others have been dealt with or have two inputs.
            _ => Instruction::Cast { x, out, count: shape.count() },
        };
        self.emit(instruction);
    }

    /// `x [rows, parts inner]` times a weight, as `[rows, parts columns]`.
    pub(super) fn product(
        &mut self,
        x: Buffer,
        product: Product,
        rows: usize,
        [inner, columns]: [usize; 2],
        element: Element,
    ) -> Buffer {
        let Product { weight, transposed, bias, addend, parts } = product;
        let out = self.buffer(element, rows * parts * columns);
        self.emit(Instruction::Product { x, weight, transposed, bias, addend, out, rows, inner, columns, parts });
        out
    }

    fn conv(&mut self, x: Buffer, weight: ParameterId, bias: Option<ParameterId>, geometry: Geometry) -> Buffer {
        let out = self.buffer(Element::Narrow, geometry.output.count());
        self.emit(Instruction::Conv { x, weight, bias, out, geometry });
        out
    }

    /// What the networks add to `y`, given `h`: `y + (h * r) B^T`.
    fn networks(&mut self, output: Value, h: Buffer, stack: Stack, y: Buffer) -> Buffer {
        let (shape, Stack { parts, rank, rates: from, .. }) = (self.kind(output).shape, stack);
        let Some(rates) = self.rates else { return y };
        let scaled = self.buffer(Element::Narrow, shape.rows() * stack.columns());
        let (rows, all) = (shape.rows(), stack.columns());
        self.emit(Instruction::ScaleColumns { h, rates, from, out: scaled, rows, rank: all });
        let up = Product { addend: Some(y), parts, ..Product::by(stack.up, true) };
        self.product(scaled, up, rows, [rank, shape.channels / parts], self.element(y))
    }

    /// The weight of a layer with its networks, where `rows` are so many that it pays: it takes reading and writing the
    /// weight, and spares two passes over the result and two over the gradient of the inputs.
    fn merge(
        &mut self,
        output: Value,
        weight: ParameterId,
        stack: Stack,
        [rows, inputs]: [usize; 2],
    ) -> Option<Buffer> {
        let (outputs, rates, rank) = (self.kind(output).shape.channels, self.rates?, stack.rank);
        if !self.merging || rows * (inputs + outputs) < inputs * outputs {
            return None;
        }
        let (scaled, out) =
            (self.buffer(Element::Narrow, outputs * rank), self.buffer(Element::Narrow, outputs * inputs));
        let Stack { down, up, rates: from, parts, .. } = stack;
        let (rows, columns) = (outputs / parts, inputs);
        self.emit(Instruction::Merge { weight, down, up, rates, from, scaled, out, rows, columns, rank, parts });
        self.merged.insert(output, out);
        Some(out)
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
        let side_by_side = match node.inputs.len() {
            1 => SideBySide::All,
            2 => SideBySide::Keys,
            _ => SideBySide::Nothing,
        };
        let k = node.inputs.get(1).unwrap_or(&node.inputs[0]);
        let (q, k) = (self.kind(node.output).shape, self.kind(*k).shape);
        let (heads, causal) = match node.op {
            Op::Attention { heads, causal } => (heads.max(1), causal),
            _ => (1, false),
        };
        let Shape { batch, channels, .. } = q;
        Heads { batch, heads, size: channels / heads, queries: q.places(), keys: k.places(), causal, side_by_side }
    }

    /// Where an attention's q, k and v lie: the last input is that of all that follow.
    pub(super) fn places_of(&self, inputs: &[Value]) -> [Buffer; 3] {
        [0, 1, 2].map(|input| self.at(inputs[input.min(inputs.len() - 1)]))
    }

    pub(super) fn channels(&self, inputs: &[Value]) -> [usize; 2] {
        [0, 1].map(|input| self.kind(inputs[input]).shape.channels)
    }
}
