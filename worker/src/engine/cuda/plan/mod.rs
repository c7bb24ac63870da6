//! Plans: pure functions from a tape to a program of leaf operations, and from a program to places in one buffer.

mod arena;
mod backward;
mod cost;
mod forward;
mod instruction;
mod lanes;
mod lifetimes;
mod program;

pub use arena::{ALIGNMENT, Arena, Interval, place};
pub use instruction::{Buffer, CHUNK, Geometry, Heads, Instruction, SideBySide, Weight, chunks};
pub use lanes::{Command, LANES, Lane};
pub use program::{Books, Program, Stretch, Wanted};

use super::tape::{Element, Kind, Node, Tape, Value};
use std::collections::HashMap;

/// Writes instructions; every buffer is written once, so that sharing one is always safe.
struct Planner<'a> {
    tape: &'a Tape,
    instructions: Vec<Instruction>,
    buffers: Vec<BufferInfo>,
    /// Where each value lies.
    places: HashMap<Value, Buffer>,
    /// What a node kept besides its inputs and its output: `h`, statistics.
    kept: HashMap<Value, Buffer>,
    /// Weights with their networks, by their nodes' outputs.
    merged: HashMap<Value, Buffer>,
    /// Whether layers with many rows get such weights.
    merging: bool,
    /// Values that a gradient flows back through.
    tracked: Vec<bool>,
    /// Gradients by value, as far as they have come in.
    grads: HashMap<Value, Buffer>,
    rates: Option<Buffer>,
    /// Where the layers' partial sums go, `[chunks, columns]`.
    partial: Option<Partial>,
    /// The layers' stretches of `by_column`, in the order in which the backward pass meets them.
    stretches: Vec<program::Stretch>,
}

/// Partial sums of all layers' gradients by rate, side by side.
#[derive(Clone, Copy)]
struct Partial {
    buffer: Buffer,
    chunks: usize,
    columns: usize,
}

/// A buffer of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferInfo {
    /// Type of its numbers.
    pub element: Element,
    /// How many.
    pub count: usize,
}

impl BufferInfo {
    /// Bytes on a device whose narrow numbers have so many.
    pub fn bytes(&self, narrow: usize) -> usize {
        self.count * if self.element == Element::Wide { 4 } else { narrow }
    }
}

impl<'a> Planner<'a> {
    fn new(tape: &'a Tape) -> Self {
        Self {
            tape,
            instructions: Vec::new(),
            buffers: Vec::new(),
            places: HashMap::new(),
            kept: HashMap::new(),
            merged: HashMap::new(),
            merging: false,
            tracked: Vec::new(),
            grads: HashMap::new(),
            rates: None,
            partial: None,
            stretches: Vec::new(),
        }
    }

    fn buffer(&mut self, element: Element, count: usize) -> Buffer {
        self.buffers.push(BufferInfo { element, count });
        Buffer(self.buffers.len() - 1)
    }

    /// A buffer for numbers of this kind.
    fn buffer_of(&mut self, kind: Kind) -> Buffer {
        self.buffer(kind.element, kind.shape.count())
    }

    fn emit(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    fn element(&self, buffer: Buffer) -> Element {
        self.buffers[buffer.0].element
    }

    /// The same numbers in this type: itself or a copy.
    fn cast(&mut self, x: Buffer, element: Element) -> Buffer {
        if self.element(x) == element {
            return x;
        }
        let count = self.buffers[x.0].count;
        let out = self.buffer(element, count);
        self.emit(Instruction::Cast { x, out, count });
        out
    }

    /// Where an earlier node has put this value.
    fn at(&self, value: Value) -> Buffer {
        self.places[&value]
    }

    fn kind(&self, value: Value) -> Kind {
        self.tape.kind(value)
    }

    fn is_tracked(&self, value: Value) -> bool {
        self.tracked.get(value.0).copied().unwrap_or(false)
    }

    fn nodes_of(&self, segment: usize) -> Vec<&'a Node> {
        self.tape.nodes.iter().filter(|node| node.segment == segment).collect()
    }
}
