//! The UNet: a head, nineteen stages (IN00..IN08, MID, OUT00..OUT08 in the real one), and an output layer.

use super::resblock::ResBlock;
use super::transformer::SpatialTransformer;
use crate::ops::{ConvShape, Loader, Ops};
use lora_rates_common::sdxl::config::UnetConfig;

/// SDXL's denoiser.
pub struct Unet<O: Ops> {
    time: [O::Linear; 2],
    label: [O::Linear; 2],
    stages: Vec<Stage<O>>,
    /// How many of the stages are input blocks; then comes the middle block, then as many output blocks.
    inputs: usize,
    out_norm: O::Norm,
    out_conv: O::Conv,
}

/// One block of the UNet: what has a rate of its own, and what activation checkpointing computes again.
struct Stage<O: Ops> {
    parts: Vec<StagePart<O>>,
}

enum StagePart<O: Ops> {
    Conv(O::Conv),
    Res(ResBlock<O>),
    Transformer(SpatialTransformer<O>),
    Upsample(O::Conv),
}

/// What every stage is told besides its input.
pub struct Conditions<O: Ops> {
    /// Timestep, sizes and pooled text, through SiLU: `[b, 1, embedding]`.
    pub embedding: O::Tokens,
    /// Text: `[b, tokens, context]`.
    pub context: O::Tokens,
}

impl<O: Ops> Clone for Conditions<O> {
    fn clone(&self) -> Self {
        Self { embedding: self.embedding.clone(), context: self.context.clone() }
    }
}

impl<O: Ops> Unet<O> {
    /// Loads the UNet, all names below `unet.`.
    ///
    /// # Errors
    /// Those of the loader.
    pub fn load<L: Loader<Ops = O>>(loader: &mut L, config: &UnetConfig) -> Result<Self, L::Error> {
        let (base, width) = (config.model_channels, config.time_embed_dim);
        let time = [
            loader.linear("unet.time_embed.0", base, width, true)?,
            loader.linear("unet.time_embed.2", width, width, true)?,
        ];
        let label = [
            loader.linear("unet.label_emb.0.0", config.adm_channels, width, true)?,
            loader.linear("unet.label_emb.0.2", width, width, true)?,
        ];
        let mut builder = Builder { loader, config, stages: Vec::new(), skips: Vec::new(), channels: base };
        builder.inputs()?;
        let inputs = builder.stages.len();
        builder.middle()?;
        builder.outputs()?;
        let stages = builder.stages;
        Ok(Self {
            time,
            label,
            stages,
            inputs,
            out_norm: loader.norm("unet.out.0", base)?,
            out_conv: loader.conv("unet.out.2", ConvShape::same3(base, config.out_channels))?,
        })
    }

    /// Embeds `time`, the timesteps' sinusoids `[b, 1, model_channels]`, and `vector`, pooled text and the sizes'
    /// sinusoids `[b, 1, adm_channels]`.
    pub fn embed(&self, ops: &O, time: O::Tokens, vector: O::Tokens) -> O::Tokens {
        let time = ops.linear(&self.time[1], ops.silu(ops.linear(&self.time[0], time)));
        let label = ops.linear(&self.label[1], ops.silu(ops.linear(&self.label[0], vector)));
        // Every residual block begins with this SiLU: once is enough.
        ops.silu(ops.add(time, label))
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    /// The earlier stage whose output stage `index` reads besides its predecessor's.
    pub fn skip_of(&self, index: usize) -> Option<usize> {
        index.checked_sub(self.inputs + 1).map(|output| self.inputs - 1 - output)
    }

    /// Computes one stage from its predecessor's output and, for an output block, that of its skip.
    pub fn stage(&self, ops: &O, index: usize, x: O::Image, skip: Option<O::Image>, to: &Conditions<O>) -> O::Image {
        let mut x = match skip {
            None => x,
            Some(skip) => ops.concat_image(x, skip),
        };
        for part in &self.stages[index].parts {
            x = match part {
                StagePart::Conv(conv) => ops.conv(conv, x),
                StagePart::Res(block) => block.forward(ops, x, to.embedding.clone()),
                StagePart::Transformer(transformer) => transformer.forward(ops, x, &to.context),
                StagePart::Upsample(conv) => ops.conv(conv, ops.upsample(x)),
            };
        }
        x
    }

    /// The output layer, after the last stage: `[b, 4, h, w]`.
    pub fn output(&self, ops: &O, x: O::Image) -> O::Image {
        ops.conv(&self.out_conv, ops.group_norm(&self.out_norm, x, 1e-5, true))
    }

    /// The whole of it: predicts from the noisy latents `x` `[b, 4, h, w]`.
    pub fn forward(&self, ops: &O, x: O::Image, to: &Conditions<O>) -> O::Image {
        let mut outputs: Vec<O::Image> = Vec::with_capacity(self.inputs);
        let mut x = x;
        for index in 0..self.stages() {
            let skip = self.skip_of(index).and_then(|_| outputs.pop());
            x = self.stage(ops, index, x, skip, to);
            if index < self.inputs {
                outputs.push(x.clone());
            }
        }
        self.output(ops, x)
    }
}

/// Walks the blocks in the order of the original code, which is what gives them their names.
struct Builder<'a, L: Loader> {
    loader: &'a mut L,
    config: &'a UnetConfig,
    stages: Vec<Stage<L::Ops>>,
    skips: Vec<usize>,
    channels: usize,
}

