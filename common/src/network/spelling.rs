//! All names under which network files know the model's layers.

use super::key;
use crate::sdxl::config::UnetConfig;
use crate::sdxl::names::unet_to_diffusers;
use crate::sdxl::{Layer, Part};
use std::collections::HashMap;

/// Prefixes of a part: of kohya's names, in which underscores stand for dots, and of dotted ones.
struct Prefixes {
    kohya: &'static str,
    dotted: &'static [&'static str],
}

/// From every accepted spelling of every layer to the layer's place in the model.
pub(super) struct Spellings(HashMap<String, usize>);

impl Spellings {
    /// All spellings of these layers.
    pub(super) fn of(layers: &[Layer], unet: &UnetConfig) -> Self {
        let mut places = HashMap::new();
        for (place, layer) in layers.iter().enumerate() {
            let Some(prefixes) = prefixes(layer.part) else {
                continue;
            };
            for name in local_names(layer, unet) {
                places.insert(format!("{}{}", prefixes.kohya, name.replace('.', "_")), place);
                for prefix in prefixes.dotted {
                    places.insert(format!("{prefix}{name}"), place);
                }
            }
        }
        Self(places)
    }

    /// The place of the layer that a module's name in a file means.
    pub(super) fn find(&self, module: &str) -> Option<usize> {
        self.0.get(&*key::plain_name(module)).copied()
    }
}

/// A layer's name below its part: the original and diffusers' one for the UNet; for text encoders that of transformers
/// up to version 4 and from 5 on, which dropped `text_model.`.
fn local_names(layer: &Layer, unet: &UnetConfig) -> Vec<String> {
    let prefix = layer.part.prefix();
    let Some(name) = layer.name.strip_prefix(prefix).and_then(|name| name.strip_prefix('.')) else {
        return Vec::new();
    };
    let other = match layer.part {
        Part::Unet => unet_to_diffusers(name, unet),
        _ => name.strip_prefix("text_model.").map(str::to_owned),
    };
    std::iter::once(name.to_owned()).chain(other).collect()
}

fn prefixes(part: Part) -> Option<Prefixes> {
    Some(match part {
        Part::Unet => Prefixes {
            kohya: "lora_unet_",
            // The bare form is how diffusers saved attention processors. The text encoders have none: a bare name
            // could be either's.
            dotted: &["unet.", "diffusion_model.", "model.diffusion_model.", ""],
        },
        Part::TextEncoder1 => {
            Prefixes { kohya: "lora_te1_", dotted: &["text_encoder.", "text_encoders.clip_l.transformer."] }
        }
        Part::TextEncoder2 => {
            Prefixes { kohya: "lora_te2_", dotted: &["text_encoder_2.", "text_encoders.clip_g.transformer."] }
        }
        Part::Vae => return None,
    })
}
