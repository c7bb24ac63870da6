//! Operations that compute nothing: they write down what is to be computed.

use super::load::{Conv, Joined, Linear};
use super::{Element, Function, Node, Norm, Op, Shape, Stack, Stacks, Tape, Value};
use crate::engine::cuda::parameters::ParameterId;
use crate::ops::{ConvShape, Ops};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Records one forward pass.
pub struct Recorder {
    tape: RefCell<Tape>,
    /// Wide values that have a narrow copy already.
    narrowed: RefCell<HashMap<Value, Value>>,
    stacks: Stacks,
    segment: Cell<usize>,
    /// The first operation met that has no node: those of the text encoders and the VAE.
    refused: Cell<Option<&'static str>>,
}

impl Recorder {
    /// With these networks on the layers.
    pub fn new(stacks: Stacks) -> Self {
        Self {
            tape: RefCell::default(),
            narrowed: RefCell::default(),
            stacks,
            segment: Cell::new(0),
            refused: Cell::new(None),
        }
    }

    /// A value from outside.
    pub fn input(&self, shape: Shape) -> Value {
        self.tape.borrow_mut().input(shape, Element::Narrow)
    }

    /// Says to which stage the nodes from now on belong.
    pub fn begin_segment(&self, segment: usize) {
        self.segment.set(segment);
        // A copy made in one stage must not be kept for another.
        self.narrowed.borrow_mut().clear();
    }

    /// The tape.
    ///
    /// # Errors
    /// The name of an operation that can't be recorded.
    pub fn finish(self) -> Result<Tape, &'static str> {
        match self.refused.get() {
            Some(operation) => Err(operation),
            None => Ok(self.tape.into_inner()),
        }
    }

    fn push(&self, op: Op, inputs: &[Value], shape: Shape, element: Element) -> Value {
        let mut tape = self.tape.borrow_mut();
        let output = tape.input(shape, element);
        tape.nodes.push(Node { op, inputs: inputs.to_vec(), output, segment: self.segment.get() });
        output
    }

    fn shape(&self, x: Value) -> Shape {
        self.tape.borrow().kind(x).shape
    }

    fn element(&self, x: Value) -> Element {
        self.tape.borrow().kind(x).element
    }

    fn narrow(&self, x: Value) -> Value {
        if self.element(x) == Element::Narrow {
            return x;
        }
        if let Some(known) = self.narrowed.borrow().get(&x) {
            return *known;
        }
        let y = self.push(Op::Cast, &[x], self.shape(x), Element::Narrow);
        self.narrowed.borrow_mut().insert(x, y);
        y
    }

    fn joined(&self, layers: &Joined, x: Value) -> Value {
        let x = self.narrow(x);
        let op = Op::Linear { weight: layers.weight, bias: None, stack: self.stack(&layers.name) };
        self.push(op, &[x], self.shape(x).with(layers.parts * layers.outputs), Element::Narrow)
    }

    fn stack(&self, name: &str) -> Option<Stack> {
        self.stacks.get(name).copied()
    }

    fn pointwise(&self, function: Function, x: Value) -> Value {
        self.push(Op::Pointwise(function), &[x], self.shape(x), self.element(x))
    }

    fn refuse(&self, operation: &'static str, x: Value) -> Value {
        self.refused.set(self.refused.get().or(Some(operation)));
        x
    }
}

impl Ops for Recorder {
    type Image = Value;
    type Tokens = Value;
    type Linear = Linear;
    type Conv = Conv;
    type Norm = Norm;
    type Table = ParameterId;
    type Joined = Joined;

    fn linear(&self, layer: &Linear, x: Value) -> Value {
        let x = self.narrow(x);
        let op = Op::Linear { weight: layer.weight, bias: layer.bias, stack: self.stack(&layer.name) };
        self.push(op, &[x], self.shape(x).with(layer.outputs), Element::Narrow)
    }

    fn conv(&self, layer: &Conv, x: Value) -> Value {
        let x = self.narrow(x);
        let (Conv { weight, bias, shape, .. }, stack) = (layer.clone(), self.stack(&layer.name));
        let ConvShape { outputs, kernel, stride, padding, .. } = shape;
        if (kernel, stride, padding) == (1, 1, 0) {
            // Channels last, it is a product of matrices.
            let op = Op::Linear { weight, bias: Some(bias), stack };
            return self.push(op, &[x], self.shape(x).with(outputs), Element::Narrow);
        }
        let side = |n: usize| (n + 2 * padding).saturating_sub(kernel) / stride + 1;
        let before = self.shape(x);
        let after = Shape { height: side(before.height), width: side(before.width), ..before.with(outputs) };
        self.push(Op::Conv { weight, bias: Some(bias), stack, shape }, &[x], after, Element::Narrow)
    }

