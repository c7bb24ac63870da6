//! The VAE's names in diffusers and in the original code.

use super::{Pairs, after, backwards, forwards, number};
use crate::sdxl::config::VaeConfig;

/// Modules outside both halves, called the same in both layouts.
const OUTSIDE: &Pairs = &[("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv")];

/// Modules of a half outside its levels: diffusers' name, original name.
const HALF: &Pairs = &[
    ("conv_in", "conv_in"),
    ("conv_norm_out", "norm_out"),
    ("conv_out", "conv_out"),
    ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
    ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
    ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
    ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
    ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
    // As early versions of diffusers called them: many published files still do. Behind those of today, which the way
    // back finds first.
    ("mid_block.attentions.0.query", "mid.attn_1.q"),
    ("mid_block.attentions.0.key", "mid.attn_1.k"),
    ("mid_block.attentions.0.value", "mid.attn_1.v"),
    ("mid_block.attentions.0.proj_attn", "mid.attn_1.proj_out"),
];

/// Modules of a residual block: diffusers' name, original name.
const RESIDUAL: &Pairs = &[
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("conv_shortcut", "nin_shortcut"),
];

/// The original name of a module or tensor of the VAE that diffusers calls `name`, both without a part's prefix:
/// `decoder.up_blocks.0.resnets.2.conv1.bias` gives `decoder.up.3.block.2.conv1.bias`. `None` for a name that follows
/// no rule.
pub fn vae_from_diffusers(name: &str, config: &VaeConfig) -> Option<String> {
    if let Some(rest) = name.strip_prefix("encoder.") {
        let found = forwards(HALF, rest).or_else(|| middle_from_diffusers(rest)).or_else(|| {
            let (level, rest) = level(rest, "down_blocks.", config)?;
            Some(format!("down.{level}.{}", level_from_diffusers(rest, "downsamplers.0.conv", "downsample.conv")?))
        });
        Some(format!("encoder.{}", found?))
    } else if let Some(rest) = name.strip_prefix("decoder.") {
        let found = forwards(HALF, rest).or_else(|| middle_from_diffusers(rest)).or_else(|| {
            let (index, rest) = level(rest, "up_blocks.", config)?;
            let level = config.levels() - 1 - index;
            Some(format!("up.{level}.{}", level_from_diffusers(rest, "upsamplers.0.conv", "upsample.conv")?))
        });
        Some(format!("decoder.{}", found?))
    } else {
        forwards(OUTSIDE, name)
    }
}

/// The name that diffusers gives to what the original code calls `name`: the inverse of [`vae_from_diffusers`].
pub fn vae_to_diffusers(name: &str, config: &VaeConfig) -> Option<String> {
    if let Some(rest) = name.strip_prefix("encoder.") {
        let found = backwards(HALF, rest).or_else(|| middle_to_diffusers(rest)).or_else(|| {
            let (level, rest) = level(rest, "down.", config)?;
            Some(format!("down_blocks.{level}.{}", level_to_diffusers(rest, "downsample.conv", "downsamplers.0.conv")?))
        });
        Some(format!("encoder.{}", found?))
    } else if let Some(rest) = name.strip_prefix("decoder.") {
        let found = backwards(HALF, rest).or_else(|| middle_to_diffusers(rest)).or_else(|| {
            let (level, rest) = level(rest, "up.", config)?;
            // The original counts the finest level as 0 here too; diffusers counts in the order of computation.
            let index = config.levels() - 1 - level;
            Some(format!("up_blocks.{index}.{}", level_to_diffusers(rest, "upsample.conv", "upsamplers.0.conv")?))
        });
        Some(format!("decoder.{}", found?))
    } else {
        backwards(OUTSIDE, name)
    }
}

fn level<'a>(name: &'a str, prefix: &str, config: &VaeConfig) -> Option<(usize, &'a str)> {
    number(name.strip_prefix(prefix)?).filter(|(level, _)| *level < config.levels())
}

fn level_from_diffusers(name: &str, resample: &str, original: &str) -> Option<String> {
    if let Some(rest) = after(name, resample) {
        return Some(format!("{original}{rest}"));
    }
    let (block, rest) = number(name.strip_prefix("resnets.")?)?;
    Some(format!("block.{block}.{}", forwards(RESIDUAL, rest)?))
}

fn level_to_diffusers(name: &str, resample: &str, diffusers: &str) -> Option<String> {
    if let Some(rest) = after(name, resample) {
        return Some(format!("{diffusers}{rest}"));
    }
    let (block, rest) = number(name.strip_prefix("block.")?)?;
    Some(format!("resnets.{block}.{}", backwards(RESIDUAL, rest)?))
}

fn middle_from_diffusers(name: &str) -> Option<String> {
    let (index, rest) = number(name.strip_prefix("mid_block.resnets.")?).filter(|(index, _)| *index < 2)?;
    Some(format!("mid.block_{}.{}", index + 1, forwards(RESIDUAL, rest)?))
}

fn middle_to_diffusers(name: &str) -> Option<String> {
    let (index, rest) = number(name.strip_prefix("mid.block_")?).filter(|(index, _)| (1..=2).contains(index))?;
    Some(format!("mid_block.resnets.{}.{}", index - 1, backwards(RESIDUAL, rest)?))
}
