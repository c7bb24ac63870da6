//! The modules of the VAE, by their original names. No network adds to them.

use super::{Module, Modules};
use crate::sdxl::Part;
use crate::sdxl::config::VaeConfig;

/// Channels of a picture.
const COLOURS: usize = 3;

pub(super) fn modules(config: &VaeConfig) -> Vec<Module> {
    let mut vae = Modules::new(Part::Vae, None);
    encoder(&mut vae, config);
    // Mean and logarithm of the variance.
    vae.conv("quant_conv".to_owned(), 2 * config.latent, 2 * config.latent, 1);
    vae.conv("post_quant_conv".to_owned(), config.latent, config.latent, 1);
    decoder(&mut vae, config);
    vae.all
}

fn encoder(vae: &mut Modules, config: &VaeConfig) {
    let mut inputs = config.channels.first().copied().unwrap_or(0);
    vae.conv("encoder.conv_in".to_owned(), COLOURS, inputs, 3);
    for (level, channels) in config.channels.iter().copied().enumerate() {
        let at = format!("encoder.down.{level}");
        for block in 0..config.num_res_blocks {
            residual(vae, &format!("{at}.block.{block}"), inputs, channels);
            inputs = channels;
        }
        if level + 1 < config.levels() {
            // Padded by one row and column at the end only, which is done before the convolution.
            vae.halving_conv(format!("{at}.downsample.conv"), channels, 0);
        }
    }
    middle(vae, "encoder", inputs);
    vae.norm("encoder.norm_out".to_owned(), inputs);
    vae.conv("encoder.conv_out".to_owned(), inputs, 2 * config.latent, 3);
}

fn decoder(vae: &mut Modules, config: &VaeConfig) {
    let mut inputs = config.channels.last().copied().unwrap_or(0);
    vae.conv("decoder.conv_in".to_owned(), config.latent, inputs, 3);
    middle(vae, "decoder", inputs);
    for (level, channels) in config.channels.iter().copied().enumerate().rev() {
        let at = format!("decoder.up.{level}");
        for block in 0..=config.num_res_blocks {
            residual(vae, &format!("{at}.block.{block}"), inputs, channels);
            inputs = channels;
        }
        if level > 0 {
            vae.conv(format!("{at}.upsample.conv"), channels, channels, 3);
        }
    }
    vae.norm("decoder.norm_out".to_owned(), inputs);
    vae.conv("decoder.conv_out".to_owned(), inputs, COLOURS, 3);
}

fn middle(vae: &mut Modules, side: &str, channels: usize) {
    residual(vae, &format!("{side}.mid.block_1"), channels, channels);
    vae.norm(format!("{side}.mid.attn_1.norm"), channels);
    for projection in ["q", "k", "v", "proj_out"] {
        vae.conv(format!("{side}.mid.attn_1.{projection}"), channels, channels, 1);
    }
    residual(vae, &format!("{side}.mid.block_2"), channels, channels);
}

fn residual(vae: &mut Modules, at: &str, inputs: usize, outputs: usize) {
    vae.norm(format!("{at}.norm1"), inputs);
    vae.conv(format!("{at}.conv1"), inputs, outputs, 3);
    vae.norm(format!("{at}.norm2"), outputs);
    vae.conv(format!("{at}.conv2"), outputs, outputs, 3);
    if inputs != outputs {
        vae.conv(format!("{at}.nin_shortcut"), inputs, outputs, 1);
    }
}
