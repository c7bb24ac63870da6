//! Samples given in a file: latents, prompts and sizes, put together into the microbatch of a step.

use super::tensors::{Axis, Error, Inputs, Shaped};
use lora_rates_common::diffusion::TIMESTEPS;
use lora_rates_common::sdxl::config::{SIZE_NUMBERS, VOCABULARY};
use lora_rates_common::tokenizer::{ROW, Tokens};
use lora_rates_worker::engine::Microbatch;

/// Channels of a latent.
pub(super) const CHANNELS: usize = 4;
/// The UNet halves a latent's sides twice.
const SIDE_UNIT: usize = 4;
/// Rows of 77 ids that the longest `max_token_length` makes of a prompt.
const MAX_ROWS: usize = 3;

/// Samples of one size, without noise and timestep.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) height: usize,
    pub(super) width: usize,
    /// `[samples, 4, height, width]`, scaled.
    latents: Vec<f32>,
    prompts: Vec<Tokens>,
    time_ids: Vec<[f32; SIZE_NUMBERS]>,
    loss_weights: Vec<f64>,
}

impl Samples {
    /// Tensors of a sample, as they are called below the prefix.
    pub(super) const NAMES: [&str; 5] = ["latents", "ids_clip_l", "ids_clip_g", "time_ids", "loss_weights"];

    /// Reads `latents [B, 4, h, w]`, `ids_clip_l` and `ids_clip_g [B, K, 77]`, `time_ids [B, 6]` and, if it is there,
    /// `loss_weights [B]`, all called with this prefix.
    pub(super) fn read(inputs: &Inputs, prefix: &str) -> Result<Self, Error> {
        let name = |tensor: &str| format!("{prefix}{tensor}");
        let axes = [Axis::Free("B"), Axis::Is(CHANNELS), Axis::Free("h"), Axis::Free("w")];
        let Shaped { shape: [count, _, height, width], values: latents } = inputs.floats(&name("latents"), axes)?;
        if !height.is_multiple_of(SIDE_UNIT) || !width.is_multiple_of(SIDE_UNIT) {
            let what = format!("it is {height} high and {width} wide; both must be multiples of {SIDE_UNIT}");
            return Err(inputs.value(&name("latents"), what));
        }
        let axes = [Axis::Is(count), Axis::Is(SIZE_NUMBERS)];
        let time_ids = inputs.floats(&name("time_ids"), axes)?.values.as_chunks().0.to_vec();
        let loss_weights = if inputs.contains(&name("loss_weights")) {
            let weights = inputs.floats(&name("loss_weights"), [Axis::Is(count)])?.values;
            weights.into_iter().map(f64::from).collect()
        } else {
            vec![1.0; count]
        };
        let prompts = prompts(inputs, &name("ids_clip_l"), &name("ids_clip_g"), count)?;
        Ok(Self { height, width, latents, prompts, time_ids, loss_weights })
    }

    pub(super) fn count(&self) -> usize {
        self.time_ids.len()
    }

    /// Shape of the noise for `batch` of these samples.
    pub(super) fn noise_shape(&self, batch: usize) -> [Axis; 4] {
        [batch, CHANNELS, self.height, self.width].map(Axis::Is)
    }

    /// The samples at these places with their noise `[b, 4, height, width]` and timesteps `[b]`. Places from
    /// [`Self::count`] on are left out.
    pub(super) fn microbatch(&self, places: &[usize], noise: &[f32], timesteps: &[u32]) -> Microbatch {
        let size = CHANNELS * self.height * self.width;
        let latents = places.iter().filter_map(|place| self.latents.chunks(size).nth(*place));
        Microbatch {
            height: self.height,
            width: self.width,
            latents: latents.flatten().copied().collect(),
            noise: noise.to_vec(),
            timesteps: timesteps.to_vec(),
            prompts: places.iter().filter_map(|place| self.prompts.get(*place).cloned()).collect(),
            time_ids: places.iter().filter_map(|place| self.time_ids.get(*place).copied()).collect(),
            loss_weights: places.iter().filter_map(|place| self.loss_weights.get(*place).copied()).collect(),
        }
    }
}

/// Timesteps of this shape.
pub(super) fn timesteps<const AXES: usize>(
    inputs: &Inputs,
    tensor: &str,
    axes: [Axis; AXES],
) -> Result<Shaped<u32, AXES>, Error> {
    inputs.integers(tensor, axes, 0..TIMESTEPS as usize, "timestep")
}

/// One prompt per sample from the ids of both tokenizers, `[B, K, 77]` each.
fn prompts(inputs: &Inputs, clip_l: &str, clip_g: &str, count: usize) -> Result<Vec<Tokens>, Error> {
    let read = |tensor: &str, rows: Axis| {
        inputs.integers(tensor, [Axis::Is(count), rows, Axis::Is(ROW)], 0..VOCABULARY, "token's id")
    };
    let ids_l = read(clip_l, Axis::Free("K"))?;
    let [_, rows, _] = ids_l.shape;
    if rows > MAX_ROWS {
        let what = format!("a prompt has {rows} rows; at most {MAX_ROWS} are read (max_token_length 225)");
        return Err(inputs.value(clip_l, what));
    }
    let ids_g = read(clip_g, Axis::Is(rows))?;
    let split = |ids: &[u32]| -> Vec<Vec<[u32; ROW]>> { ids.as_chunks().0.chunks(rows).map(<[_]>::to_vec).collect() };
    let pairs = split(&ids_l.values).into_iter().zip(split(&ids_g.values));
    Ok(pairs.map(|(clip_l, clip_g)| Tokens { clip_l, clip_g }).collect())
}
