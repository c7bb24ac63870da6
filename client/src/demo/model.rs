//! A tiny SDXL in diffusers' folder layout. Its weights are drawn at random, but for three layers of the UNet.
//!
//! Those three carry the noisy latents past everything else to the output, so that the model predicts noise, if
//! poorly: a loss that no rate could change would demonstrate nothing.

use super::description;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::{Part, TensorSpec, layout, names, random};
use lora_rates_common::tensor_file::{self, Dtype, NewTensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Channels of the UNet's first level.
const CHANNELS: usize = 32;
/// Channels of a latent.
const LATENT: usize = 4;
/// What the last block takes of the noisy latents; a network of the demonstration adds the rest.
pub(super) const CARRIED: f32 = 0.6;
/// What the last block takes of what the blocks before it made of everything.
const MIXED_IN: f32 = 0.25;

/// Writes the tiny model into this folder: about 41 MB, the same bytes for the same seed.
pub(super) fn write(folder: &Path, seed: u64) -> Result<(), anyhow::Error> {
    write_with(folder, &SdxlConfig::tiny(), &|spec| weights(spec, seed))
}

/// Writes a model of these sizes whose weights are all random; the same bytes for the same seed.
pub(crate) fn write_random(folder: &Path, config: &SdxlConfig, seed: u64) -> Result<(), anyhow::Error> {
    write_with(folder, config, &|spec| random::tensor(&spec.name, &spec.shape, seed))
}

fn write_with(
    folder: &Path,
    config: &SdxlConfig,
    values: &(dyn Fn(&TensorSpec) -> Vec<f32> + Sync),
) -> Result<(), anyhow::Error> {
    let mut parts: BTreeMap<Part, Vec<(String, TensorSpec)>> = BTreeMap::new();
    for spec in layout::tensors(config) {
        if let Some((part, name)) = place(&spec.name, config) {
            parts.entry(part).or_default().push((name, spec));
        }
    }
    for (part, places) in parts {
        let tensors = drawn(places, values);
        let below = folder.join(part.prefix());
        std::fs::create_dir_all(&below)?;
        let file = match part {
            Part::Unet | Part::Vae => "diffusion_pytorch_model.safetensors",
            Part::TextEncoder1 | Part::TextEncoder2 => "model.safetensors",
        };
        tensor_file::write(&below.join(file), &tensors, &BTreeMap::new())?;
    }
    description::write(folder, config)
}

/// All tensors of a part, on all cores: a full-size model has billions of numbers.
fn drawn(
    places: Vec<(String, TensorSpec)>,
    values: &(dyn Fn(&TensorSpec) -> Vec<f32> + Sync),
) -> Vec<NewTensor<'static>> {
    let tensor = |(name, spec): (String, TensorSpec)| {
        let data = values(&spec).into_iter().flat_map(|value| bf16(value).to_le_bytes()).collect();
        NewTensor { name, dtype: Dtype::BF16, shape: spec.shape, data: Cow::Owned(data) }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Every core takes the next tensor: their sizes differ by far.
    let queue = Mutex::new(places.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        let work = || std::iter::from_fn(next).map(tensor).collect::<Vec<_>>();
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut tensors: Vec<_> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    })
}

/// The part that a tensor belongs to, and what diffusers calls it there.
fn place(canonical: &str, config: &SdxlConfig) -> Option<(Part, String)> {
    let part = names::part(canonical)?;
    let name = canonical.strip_prefix(part.prefix())?.strip_prefix('.')?;
    let name = match part {
        Part::Unet => names::unet_to_diffusers(name, &config.unet)?,
        Part::Vae => names::vae_to_diffusers(name, &config.vae)?,
        Part::TextEncoder1 | Part::TextEncoder2 => name.to_owned(),
    };
    Some((part, name))
}

fn weights(spec: &TensorSpec, seed: u64) -> Vec<f32> {
    let mut values = random::tensor(&spec.name, &spec.shape, seed);
    // [outputs, inputs, side, side]
    let [_, inputs, side, _] = spec.shape[..] else { return values };
    let cell = |at: usize| {
        let (kernel, channels) = (at % (side * side), at / (side * side));
        (channels / inputs, channels % inputs, kernel == side * side / 2)
    };
    let cells = values.iter_mut().enumerate().map(|(at, value)| (cell(at), value));
    match spec.name.as_str() {
        // Each channel holds one of the latent's, upright or negated.
        "unet.input_blocks.0.0.weight" => {
            for ((output, input, centre), value) in cells {
                *value = if centre && output % LATENT == input { sign(output) } else { 0.0 };
            }
        }
        // The first half of the inputs comes from the blocks before, the second is what the first block made.
        "unet.output_blocks.8.0.skip_connection.weight" => {
            for ((output, input, _), value) in cells {
                *value = match input.checked_sub(CHANNELS) {
                    Some(carried) => f32::from(u8::from(carried == output)) * CARRIED,
                    None => *value * MIXED_IN,
                };
            }
        }
        // silu(x) - silu(-x) = x, averaged over the pairs of channels that hold the same.
        "unet.out.2.weight" => {
            let pairs = CHANNELS / LATENT / 2;
            for ((output, input, centre), value) in cells {
                *value = if centre && input % LATENT == output { sign(input) / pairs as f32 } else { 0.0 };
            }
        }
        _ => {}
    }
    values
}

/// Whether a channel of the first level holds a latent's channel upright or negated.
pub(super) fn sign(channel: usize) -> f32 {
    if (channel / LATENT).is_multiple_of(2) { 1.0 } else { -1.0 }
}

/// The upper half of an f32 is a bfloat16; rounded to the nearest, halves to even. Not for infinities and NaNs.
pub(super) fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let half = 0x7fff + ((bits >> 16) & 1);
    (bits.wrapping_add(half) >> 16) as u16
}
