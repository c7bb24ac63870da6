//! Leaf operations: what a device must be able to do, each over whole buffers.

use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::tape::{Function, Norm, Shape};
use crate::ops::ConvShape;

/// A buffer of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Buffer(pub(in crate::engine::cuda) usize);

/// What a product multiplies by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    /// A parameter as it is.
    Parameter(ParameterId),
    /// What [`Instruction::Merge`] has made.
    Merged(Buffer),
}

/// A convolution over an image of this size, channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// The image `[b, h, w, inputs]`.
    pub input: Shape,
    /// The result `[b, h', w', outputs]`.
    pub output: Shape,
    /// Kernel, stride and padding.
    pub conv: ConvShape,
}

/// One leaf operation. Matrices are row by row; `h`, `gh` and the like are `[rows, rank]`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "x, y, g, out and sizes mean the same everywhere, and each variant says its formula")]
pub enum Instruction {
    /// `out[rows, columns] = x[rows, inner] w + bias + addend`, w being `[columns, inner]` and read transposed, or
    /// `[inner, columns]`. x and the weight are narrow; the addend has the type of out. Of several parts, each is such a
    /// product by itself: side by side in x, out and the addend, one below the other in w.
    Product {
        x: Buffer,
        weight: Weight,
        transposed: bool,
        bias: Option<ParameterId>,
        addend: Option<Buffer>,
        out: Buffer,
        rows: usize,
        inner: usize,
        columns: usize,
        parts: usize,
    },
    /// Convolution, all narrow.
    Conv { x: Buffer, weight: ParameterId, bias: Option<ParameterId>, out: Buffer, geometry: Geometry },
    /// Gradient of a convolution's input, all narrow.
    ConvBackward { g: Buffer, weight: ParameterId, out: Buffer, geometry: Geometry },
    /// `out = silu?((x - mean) inverse scale + shift)` over 32 groups; statistics `[b, 32, 2]` are mean and
    /// `inverse = 1 / sqrt(variance + eps)`.
    GroupNorm { x: Buffer, norm: Norm, eps: f64, silu: bool, out: Buffer, statistics: Buffer, shape: Shape },
    /// `out = addend + inverse (e - mean(e) - z mean(e z))` with z the standardised x and e the gradient by z.
    GroupNormBackward {
        x: Buffer,
        norm: Norm,
        silu: bool,
        statistics: Buffer,
        g: Buffer,
        addend: Option<Buffer>,
        out: Buffer,
        shape: Shape,
    },
    /// As the group norm, over each row alone, eps 1e-5; statistics `[rows, 2]`.
    LayerNorm { x: Buffer, norm: Norm, out: Buffer, statistics: Buffer, rows: usize, channels: usize },
    /// As the group norm's.
    LayerNormBackward {
        x: Buffer,
        norm: Norm,
        statistics: Buffer,
        g: Buffer,
        addend: Option<Buffer>,
        out: Buffer,
        rows: usize,
        channels: usize,
    },
    /// `out[rows, channels] = a gelu(b)` of `x[rows, 2 channels] = [a, b]`.
    Geglu { x: Buffer, out: Buffer, rows: usize, channels: usize },
    /// `out = [g gelu(b), g a gelu'(b)]`.
    GegluBackward { x: Buffer, g: Buffer, out: Buffer, rows: usize, channels: usize },
    /// `out = f(x)`.
    Pointwise { function: Function, x: Buffer, out: Buffer, count: usize },
    /// `out = g f'(x)`.
    PointwiseBackward { function: Function, x: Buffer, g: Buffer, out: Buffer, count: usize },
    /// Attention of `q [b, t, heads size]` over `k`, `v` `[b, s, heads size]`, which lie as `sizes` says; `sums [b, heads, t]` is
    /// the logarithm of each row's sum of exponentials of scaled scores.
    Attention { q: Buffer, k: Buffer, v: Buffer, out: Buffer, sums: Buffer, sizes: Heads },
    /// Gradients of q and, where asked, of k and v, which lie as q, k and v do.
    AttentionBackward {
        q: Buffer,
        k: Buffer,
        v: Buffer,
        o: Buffer,
        sums: Buffer,
        g: Buffer,
        by_q: Buffer,
        by_kv: Option<[Buffer; 2]>,
        sizes: Heads,
    },
    /// `out = x + y`, and a wide bias of so many channels, in any types.
    Add { x: Buffer, y: Buffer, bias: Option<(ParameterId, usize)>, out: Buffer, count: usize },
    /// `out = x` in out's type.
    Cast { x: Buffer, out: Buffer, count: usize },
    /// `out[b, p, c] = x[b, p, c] + y[b, c] + bias[c]`, the bias wide.
    AddToPixels { x: Buffer, y: Buffer, bias: Option<ParameterId>, out: Buffer, shape: Shape },
    /// `out[b, c] = sum over p of g[b, p, c]`.
    SumPixels { g: Buffer, out: Buffer, shape: Shape },
    /// `out[rows, cx + cy] = [x[rows, cx], y[rows, cy]]`, in any types.
    Concat { x: Buffer, y: Buffer, out: Buffer, rows: usize, channels: [usize; 2] },
    /// `out[rows, columns] = g[rows, from..from + columns]` of rows of `width`, in any types.
    Slice { g: Buffer, out: Buffer, rows: usize, width: usize, from: usize, columns: usize },
    /// `x[b, h, w, c]` to `[b, 2 h, 2 w, c]`.
    Upsample { x: Buffer, out: Buffer, shape: Shape },
    /// `g[b, 2 h, 2 w, c]` to `[b, h, w, c]`, the sum of four; `shape` is the small one.
    UpsampleBackward { g: Buffer, out: Buffer, shape: Shape },
    /// `out = h * r` with `r = rates[from..from + rank]` by column.
    ScaleColumns { h: Buffer, rates: Buffer, from: usize, out: Buffer, rows: usize, rank: usize },
    /// `out[rows, columns] = weight + scaled down` with `scaled[rows, rank] = up * r`: the weight of a layer with its networks.
    /// All parts, one below the other.
    Merge {
        weight: ParameterId,
        down: ParameterId,
        up: ParameterId,
        rates: Buffer,
        from: usize,
        scaled: Buffer,
        out: Buffer,
        rows: usize,
        columns: usize,
        rank: usize,
        parts: usize,
    },
    /// `partial[chunk, to..to + rank] = sum of h gh` over each [`CHUNK`] of rows, zeros beyond the last, and, where asked,
    /// `out = gh * r`. `partial` is `[chunks, columns]`.
    RateGradient {
        h: Buffer,
        gh: Buffer,
        rates: Buffer,
        from: usize,
        partial: Buffer,
        chunks: usize,
        columns: usize,
        to: usize,
        out: Option<Buffer>,
        rows: usize,
        rank: usize,
    },
    /// `out[columns] = sum over the chunks of partial[chunks, columns]`, in their order.
    SumChunks { partial: Buffer, out: Buffer, chunks: usize, columns: usize },
    /// The host reads the prediction, and writes its target, in its shape, and a slope for each sample.
    Host { prediction: Buffer, loss: Option<[Buffer; 2]> },
    /// `out = slopes[b] (prediction - target)`: the gradient of the loss by the prediction.
    Compare { prediction: Buffer, target: Buffer, slopes: Buffer, out: Buffer, shape: Shape },
}

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heads {
    /// Samples.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of one head.
    pub size: usize,
    /// Rows of q of one sample.
    pub queries: usize,
    /// Rows of k and v of one sample.
    pub keys: usize,
    /// Whether row i sees keys up to i alone.
    pub causal: bool,
    /// How q, k and v lie.
    pub side_by_side: SideBySide,
}

