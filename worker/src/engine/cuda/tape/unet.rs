//! The UNet on a tape.

use super::load::TapeLoader;
use super::record::Recorder;
use super::{Shape, Stack, Tape, Value, fuse_biases, fuse_residuals};
use crate::engine::cuda::Error;
use crate::engine::cuda::parameters::Parameters;
use crate::sdxl::unet::{Conditions, Unet};
use lora_rates_common::sdxl::config::UnetConfig;
use std::collections::HashMap;
use std::sync::Arc;

/// The networks by layer.
pub type Stacks = Arc<HashMap<String, Stack>>;

/// Sizes of a microbatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// Samples.
    pub batch: usize,
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Tokens of the prompts.
    pub tokens: usize,
}

/// The UNet's text over names alone.
pub struct Loaded {
    /// The text.
    pub unet: Unet<Recorder>,
    /// The parameters that it needs.
    pub parameters: Parameters,
    /// The names of layers that are computed as one.
    pub joined: Vec<Vec<String>>,
}

/// A recorded UNet, and which of its values come from outside or go there.
pub struct RecordedUnet {
    /// All nodes.
    pub tape: Tape,
    /// Noisy latents `[b, h, w, 4]`.
    pub noisy: Value,
    /// The timesteps' sinusoids `[b, 1, model_channels]`.
    pub time: Value,
    /// Pooled text and the sizes' sinusoids `[b, 1, adm_channels]`.
    pub vector: Value,
    /// Text `[b, tokens, context]`.
    pub context: Value,
    /// `[b, h, w, 4]`.
    pub prediction: Value,
}

impl RecordedUnet {
    /// Makes the UNet's text.
    pub fn load(config: &UnetConfig) -> Loaded {
        let mut loader = TapeLoader::default();
        let Ok(unet) = Unet::load(&mut loader, config);
        let TapeLoader { parameters, joined } = loader;
        Loaded { unet, parameters, joined }
    }

    /// Records a forward pass over a microbatch of these sizes.
    ///
    /// # Errors
    /// [`Error::NotRecorded`].
    pub fn record(unet: &Unet<Recorder>, config: &UnetConfig, stacks: Stacks, case: Case) -> Result<Self, Error> {
        let Case { batch, height, width, tokens } = case;
        let ops = Recorder::new(stacks);
        let noisy = ops.input(Shape { batch, height, width, channels: config.in_channels });
        let time = ops.input(Shape::tokens(batch, 1, config.model_channels));
        let vector = ops.input(Shape::tokens(batch, 1, config.adm_channels));
        let context = ops.input(Shape::tokens(batch, tokens, config.context_dim));
        let embedding = unet.embed(&ops, time, vector);
        let to = Conditions { embedding, context };
        let mut outputs: Vec<Value> = Vec::with_capacity(unet.stages());
        for index in 0..unet.stages() {
            ops.begin_segment(index + 1);
            let before = outputs.last().copied().unwrap_or(noisy);
            let skip = unet.skip_of(index).and_then(|at| outputs.get(at).copied());
            outputs.push(unet.stage(&ops, index, before, skip, &to));
        }
        ops.begin_segment(unet.stages() + 1);
        let prediction = unet.output(&ops, outputs.last().copied().unwrap_or(noisy));
        let mut tape = ops.finish().map_err(Error::NotRecorded)?;
        fuse_residuals(&mut tape);
        fuse_biases(&mut tape);
        Ok(Self { tape, noisy, time, vector, context, prediction })
    }
}
