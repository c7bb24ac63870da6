//! The autoencoder between pictures and latents.

use crate::ops::{ConvShape, Loader, Ops};
use lora_rates_common::sdxl::config::VaeConfig;

const EPS: f64 = 1e-6;

/// Pictures to the mean and log variance of their latents.
pub struct Encoder<O: Ops> {
    conv_in: O::Conv,
    levels: Vec<Level<O>>,
    middle: Middle<O>,
    norm_out: O::Norm,
    conv_out: O::Conv,
    quant: O::Conv,
}

/// Latents to pictures.
pub struct Decoder<O: Ops> {
    post_quant: O::Conv,
    conv_in: O::Conv,
    middle: Middle<O>,
    /// From the coarsest level to the finest.
    levels: Vec<Level<O>>,
    norm_out: O::Norm,
    conv_out: O::Conv,
}

/// Residual blocks, and what changes the size after them.
type Level<O> = (Vec<Res<O>>, Option<<O as Ops>::Conv>);

struct Res<O: Ops> {
    norm1: O::Norm,
    conv1: O::Conv,
    norm2: O::Norm,
    conv2: O::Conv,
    shortcut: Option<O::Conv>,
}

struct Middle<O: Ops> {
    first: Res<O>,
    norm: O::Norm,
    q: O::Conv,
    k: O::Conv,
    v: O::Conv,
    out: O::Conv,
    second: Res<O>,
}

impl<O: Ops> Encoder<O> {
    /// Loads the encoder, all names below `vae.`.
    ///
    /// # Errors
    /// Those of the loader.
    pub fn load<L: Loader<Ops = O>>(loader: &mut L, config: &VaeConfig) -> Result<Self, L::Error> {
        let mut channels = config.channels.first().copied().unwrap_or(0);
        let conv_in = loader.conv("vae.encoder.conv_in", ConvShape::same3(3, channels))?;
        let mut levels = Vec::new();
        for (level, &outputs) in config.channels.iter().enumerate() {
            let name = format!("vae.encoder.down.{level}");
            let mut blocks = Vec::new();
            for i in 0..config.num_res_blocks {
                blocks.push(Res::load(loader, &format!("{name}.block.{i}"), channels, outputs)?);
                channels = outputs;
            }
            let down = match level + 1 < config.channels.len() {
                false => None,
                true => {
                    let shape = ConvShape { stride: 2, padding: 0, ..ConvShape::same3(channels, channels) };
                    Some(loader.conv(&format!("{name}.downsample.conv"), shape)?)
                }
            };
            levels.push((blocks, down));
        }
        let moments = 2 * config.latent;
        Ok(Self {
            conv_in,
            levels,
            middle: Middle::load(loader, "vae.encoder.mid", channels)?,
            norm_out: loader.norm("vae.encoder.norm_out", channels)?,
            conv_out: loader.conv("vae.encoder.conv_out", ConvShape::same3(channels, moments))?,
            quant: loader.conv("vae.quant_conv", ConvShape::pointwise(moments, moments))?,
        })
    }

    /// `x` `[b, 3, h, w]` in -1..1 to mean and log variance `[b, 8, h / 8, w / 8]` (unclamped, unscaled).
    pub fn forward(&self, ops: &O, x: O::Image) -> O::Image {
        let mut x = ops.conv(&self.conv_in, x);
        for (blocks, down) in &self.levels {
            for block in blocks {
                x = block.forward(ops, x);
            }
            if let Some(conv) = down {
                x = ops.conv(conv, ops.pad_bottom_right(x));
            }
        }
        let x = self.middle.forward(ops, x);
        let x = ops.conv(&self.conv_out, ops.group_norm(&self.norm_out, x, EPS, true));
        ops.conv(&self.quant, x)
    }
}