/// Which of q, k and v are one matrix, side by side in its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SideBySide {
    /// Each is a matrix.
    Nothing,
    /// k and v.
    Keys,
    /// All three.
    All,
}

impl Heads {
    /// Channels of all heads.
    pub fn channels(&self) -> usize {
        self.heads * self.size
    }

    /// From one row to the next of q, and of k and v.
    pub fn strides(&self) -> [usize; 2] {
        let many = match self.side_by_side {
            SideBySide::Nothing => [1, 1],
            SideBySide::Keys => [1, 2],
            SideBySide::All => [3, 3],
        };
        many.map(|n| n * self.channels())
    }

    /// Where the first row of q, k and v begins in its matrix.
    pub fn begins(&self) -> [usize; 3] {
        let before = match self.side_by_side {
            SideBySide::Nothing => [0, 0, 0],
            SideBySide::Keys => [0, 0, 1],
            SideBySide::All => [0, 1, 2],
        };
        before.map(|n| n * self.channels())
    }
}

/// Rows that one partial sum of a rate gradient covers.
pub const CHUNK: usize = 128;

/// Partial sums of a rate gradient over so many rows.
pub fn chunks(rows: usize) -> usize {
    rows.div_ceil(CHUNK)
}

impl Instruction {
    /// Buffers that it reads.
    pub fn reads(&self) -> Vec<Buffer> {
        use Instruction as I;
        let (fixed, optional): (Vec<Buffer>, Option<Buffer>) = match self {
            I::Product { x, weight, addend, .. } => {
                let merged = match weight {
                    Weight::Merged(merged) => Some(*merged),
                    Weight::Parameter(_) => None,
                };
                (std::iter::once(*x).chain(merged).collect(), *addend)
            }
            I::Merge { rates, .. } => (vec![*rates], None),
            I::SumChunks { partial, .. } => (vec![*partial], None),
            I::Conv { x, .. }
            | I::GroupNorm { x, .. }
            | I::LayerNorm { x, .. }
            | I::Geglu { x, .. }
            | I::Pointwise { x, .. }
            | I::Cast { x, .. }
            | I::Upsample { x, .. } => (vec![*x], None),
            I::ConvBackward { g, .. } | I::SumPixels { g, .. } | I::Slice { g, .. } | I::UpsampleBackward { g, .. } => {
                (vec![*g], None)
            }
            I::GroupNormBackward { x, statistics, g, addend, .. }
            | I::LayerNormBackward { x, statistics, g, addend, .. } => (vec![*x, *statistics, *g], *addend),
            I::GegluBackward { x, g, .. } | I::PointwiseBackward { x, g, .. } => (vec![*x, *g], None),
            I::Attention { q, k, v, .. } => (vec![*q, *k, *v], None),
            I::AttentionBackward { q, k, v, o, sums, g, .. } => (vec![*q, *k, *v, *o, *sums, *g], None),
            I::Add { x, y, .. } | I::AddToPixels { x, y, .. } | I::Concat { x, y, .. } => (vec![*x, *y], None),
            I::ScaleColumns { h, rates, .. } => (vec![*h, *rates], None),
            I::RateGradient { h, gh, rates, .. } => (vec![*h, *gh, *rates], None),
            I::Host { prediction, .. } => (vec![*prediction], None),
            I::Compare { prediction, target, slopes, .. } => (vec![*prediction, *target, *slopes], None),
        };
        fixed.into_iter().chain(optional).collect()
    }

