//! The vocabulary that SDXL is written in.
//!
//! The text of the model (`sdxl/`) says what is computed; an engine says how. Everything is batch first: an
//! [`Ops::Image`] is `[batch, channels, height, width]` and an [`Ops::Tokens`] `[batch, tokens, channels]`, whatever
//! layout the engine keeps in memory. A vector per sample is a `Tokens` of one token.

/// The operations of one engine. A layer made by [`Loader::linear`] or [`Loader::conv`] is *rated*: where networks
/// are attached to it, its output is `W x + sum over networks n of rate[n, block] * scale_n * up_n(down_n(x))`.
pub trait Ops {
    /// `[batch, channels, height, width]`.
    type Image: Clone;
    /// `[batch, tokens, channels]`.
    type Tokens: Clone;
    /// A linear layer's parameters.
    type Linear;
    /// A convolution's parameters.
    type Conv;
    /// Scale and shift of a normalisation.
    type Norm;
    /// Rows to look up.
    type Table;
    /// Rated linear layers that read the same input.
    type Joined;

    /// Rated linear layer: `[b, t, inputs]` to `[b, t, outputs]`.
    fn linear(&self, layer: &Self::Linear, x: Self::Tokens) -> Self::Tokens;
    /// Rated convolution.
    fn conv(&self, layer: &Self::Conv, x: Self::Image) -> Self::Image;
    /// Normalisation over 32 groups of channels, each with all pixels; then, if asked, SiLU.
    fn group_norm(&self, norm: &Self::Norm, x: Self::Image, eps: f64, silu: bool) -> Self::Image;
    /// Normalisation of each token, eps 1e-5.
    fn layer_norm(&self, norm: &Self::Norm, x: Self::Tokens) -> Self::Tokens;
    /// Multi-head attention of `q` `[b, t, c]` over `k`, `v` `[b, s, c]`, scaled by `1 / sqrt(c / heads)`; with
    /// `causal`, token i sees the tokens up to i.
    fn attention(&self, q: Self::Tokens, k: Self::Tokens, v: Self::Tokens, heads: usize, causal: bool) -> Self::Tokens;
    /// Attention of the tokens `x` `[b, t, c]` among themselves, `qkv` being the layers that make q, k and v of them.
    fn self_attention(&self, qkv: &Self::Joined, x: Self::Tokens, heads: usize) -> Self::Tokens;
    /// Attention of the tokens `x` `[b, t, c]` over others `[b, s, inputs]`, `kv` being the layers that make k and v of these.
    fn cross_attention(
        &self,
        q: &Self::Linear,
        kv: &Self::Joined,
        x: Self::Tokens,
        over: Self::Tokens,
        heads: usize,
    ) -> Self::Tokens;
    /// `a * gelu(b)` for `x` = `[a, b]` along the channels; gelu is the exact one.
    fn geglu(&self, x: Self::Tokens) -> Self::Tokens;
    /// `x * sigmoid(x)`.
    fn silu(&self, x: Self::Tokens) -> Self::Tokens;
    /// Exact gelu.
    fn gelu(&self, x: Self::Tokens) -> Self::Tokens;
    /// `x * sigmoid(1.702 x)`, the gelu of CLIP-L.
    fn quick_gelu(&self, x: Self::Tokens) -> Self::Tokens;
    /// Sum.
    fn add(&self, x: Self::Tokens, y: Self::Tokens) -> Self::Tokens;
    /// Sum.
    fn add_image(&self, x: Self::Image, y: Self::Image) -> Self::Image;
    /// Adds `y` `[b, 1, c]` to every pixel of `x` `[b, c, h, w]`.
    fn add_to_pixels(&self, x: Self::Image, y: Self::Tokens) -> Self::Image;
    /// Concatenates along the channels.
    fn concat(&self, x: Self::Tokens, y: Self::Tokens) -> Self::Tokens;
    /// Concatenates along the channels.
    fn concat_image(&self, x: Self::Image, y: Self::Image) -> Self::Image;
    /// Doubles height and width, each pixel becoming four.
    fn upsample(&self, x: Self::Image) -> Self::Image;
    /// Adds a row of zeros below and a column of zeros to the right.
    fn pad_bottom_right(&self, x: Self::Image) -> Self::Image;
    /// `[b, c, h, w]` to `[b, h w, c]`, row by row.
    fn to_tokens(&self, x: Self::Image) -> Self::Tokens;
    /// `[b, h w, c]` to `[b, c, h, w]`, the shape of `like` but for its channels.
    fn to_image(&self, x: Self::Tokens, like: &Self::Image) -> Self::Image;
    /// Rows `ids` `[b][t]` of a table: `[b, t, width]`. Every row of `ids` has the same length, every id is in range.
    fn embed(&self, table: &Self::Table, ids: &[Vec<u32>]) -> Self::Tokens;
    /// Adds the table's first rows to the tokens: row t to token t.
    fn add_positions(&self, x: Self::Tokens, table: &Self::Table) -> Self::Tokens;
    /// Token `positions[b]` of each sample: `[b, 1, c]`.
    fn pick_tokens(&self, x: Self::Tokens, positions: &[usize]) -> Self::Tokens;
    /// Rejoins the encoded chunks of long prompts: `[b k, 77, c]` to `[b, 75 k + 2, c]`, being the first token of the
    /// first chunk, the 75 inner ones of each, and the last token of the last.
    fn join_chunks(&self, x: Self::Tokens, chunks: usize) -> Self::Tokens;
}

/// Makes an engine's parameters out of stored tensors. Names are canonical, part's prefix first, without `.weight`.
pub trait Loader {
    /// The operations that the parameters are for.
    type Ops: Ops;
    /// Why a parameter could not be made.
    type Error;

    /// `NAME.weight` `[outputs, inputs]` and, if there is one, `NAME.bias`.
    fn linear(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<<Self::Ops as Ops>::Linear, Self::Error>;
    /// As many layers as there are names, of the same sizes and without bias.
    fn joined(
        &mut self,
        names: &[String],
        inputs: usize,
        outputs: usize,
    ) -> Result<<Self::Ops as Ops>::Joined, Self::Error>;
    /// `NAME.weight` `[outputs, inputs, kernel, kernel]` and `NAME.bias`.
    fn conv(&mut self, name: &str, shape: ConvShape) -> Result<<Self::Ops as Ops>::Conv, Self::Error>;
    /// `NAME.weight` and `NAME.bias` `[width]`.
    fn norm(&mut self, name: &str, width: usize) -> Result<<Self::Ops as Ops>::Norm, Self::Error>;
    /// `NAME.weight` `[rows, width]`.
    fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<<Self::Ops as Ops>::Table, Self::Error>;
}

/// Sizes of a square convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros on every side.
    pub padding: usize,
}

impl ConvShape {
    /// 3 x 3, stride 1, the size kept.
    pub fn same3(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, kernel: 3, stride: 1, padding: 1 }
    }

    /// 1 x 1.
    pub fn pointwise(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, kernel: 1, stride: 1, padding: 0 }
    }
}
