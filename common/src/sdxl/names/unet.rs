//! The UNet's names in diffusers and in the original code.

use super::{Pairs, after, backwards, forwards, number};
use crate::sdxl::config::UnetConfig;

/// Modules outside the blocks: diffusers' name, original name.
const OUTSIDE: &Pairs = &[
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
];

/// Modules of a residual block: diffusers' name, original name.
const RESIDUAL: &Pairs = &[
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

/// The original name of a module or tensor of the UNet that diffusers calls `name`, both without a part's prefix:
/// `down_blocks.1.attentions.0.proj_in.weight` gives `input_blocks.4.1.proj_in.weight`. `None` for a name that
/// follows no rule.
pub fn unet_from_diffusers(name: &str, config: &UnetConfig) -> Option<String> {
    if let Some(rest) = name.strip_prefix("down_blocks.") {
        down_from_diffusers(rest, config)
    } else if let Some(rest) = name.strip_prefix("up_blocks.") {
        up_from_diffusers(rest, config)
    } else if let Some(rest) = name.strip_prefix("mid_block.") {
        middle_from_diffusers(rest)
    } else {
        forwards(OUTSIDE, name)
    }
}

/// The name that diffusers gives to what the original code calls `name`: the inverse of [`unet_from_diffusers`].
pub fn unet_to_diffusers(name: &str, config: &UnetConfig) -> Option<String> {
    // First, for the first convolution is an input block in the original.
    if let Some(found) = backwards(OUTSIDE, name) {
        return Some(found);
    }
    if let Some(rest) = name.strip_prefix("input_blocks.") {
        down_to_diffusers(rest, config)
    } else if let Some(rest) = name.strip_prefix("output_blocks.") {
        up_to_diffusers(rest, config)
    } else {
        middle_to_diffusers(name.strip_prefix("middle_block.")?)
    }
}

/// Input blocks follow each other: the first convolution, then for each level its residual blocks and a downsampling.
fn down_from_diffusers(name: &str, config: &UnetConfig) -> Option<String> {
    let (level, name) = number(name).filter(|(level, _)| *level < config.levels())?;
    let place = |step| level * (config.num_res_blocks + 1) + 1 + step;
    if let Some(rest) = after(name, "downsamplers.0.conv") {
        return (level + 1 < config.levels())
            .then(|| format!("input_blocks.{}.0.op{rest}", place(config.num_res_blocks)));
    }
    let (step, sub) = step_from_diffusers(name)?;
    (step < config.num_res_blocks).then(|| format!("input_blocks.{}.{sub}", place(step)))
}

fn down_to_diffusers(name: &str, config: &UnetConfig) -> Option<String> {
    let (place, rest) = number(name)?;
    // Place 0 is the first convolution.
    let place = place.checked_sub(1)?;
    let (level, step) = (place / (config.num_res_blocks + 1), place % (config.num_res_blocks + 1));
    if level >= config.levels() {
        return None;
    } else if step < config.num_res_blocks {
        return Some(format!("down_blocks.{level}.{}", step_to_diffusers(step, rest)?));
    }
    let rest = after(rest, "0.op").filter(|_| level + 1 < config.levels())?;
    Some(format!("down_blocks.{level}.downsamplers.0.conv{rest}"))
}

/// Output blocks follow each other, the deepest level first; the last of a level ends in the upsampling.
fn up_from_diffusers(name: &str, config: &UnetConfig) -> Option<String> {
    let (index, name) = number(name).filter(|(index, _)| *index < config.levels())?;
    let place = |step| index * (config.num_res_blocks + 1) + step;
    if let Some(rest) = after(name, "upsamplers.0.conv") {
        let sub = upsampling(index, config)?;
        return Some(format!("output_blocks.{}.{sub}.conv{rest}", place(config.num_res_blocks)));
    }
    let (step, sub) = step_from_diffusers(name)?;
    (step <= config.num_res_blocks).then(|| format!("output_blocks.{}.{sub}", place(step)))
}

fn up_to_diffusers(name: &str, config: &UnetConfig) -> Option<String> {
    let (place, rest) = number(name)?;
    let (index, step) = (place / (config.num_res_blocks + 1), place % (config.num_res_blocks + 1));
    if index >= config.levels() {
        return None;
    }
    if step == config.num_res_blocks
        && let Some(sub) = upsampling(index, config)
        && let Some(rest) = after(rest, &format!("{sub}.conv"))
    {
        return Some(format!("up_blocks.{index}.upsamplers.0.conv{rest}"));
    }
    Some(format!("up_blocks.{index}.{}", step_to_diffusers(step, rest)?))
}

/// Place of the upsampling inside its output block: behind the transformer, if there is one. The last level has none.
fn upsampling(index: usize, config: &UnetConfig) -> Option<usize> {
    let level = config.levels().checked_sub(index + 1).filter(|level| *level > 0)?;
    Some(if config.depth(level) > 0 { 2 } else { 1 })
}

fn middle_from_diffusers(name: &str) -> Option<String> {
    if let Some(rest) = after(name, "attentions.0") {
        return Some(format!("middle_block.1{rest}"));
    }
    let (index, rest) = number(name.strip_prefix("resnets.")?).filter(|(index, _)| *index < 2)?;
    Some(format!("middle_block.{}.{}", 2 * index, forwards(RESIDUAL, rest)?))
}

fn middle_to_diffusers(name: &str) -> Option<String> {
    match number(name)? {
        (1, "") => Some("mid_block.attentions.0".to_owned()),
        (1, rest) => Some(format!("mid_block.attentions.0.{rest}")),
        (index @ (0 | 2), rest) => Some(format!("mid_block.resnets.{}.{}", index / 2, backwards(RESIDUAL, rest)?)),
        _ => None,
    }
}

/// `resnets.j.x` gives (j, `0.x'`), `attentions.j.x` gives (j, `1.x`).
fn step_from_diffusers(name: &str) -> Option<(usize, String)> {
    if let Some(rest) = name.strip_prefix("resnets.") {
        let (step, rest) = number(rest)?;
        return Some((step, format!("0.{}", forwards(RESIDUAL, rest)?)));
    }
    let (step, rest) = number(name.strip_prefix("attentions.")?)?;
    Some((step, if rest.is_empty() { "1".to_owned() } else { format!("1.{rest}") }))
}

fn step_to_diffusers(step: usize, name: &str) -> Option<String> {
    match number(name)? {
        (0, rest) => Some(format!("resnets.{step}.{}", backwards(RESIDUAL, rest)?)),
        (1, "") => Some(format!("attentions.{step}")),
        (1, rest) => Some(format!("attentions.{step}.{rest}")),
        _ => None,
    }
}
