//! The names of the original single-file checkpoint.

use super::{Pairs, after, forwards, number};

/// A canonical tensor, and how it is cut out of a tensor of a single-file checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromSingleFile {
    /// Canonical name, part's prefix first.
    pub name: String,
    /// Which third of the stored tensor's rows it is, from 0; `None` for all of them.
    pub third: Option<usize>,
    /// Whether the stored tensor is its transpose.
    pub transpose: bool,
}

/// Modules of an OpenCLIP layer: OpenCLIP's name, transformers' name.
const LAYER: &Pairs = &[
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
];

/// The canonical tensors that a tensor of a single-file checkpoint holds: none for a name that follows no rule, three
/// for the joint projection of OpenCLIP's attention (its rows are query, key, value), else one.
pub fn from_single_file(name: &str) -> Vec<FromSingleFile> {
    let whole = |name: String| vec![FromSingleFile { name, third: None, transpose: false }];
    if let Some(rest) = name.strip_prefix("model.diffusion_model.") {
        whole(format!("unet.{rest}"))
    } else if let Some(rest) = name.strip_prefix("first_stage_model.") {
        whole(format!("vae.{rest}"))
    } else if let Some(rest) = name.strip_prefix("conditioner.embedders.0.transformer.") {
        whole(format!("text_encoder.{rest}"))
    } else if let Some(rest) = name.strip_prefix("conditioner.embedders.1.model.") {
        from_open_clip(rest)
    } else {
        Vec::new()
    }
}

fn from_open_clip(name: &str) -> Vec<FromSingleFile> {
    let one =
        |name: &str, transpose| vec![FromSingleFile { name: format!("text_encoder_2.{name}"), third: None, transpose }];
    match name {
        "token_embedding.weight" => return one("text_model.embeddings.token_embedding.weight", false),
        "positional_embedding" => return one("text_model.embeddings.position_embedding.weight", false),
        // Used as x @ P there, as x @ W^T here.
        "text_projection" => return one("text_projection.weight", true),
        _ => {}
    }
    if let Some(rest) = after(name, "ln_final") {
        return one(&format!("text_model.final_layer_norm{rest}"), false);
    }
    let Some((layer, rest)) = name.strip_prefix("transformer.resblocks.").and_then(number) else { return Vec::new() };
    let at = format!("text_model.encoder.layers.{layer}");
    if let Some(kind) = rest.strip_prefix("attn.in_proj_") {
        let third = |(third, projection)| FromSingleFile {
            name: format!("text_encoder_2.{at}.self_attn.{projection}.{kind}"),
            third: Some(third),
            transpose: false,
        };
        return ["q_proj", "k_proj", "v_proj"].into_iter().enumerate().map(third).collect();
    }
    forwards(LAYER, rest).map(|rest| one(&format!("{at}.{rest}"), false)).unwrap_or_default()
}