    /// Buffers that it writes.
    pub fn writes(&self) -> Vec<Buffer> {
        use Instruction as I;
        match self {
            I::Product { out, .. }
            | I::Conv { out, .. }
            | I::ConvBackward { out, .. }
            | I::Geglu { out, .. }
            | I::GegluBackward { out, .. }
            | I::Pointwise { out, .. }
            | I::PointwiseBackward { out, .. }
            | I::Add { out, .. }
            | I::Cast { out, .. }
            | I::AddToPixels { out, .. }
            | I::SumPixels { out, .. }
            | I::Concat { out, .. }
            | I::Slice { out, .. }
            | I::Compare { out, .. }
            | I::Upsample { out, .. }
            | I::UpsampleBackward { out, .. }
            | I::SumChunks { out, .. }
            | I::GroupNormBackward { out, .. }
            | I::LayerNormBackward { out, .. }
            | I::ScaleColumns { out, .. } => vec![*out],
            I::GroupNorm { out, statistics, .. } | I::LayerNorm { out, statistics, .. } => vec![*out, *statistics],
            I::Attention { out, sums, .. } => vec![*out, *sums],
            I::AttentionBackward { by_q, by_kv, .. } => {
                let mut written: Vec<_> = std::iter::once(*by_q).chain(by_kv.iter().flatten().copied()).collect();
                written.dedup();
                written
            }
            I::RateGradient { partial, out, .. } => std::iter::once(*partial).chain(*out).collect(),
            I::Merge { scaled, out, .. } => vec![*scaled, *out],
            I::Host { loss, .. } => loss.iter().flatten().copied().collect(),
        }
    }
}
