//! The two text encoders: CLIP-L and OpenCLIP bigG.

use crate::ops::{Loader, Ops};
use lora_rates_common::sdxl::config::{Activation, TextConfig};

/// Width of an attention head, in every part of SDXL.
const HEAD: usize = 64;

/// A CLIP text transformer.
pub struct TextEncoder<O: Ops> {
    tokens: O::Table,
    positions: O::Table,
    layers: Vec<Layer<O>>,
    /// Final norm and projection; CLIP-L's are never used by SDXL.
    pooling: Option<Pooling<O>>,
    heads: usize,
    activation: Activation,
}

struct Pooling<O: Ops> {
    norm: O::Norm,
    projection: O::Linear,
}

struct Layer<O: Ops> {
    norm1: O::Norm,
    q: O::Linear,
    k: O::Linear,
    v: O::Linear,
    out: O::Linear,
    norm2: O::Norm,
    fc1: O::Linear,
    fc2: O::Linear,
}

/// What a text encoder returns.
pub struct Encoded<O: Ops> {
    /// State after all layers but the last, through no norm: `[rows, 77, hidden]`.
    pub hidden: O::Tokens,
    /// The last state at each row's first end mark, through the final norm and the projection: `[rows, 1, projection]`.
    pub pooled: Option<O::Tokens>,
}

impl<O: Ops> TextEncoder<O> {
    /// Loads the encoder whose canonical names begin with `prefix`.
    ///
    /// # Errors
    /// Those of the loader.
    pub fn load<L: Loader<Ops = O>>(loader: &mut L, prefix: &str, config: &TextConfig) -> Result<Self, L::Error> {
        let name = |suffix: &str| format!("{prefix}.text_model.{suffix}");
        let hidden = config.hidden;
        let tokens = loader.table(&name("embeddings.token_embedding"), config.vocab, hidden)?;
        let positions = loader.table(&name("embeddings.position_embedding"), config.positions, hidden)?;
        // Without a projection nothing reads the last layer: it is not even loaded.
        let depth = if config.projection.is_some() { config.layers } else { config.layers - 1 };
        let layers = (0..depth)
            .map(|i| Layer::load(loader, &name(&format!("encoder.layers.{i}")), config))
            .collect::<Result<_, _>>()?;
        let pooling = match config.projection {
            None => None,
            Some(width) => Some(Pooling {
                norm: loader.norm(&name("final_layer_norm"), hidden)?,
                projection: loader.linear(&format!("{prefix}.text_projection"), hidden, width, false)?,
            }),
        };
        Ok(Self { tokens, positions, layers, pooling, heads: hidden / HEAD, activation: config.activation })
    }

    /// Encodes rows of 77 ids; `pooled` is that of each row.
    pub fn encode(&self, ops: &O, rows: &[Vec<u32>]) -> Encoded<O> {
        let mut x = ops.add_positions(ops.embed(&self.tokens, rows), &self.positions);
        let Some(pooling) = &self.pooling else {
            for layer in &self.layers {
                x = layer.forward(ops, x, self.heads, self.activation);
            }
            return Encoded { hidden: x, pooled: None };
        };
        let mut hidden = x.clone();
        for layer in &self.layers {
            hidden = x;
            x = layer.forward(ops, hidden.clone(), self.heads, self.activation);
        }
        let ends: Vec<usize> = rows.iter().map(|row| end_mark(row)).collect();
        let pooled = ops.layer_norm(&pooling.norm, ops.pick_tokens(x, &ends));
        Encoded { hidden, pooled: Some(ops.linear(&pooling.projection, pooled)) }
    }
}

/// Place of the first end mark, which has the highest id of the vocabulary.
fn end_mark(row: &[u32]) -> usize {
    let highest = row.iter().max();
    row.iter().position(|id| Some(id) == highest).unwrap_or(0)
}

impl<O: Ops> Layer<O> {
    fn load<L: Loader<Ops = O>>(loader: &mut L, name: &str, config: &TextConfig) -> Result<Self, L::Error> {
        let (hidden, mlp) = (config.hidden, config.mlp);
        Ok(Self {
            norm1: loader.norm(&format!("{name}.layer_norm1"), hidden)?,
            q: loader.linear(&format!("{name}.self_attn.q_proj"), hidden, hidden, true)?,
            k: loader.linear(&format!("{name}.self_attn.k_proj"), hidden, hidden, true)?,
            v: loader.linear(&format!("{name}.self_attn.v_proj"), hidden, hidden, true)?,
            out: loader.linear(&format!("{name}.self_attn.out_proj"), hidden, hidden, true)?,
            norm2: loader.norm(&format!("{name}.layer_norm2"), hidden)?,
            fc1: loader.linear(&format!("{name}.mlp.fc1"), hidden, mlp, true)?,
            fc2: loader.linear(&format!("{name}.mlp.fc2"), mlp, hidden, true)?,
        })
    }

    fn forward(&self, ops: &O, x: O::Tokens, heads: usize, activation: Activation) -> O::Tokens {
        let y = ops.layer_norm(&self.norm1, x.clone());
        let q = ops.linear(&self.q, y.clone());
        let k = ops.linear(&self.k, y.clone());
        let v = ops.linear(&self.v, y);
        let x = ops.add(x, ops.linear(&self.out, ops.attention(q, k, v, heads, true)));
        let y = ops.linear(&self.fc1, ops.layer_norm(&self.norm2, x.clone()));
        let y = match activation {
            Activation::QuickGelu => ops.quick_gelu(y),
            Activation::Gelu => ops.gelu(y),
        };
        ops.add(x, ops.linear(&self.fc2, y))
    }
}
