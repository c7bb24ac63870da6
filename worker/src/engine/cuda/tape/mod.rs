//! The tape: one bucket's forward pass as a list of nodes, written by running the model's own text over a [`Recorder`].
//!
//! Everything is channels-last: an image and its tokens are the same numbers in the same order, so changing between them
//! costs nothing and has no node.

mod fuse;
mod load;
mod record;
mod unet;

pub use fuse::{fuse_biases, fuse_residuals};
pub use load::{Joined, TapeLoader};
pub use record::Recorder;
pub use unet::{Case, Loaded, RecordedUnet, Stacks};

use super::parameters::ParameterId;
use crate::ops::ConvShape;

/// Groups of channels in every group norm of SDXL.
pub const GROUPS: usize = 32;

/// Sizes of a value: `[batch, height, width, channels]`; tokens are `[batch, tokens, 1, channels]` or still have the
/// height and width of the image that they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Samples.
    pub batch: usize,
    /// Rows of pixels, or tokens.
    pub height: usize,
    /// Columns of pixels, or 1.
    pub width: usize,
    /// Numbers of a pixel or token.
    pub channels: usize,
}

impl Shape {
    /// `[batch, tokens, channels]`.
    pub fn tokens(batch: usize, tokens: usize, channels: usize) -> Self {
        Self { batch, height: tokens, width: 1, channels }
    }

    /// Pixels or tokens of one sample.
    pub fn places(self) -> usize {
        self.height * self.width
    }

    /// Pixels or tokens of all samples.
    pub fn rows(self) -> usize {
        self.batch * self.places()
    }

    /// Numbers in all.
    pub fn count(self) -> usize {
        self.rows() * self.channels
    }

    /// The same places with other channels.
    pub fn with(self, channels: usize) -> Self {
        Self { channels, ..self }
    }
}

/// What numbers are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// f32: statistics, rates, sums, and embeddings, which have a row for each sample.
    Wide,
    /// All that has a row for each pixel or token: bfloat16 on a GPU, f32 in the reference.
    Narrow,
}

/// A value on the tape: computed once, by one node, or an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(super) usize);

/// Sizes and type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its sizes.
    pub shape: Shape,
    /// What it is stored in.
    pub element: Element,
}

/// Scale and shift of a normalisation, both f32 `[channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    /// Scale.
    pub scale: ParameterId,
    /// Shift.
    pub shift: ParameterId,
}

/// A bias in both types: it must have that of the output that it is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bias {
    /// f32.
    pub wide: ParameterId,
    /// As the weights.
    pub narrow: ParameterId,
}

impl Bias {
    /// In this type.
    pub fn of(self, element: Element) -> ParameterId {
        match element {
            Element::Wide => self.wide,
            Element::Narrow => self.narrow,
        }
    }
}

/// The networks on one layer, stacked along rank and padded with zeros to a whole number of [`RANK_STEP`]s; or on layers that
/// are computed as one, each of which is a part with as many columns and its own rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// `A` `[parts rank, inputs]`, on convolutions `[rank, kernel, kernel, inputs]`.
    pub down: ParameterId,
    /// `B` `[parts outputs, rank]`.
    pub up: ParameterId,
    /// How many layers it is the networks of.
    pub parts: usize,
    /// Columns of a part, padding included.
    pub rank: usize,
    /// Where the rates begin in the buffer of rates times scales, those of one part after the other's.
    pub rates: usize,
}

impl Stack {
    /// Columns of all parts.
    pub fn columns(&self) -> usize {
        self.parts * self.rank
    }
}

/// Stacks are padded to this, so that rows of bfloat16 begin at multiples of 16 bytes.
pub const RANK_STEP: usize = 8;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `x sigmoid(x)`.
    Silu,
    /// `x Phi(x)`, Phi being the normal distribution's.
    Gelu,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
}

/// What a node computes of its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// `x W^T + bias`, the networks' part, and the second input if there is one. Layers that read the same x are one, their
    /// outputs side by side.
    Linear {
        /// `[outputs, inputs]`.
        weight: ParameterId,
        /// `[outputs]`.
        bias: Option<Bias>,
        /// The networks on it.
        stack: Option<Stack>,
    },
    /// Convolution with a kernel larger than 1.
    Conv {
        /// `[outputs, kernel, kernel, inputs]`.
        weight: ParameterId,
        /// `[outputs]`; none where the sum that follows adds it.
        bias: Option<Bias>,
        /// The networks on it.
        stack: Option<Stack>,
        /// Sizes.
        shape: ConvShape,
    },
    /// Normalisation over 32 groups of channels, then SiLU if asked.
    GroupNorm {
        /// Scale and shift.
        norm: Norm,
        /// Added to the variance.
        eps: f64,
        /// Whether SiLU follows.
        silu: bool,
    },
    /// Normalisation of each token, eps 1e-5.
    LayerNorm {
        /// Scale and shift.
        norm: Norm,
    },
    /// Attention of q over k and v, the inputs; those that layers made as one are one input, side by side.
    Attention {
        /// Heads.
        heads: usize,
        /// Whether token i sees the tokens up to i alone.
        causal: bool,
    },
    /// `a gelu(b)` of the channels' halves a and b.
    Geglu,
    /// A function of each number.
    Pointwise(Function),
    /// Sum of both inputs, and of the bias.
    Add {
        /// `[channels]`.
        bias: Option<Bias>,
    },
    /// The second input `[b, 1, c]`, and the bias, added to every pixel of the first.
    AddToPixels {
        /// `[channels]`.
        bias: Option<Bias>,
    },
    /// Both inputs' channels.
    Concat,
    /// Each pixel becomes four.
    Upsample,
    /// The same numbers in the output's type.
    Cast,
}

/// One operation of the forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Of what.
    pub inputs: Vec<Value>,
    /// Where to.
    pub output: Value,
    /// Stage of the model that it belongs to; activation checkpointing computes a whole stage again.
    pub segment: usize,
}

/// A recorded forward pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tape {
    pub(super) values: Vec<Kind>,
    pub(super) nodes: Vec<Node>,
}

impl Tape {
    /// Sizes and type of a value.
    pub fn kind(&self, value: Value) -> Kind {
        self.values[value.0]
    }

    /// The nodes in the order of computation.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A value that no node computes.
    pub(super) fn input(&mut self, shape: Shape, element: Element) -> Value {
        self.values.push(Kind { shape, element });
        Value(self.values.len() - 1)
    }
}
