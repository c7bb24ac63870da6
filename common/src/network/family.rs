//! Guessing which other model a network was made for, to say so when it doesn't fit.

use super::key::{self, Field};
use crate::tensor_file::TensorFile;

/// Parts of keys that only networks for the named model have. The first that matches any key wins.
const INSIDE: [(&str, &str); 6] = [
    ("double_blocks", "Flux"),
    ("single_transformer_blocks", "Flux"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("lora_te3_", "Stable Diffusion 3"),
    ("text_encoder_3.", "Stable Diffusion 3"),
    ("lora_prior_", "Stable Cascade"),
];

/// Beginnings of keys of networks for diffusion transformers in general.
const TRANSFORMER: [&str; 3] = ["transformer.", "lora_transformer_", "diffusion_model.layers."];

/// Another model than one with text conditioning of this width that the file's keys or shapes speak of; `None` if nothing does.
pub(super) fn guess(file: &TensorFile, context: usize) -> Option<&'static str> {
    let by_part = INSIDE.iter().find(|(part, _)| file.names().any(|key| key.contains(part)));
    let by_start = || {
        file.names()
            .any(|key| TRANSFORMER.iter().any(|start| key.starts_with(start)))
            .then_some("a diffusion transformer such as Stable Diffusion 3 or Flux")
    };
    let one_encoder =
        || file.names().any(|key| key.starts_with("lora_te_text_model")).then_some("Stable Diffusion 1.5 or 2");
    by_part.map(|(_, family)| *family).or_else(by_start).or_else(|| by_context(file, context)).or_else(one_encoder)
}

/// By the width of the text conditioning, which the keys of cross-attention take in.
fn by_context(file: &TensorFile, context: usize) -> Option<&'static str> {
    let theirs = file.names().find_map(|name| {
        let (module, field) = key::parse(name)?;
        let takes_context = module.ends_with("attn2.to_k") || module.ends_with("attn2_to_k");
        let view = file.get(name).filter(|_| takes_context && field == Field::Down)?;
        view.shape.get(1).copied()
    });
    match theirs.filter(|width| *width != context)? {
        768 => Some("Stable Diffusion 1.5"),
        1024 => Some("Stable Diffusion 2"),
        1280 => Some("the SDXL refiner"),
        2048 => Some("SDXL of full size"),
        _ => None,
    }
}
