//! The spatial transformer of the UNet.

use crate::ops::{Loader, Ops};

const HEAD: usize = 64;

/// Attention among the pixels and from the pixels to the text, `depth` times.
pub struct SpatialTransformer<O: Ops> {
    norm: O::Norm,
    proj_in: O::Linear,
    blocks: Vec<Block<O>>,
    proj_out: O::Linear,
    heads: usize,
}

struct Block<O: Ops> {
    norm1: O::Norm,
    attn1: SelfAttention<O>,
    norm2: O::Norm,
    attn2: CrossAttention<O>,
    norm3: O::Norm,
    geglu: O::Linear,
    out: O::Linear,
}

struct SelfAttention<O: Ops> {
    qkv: O::Joined,
    out: O::Linear,
}

struct CrossAttention<O: Ops> {
    q: O::Linear,
    kv: O::Joined,
    out: O::Linear,
}

impl<O: Ops> SpatialTransformer<O> {
    /// Loads the transformer `name` of `channels` channels and `depth` blocks over a text of width `context`.
    ///
    /// # Errors
    /// Those of the loader.
    pub fn load<L: Loader<Ops = O>>(
        loader: &mut L,
        name: &str,
        channels: usize,
        depth: usize,
        context: usize,
    ) -> Result<Self, L::Error> {
        Ok(Self {
            norm: loader.norm(&format!("{name}.norm"), channels)?,
            proj_in: loader.linear(&format!("{name}.proj_in"), channels, channels, true)?,
            blocks: (0..depth)
                .map(|i| Block::load(loader, &format!("{name}.transformer_blocks.{i}"), channels, context))
                .collect::<Result<_, _>>()?,
            proj_out: loader.linear(&format!("{name}.proj_out"), channels, channels, true)?,
            heads: channels / HEAD,
        })
    }

    /// `x` `[b, channels, h, w]`, `context` `[b, tokens, context]`.
    pub fn forward(&self, ops: &O, x: O::Image, context: &O::Tokens) -> O::Image {
        let y = ops.to_tokens(ops.group_norm(&self.norm, x.clone(), 1e-6, false));
        let mut y = ops.linear(&self.proj_in, y);
        for block in &self.blocks {
            y = block.forward(ops, y, context, self.heads);
        }
        let y = ops.to_image(ops.linear(&self.proj_out, y), &x);
        ops.add_image(x, y)
    }
}

impl<O: Ops> Block<O> {
    fn load<L: Loader<Ops = O>>(loader: &mut L, name: &str, channels: usize, context: usize) -> Result<Self, L::Error> {
        let inner = 4 * channels;
        Ok(Self {
            norm1: loader.norm(&format!("{name}.norm1"), channels)?,
            attn1: SelfAttention::load(loader, &format!("{name}.attn1"), channels)?,
            norm2: loader.norm(&format!("{name}.norm2"), channels)?,
            attn2: CrossAttention::load(loader, &format!("{name}.attn2"), channels, context)?,
            norm3: loader.norm(&format!("{name}.norm3"), channels)?,
            geglu: loader.linear(&format!("{name}.ff.net.0.proj"), channels, 2 * inner, true)?,
            out: loader.linear(&format!("{name}.ff.net.2"), inner, channels, true)?,
        })
    }

    fn forward(&self, ops: &O, x: O::Tokens, context: &O::Tokens, heads: usize) -> O::Tokens {
        let y = ops.layer_norm(&self.norm1, x.clone());
        let x = ops.add(x, self.attn1.forward(ops, y, heads));
        let y = ops.layer_norm(&self.norm2, x.clone());
        let x = ops.add(x, self.attn2.forward(ops, y, context.clone(), heads));
        let y = ops.layer_norm(&self.norm3, x.clone());
        let y = ops.linear(&self.out, ops.geglu(ops.linear(&self.geglu, y)));
        ops.add(x, y)
    }
}

impl<O: Ops> SelfAttention<O> {
    fn load<L: Loader<Ops = O>>(loader: &mut L, name: &str, channels: usize) -> Result<Self, L::Error> {
        Ok(Self {
            qkv: loader.joined(&["q", "k", "v"].map(|x| format!("{name}.to_{x}")), channels, channels)?,
            out: loader.linear(&format!("{name}.to_out.0"), channels, channels, true)?,
        })
    }

    fn forward(&self, ops: &O, x: O::Tokens, heads: usize) -> O::Tokens {
        ops.linear(&self.out, ops.self_attention(&self.qkv, x, heads))
    }
}

impl<O: Ops> CrossAttention<O> {
    fn load<L: Loader<Ops = O>>(loader: &mut L, name: &str, channels: usize, context: usize) -> Result<Self, L::Error> {
        Ok(Self {
            q: loader.linear(&format!("{name}.to_q"), channels, channels, false)?,
            kv: loader.joined(&["k", "v"].map(|x| format!("{name}.to_{x}")), context, channels)?,
            out: loader.linear(&format!("{name}.to_out.0"), channels, channels, true)?,
        })
    }

    fn forward(&self, ops: &O, x: O::Tokens, context: O::Tokens, heads: usize) -> O::Tokens {
        ops.linear(&self.out, ops.cross_attention(&self.q, &self.kv, x, context, heads))
    }
}