    fn group_norm(&self, norm: &Norm, x: Value, eps: f64, silu: bool) -> Value {
        self.push(Op::GroupNorm { norm: *norm, eps, silu }, &[x], self.shape(x), Element::Narrow)
    }

    fn layer_norm(&self, norm: &Norm, x: Value) -> Value {
        self.push(Op::LayerNorm { norm: *norm }, &[x], self.shape(x), Element::Narrow)
    }

    fn attention(&self, q: Value, k: Value, v: Value, heads: usize, causal: bool) -> Value {
        let inputs = [self.narrow(q), self.narrow(k), self.narrow(v)];
        self.push(Op::Attention { heads, causal }, &inputs, self.shape(q), Element::Narrow)
    }

    fn self_attention(&self, qkv: &Joined, x: Value, heads: usize) -> Value {
        let shape = self.shape(x).with(qkv.outputs);
        let qkv = self.joined(qkv, x);
        self.push(Op::Attention { heads, causal: false }, &[qkv], shape, Element::Narrow)
    }

    fn cross_attention(&self, q: &Linear, kv: &Joined, x: Value, over: Value, heads: usize) -> Value {
        let (q, kv) = (self.linear(q, x), self.joined(kv, over));
        self.push(Op::Attention { heads, causal: false }, &[q, kv], self.shape(q), Element::Narrow)
    }

    fn geglu(&self, x: Value) -> Value {
        let shape = self.shape(x);
        self.push(Op::Geglu, &[x], shape.with(shape.channels / 2), self.element(x))
    }

    fn silu(&self, x: Value) -> Value {
        self.pointwise(Function::Silu, x)
    }

    fn gelu(&self, x: Value) -> Value {
        self.pointwise(Function::Gelu, x)
    }

    fn quick_gelu(&self, x: Value) -> Value {
        self.pointwise(Function::QuickGelu, x)
    }

    fn add(&self, x: Value, y: Value) -> Value {
        let shape = self.shape(x);
        // The embeddings have a row for each sample, which costs nothing, and seventeen layers add to their gradient.
        let element = if self.segment.get() > 0 { Element::Narrow } else { Element::Wide };
        self.push(Op::Add { bias: None }, &[x, y], shape, element)
    }

    fn add_image(&self, x: Value, y: Value) -> Value {
        self.add(x, y)
    }

    fn add_to_pixels(&self, x: Value, y: Value) -> Value {
        self.push(Op::AddToPixels { bias: None }, &[x, y], self.shape(x), self.element(x))
    }

    fn concat(&self, x: Value, y: Value) -> Value {
        let channels = self.shape(x).channels + self.shape(y).channels;
        self.push(Op::Concat, &[x, y], self.shape(x).with(channels), Element::Narrow)
    }

    fn concat_image(&self, x: Value, y: Value) -> Value {
        self.concat(x, y)
    }

    fn upsample(&self, x: Value) -> Value {
        let shape = self.shape(x);
        let after = Shape { height: 2 * shape.height, width: 2 * shape.width, ..shape };
        self.push(Op::Upsample, &[x], after, self.element(x))
    }

    fn to_tokens(&self, x: Value) -> Value {
        x
    }

    fn to_image(&self, x: Value, _: &Value) -> Value {
        x
    }

    fn pad_bottom_right(&self, x: Value) -> Value {
        self.refuse("padding to the bottom and the right", x)
    }

    fn embed(&self, _: &ParameterId, ids: &[Vec<u32>]) -> Value {
        let shape = Shape::tokens(ids.len(), ids.first().map_or(0, Vec::len), 0);
        self.refuse("looking up tokens", self.input(shape))
    }

    fn add_positions(&self, x: Value, _: &ParameterId) -> Value {
        self.refuse("adding positions", x)
    }

    fn pick_tokens(&self, x: Value, _: &[usize]) -> Value {
        self.refuse("picking tokens", x)
    }

    fn join_chunks(&self, x: Value, _: usize) -> Value {
        self.refuse("joining chunks of prompts", x)
    }
}