impl<L: Loader> Builder<'_, L> {
    fn inputs(&mut self) -> Result<(), L::Error> {
        let config = self.config;
        let first = ConvShape::same3(config.in_channels, self.channels);
        let conv = self.loader.conv("unet.input_blocks.0.0", first)?;
        self.push(vec![StagePart::Conv(conv)]);
        for (level, (mult, depth)) in config.channel_mult.iter().zip(&config.transformer_depth).enumerate() {
            for _ in 0..config.num_res_blocks {
                let name = format!("unet.input_blocks.{}", self.stages.len());
                let parts = self.block(&name, self.channels, config.model_channels * mult, *depth)?;
                self.push(parts);
            }
            if level + 1 < config.channel_mult.len() {
                let name = format!("unet.input_blocks.{}.0.op", self.stages.len());
                let shape = ConvShape { stride: 2, ..ConvShape::same3(self.channels, self.channels) };
                let conv = self.loader.conv(&name, shape)?;
                self.push(vec![StagePart::Conv(conv)]);
            }
        }
        Ok(())
    }

    fn middle(&mut self) -> Result<(), L::Error> {
        let (channels, width) = (self.channels, self.config.time_embed_dim);
        let name = "unet.middle_block";
        let parts = vec![
            StagePart::Res(ResBlock::load(self.loader, &format!("{name}.0"), channels, channels, width)?),
            StagePart::Transformer(SpatialTransformer::load(
                self.loader,
                &format!("{name}.1"),
                channels,
                self.config.middle_depth,
                self.config.context_dim,
            )?),
            StagePart::Res(ResBlock::load(self.loader, &format!("{name}.2"), channels, channels, width)?),
        ];
        self.stages.push(Stage { parts });
        Ok(())
    }

    fn outputs(&mut self) -> Result<(), L::Error> {
        let config = self.config;
        let mut block = 0;
        for (level, (mult, depth)) in config.channel_mult.iter().zip(&config.transformer_depth).enumerate().rev() {
            for i in 0..=config.num_res_blocks {
                let name = format!("unet.output_blocks.{block}");
                let inputs = self.channels + self.skips.pop().unwrap_or(0);
                let mut parts = self.block(&name, inputs, config.model_channels * mult, *depth)?;
                if level > 0 && i == config.num_res_blocks {
                    let name = format!("{name}.{}.conv", parts.len());
                    let conv = self.loader.conv(&name, ConvShape::same3(self.channels, self.channels))?;
                    parts.push(StagePart::Upsample(conv));
                }
                self.stages.push(Stage { parts });
                block += 1;
            }
        }
        Ok(())
    }

    /// A residual block and, where there is depth, a transformer.
    fn block(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        depth: usize,
    ) -> Result<Vec<StagePart<L::Ops>>, L::Error> {
        let width = self.config.time_embed_dim;
        let mut parts =
            vec![StagePart::Res(ResBlock::load(self.loader, &format!("{name}.0"), inputs, outputs, width)?)];
        self.channels = outputs;
        if depth > 0 {
            let (name, context) = (format!("{name}.1"), self.config.context_dim);
            let transformer = SpatialTransformer::load(self.loader, &name, outputs, depth, context)?;
            parts.push(StagePart::Transformer(transformer));
        }
        Ok(parts)
    }

    fn push(&mut self, parts: Vec<StagePart<L::Ops>>) {
        self.stages.push(Stage { parts });
        self.skips.push(self.channels);
    }
}
