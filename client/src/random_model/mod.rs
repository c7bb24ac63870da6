//! An SDXL of random weights in diffusers' folder layout.

mod description;

use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::{Part, TensorSpec, layout, names, random};
use lora_rates_common::tensor_file::{self, Dtype, NewTensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Writes a model of these sizes whose weights are all random; the same bytes for the same seed.
pub(crate) fn write(folder: &Path, config: &SdxlConfig, seed: u64) -> Result<(), anyhow::Error> {
    let mut parts: BTreeMap<Part, Vec<(String, TensorSpec)>> = BTreeMap::new();
    for spec in layout::tensors(config) {
        if let Some((part, name)) = place(&spec.name, config) {
            parts.entry(part).or_default().push((name, spec));
        }
    }
    for (part, places) in parts {
        let tensors = drawn(places, seed);
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
fn drawn(places: Vec<(String, TensorSpec)>, seed: u64) -> Vec<NewTensor<'static>> {
    let tensor = |(name, spec): (String, TensorSpec)| {
        let values = random::tensor(&spec.name, &spec.shape, seed);
        let data = values.into_iter().flat_map(|value| bf16(value).to_le_bytes()).collect();
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

/// The upper half of an f32 is a bfloat16; rounded to the nearest, halves to even. Not for infinities and NaNs.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let half = 0x7fff + ((bits >> 16) & 1);
    (bits.wrapping_add(half) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_rounded_to_the_nearest_with_halves_to_even() {
        let cases = [(0.0, 0x0000), (1.0, 0x3f80), (-2.5, 0xc020), (1.003_906_2, 0x3f80), (1.011_718_8, 0x3f82)];
        for (value, bits) in cases {
            assert_eq!(bf16(value), bits, "{value}");
        }
    }
}