impl<O: Ops> Decoder<O> {
    /// Loads the decoder, all names below `vae.`.
    ///
    /// # Errors
    /// Those of the loader.
    pub fn load<L: Loader<Ops = O>>(loader: &mut L, config: &VaeConfig) -> Result<Self, L::Error> {
        let latent = config.latent;
        let mut channels = config.channels.last().copied().unwrap_or(0);
        let post_quant = loader.conv("vae.post_quant_conv", ConvShape::pointwise(latent, latent))?;
        let conv_in = loader.conv("vae.decoder.conv_in", ConvShape::same3(latent, channels))?;
        let middle = Middle::load(loader, "vae.decoder.mid", channels)?;
        let mut levels = Vec::new();
        for (level, &outputs) in config.channels.iter().enumerate().rev() {
            let name = format!("vae.decoder.up.{level}");
            let mut blocks = Vec::new();
            for i in 0..=config.num_res_blocks {
                blocks.push(Res::load(loader, &format!("{name}.block.{i}"), channels, outputs)?);
                channels = outputs;
            }
            let up = match level > 0 {
                false => None,
                true => Some(loader.conv(&format!("{name}.upsample.conv"), ConvShape::same3(channels, channels))?),
            };
            levels.push((blocks, up));
        }
        Ok(Self {
            post_quant,
            conv_in,
            middle,
            levels,
            norm_out: loader.norm("vae.decoder.norm_out", channels)?,
            conv_out: loader.conv("vae.decoder.conv_out", ConvShape::same3(channels, 3))?,
        })
    }

    /// Unscaled latents `[b, 4, h, w]` to pictures `[b, 3, 8 h, 8 w]`, about -1..1.
    pub fn forward(&self, ops: &O, x: O::Image) -> O::Image {
        let x = ops.conv(&self.conv_in, ops.conv(&self.post_quant, x));
        let mut x = self.middle.forward(ops, x);
        for (blocks, up) in &self.levels {
            for block in blocks {
                x = block.forward(ops, x);
            }
            if let Some(conv) = up {
                x = ops.conv(conv, ops.upsample(x));
            }
        }
        ops.conv(&self.conv_out, ops.group_norm(&self.norm_out, x, EPS, true))
    }
}

impl<O: Ops> Res<O> {
    fn load<L: Loader<Ops = O>>(loader: &mut L, name: &str, inputs: usize, outputs: usize) -> Result<Self, L::Error> {
        Ok(Self {
            norm1: loader.norm(&format!("{name}.norm1"), inputs)?,
            conv1: loader.conv(&format!("{name}.conv1"), ConvShape::same3(inputs, outputs))?,
            norm2: loader.norm(&format!("{name}.norm2"), outputs)?,
            conv2: loader.conv(&format!("{name}.conv2"), ConvShape::same3(outputs, outputs))?,
            shortcut: match inputs == outputs {
                true => None,
                false => Some(loader.conv(&format!("{name}.nin_shortcut"), ConvShape::pointwise(inputs, outputs))?),
            },
        })
    }

    fn forward(&self, ops: &O, x: O::Image) -> O::Image {
        let y = ops.conv(&self.conv1, ops.group_norm(&self.norm1, x.clone(), EPS, true));
        let y = ops.conv(&self.conv2, ops.group_norm(&self.norm2, y, EPS, true));
        let x = match &self.shortcut {
            None => x,
            Some(conv) => ops.conv(conv, x),
        };
        ops.add_image(x, y)
    }
}

impl<O: Ops> Middle<O> {
    fn load<L: Loader<Ops = O>>(loader: &mut L, name: &str, channels: usize) -> Result<Self, L::Error> {
        let shape = ConvShape::pointwise(channels, channels);
        Ok(Self {
            first: Res::load(loader, &format!("{name}.block_1"), channels, channels)?,
            norm: loader.norm(&format!("{name}.attn_1.norm"), channels)?,
            q: loader.conv(&format!("{name}.attn_1.q"), shape)?,
            k: loader.conv(&format!("{name}.attn_1.k"), shape)?,
            v: loader.conv(&format!("{name}.attn_1.v"), shape)?,
            out: loader.conv(&format!("{name}.attn_1.proj_out"), shape)?,
            second: Res::load(loader, &format!("{name}.block_2"), channels, channels)?,
        })
    }

    fn forward(&self, ops: &O, x: O::Image) -> O::Image {
        let x = self.first.forward(ops, x);
        let y = ops.group_norm(&self.norm, x.clone(), EPS, false);
        let token = |conv: &O::Conv| ops.to_tokens(ops.conv(conv, y.clone()));
        let y = ops.attention(token(&self.q), token(&self.k), token(&self.v), 1, false);
        let y = ops.conv(&self.out, ops.to_image(y, &x));
        self.second.forward(ops, ops.add_image(x, y))
    }
}
