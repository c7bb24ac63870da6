//! The modules of the UNet, by their original names.

use super::{Module, Modules};
use crate::block::Block;
use crate::sdxl::Part;
use crate::sdxl::config::UnetConfig;

pub(super) fn modules(config: &UnetConfig) -> Vec<Module> {
    let mut unet = Unet { config, modules: Modules::new(Part::Unet, Block::input(0)) };
    let skips = unet.down();
    unet.middle();
    unet.up(skips);
    unet.modules.all
}

struct Unet<'a> {
    config: &'a UnetConfig,
    modules: Modules,
}

impl Unet<'_> {
    /// The embeddings and input blocks. Returns the channels that each input block hands to an output block.
    fn down(&mut self) -> Vec<usize> {
        let UnetConfig { model_channels, time_embed_dim, .. } = *self.config;
        self.modules.linear("time_embed.0".to_owned(), model_channels, time_embed_dim);
        self.modules.linear("time_embed.2".to_owned(), time_embed_dim, time_embed_dim);
        self.modules.linear("label_emb.0.0".to_owned(), self.config.adm_channels, time_embed_dim);
        self.modules.linear("label_emb.0.2".to_owned(), time_embed_dim, time_embed_dim);
        self.modules.conv("input_blocks.0.0".to_owned(), self.config.in_channels, model_channels, 3);
        let mut skips = vec![model_channels];
        let mut inputs = model_channels;
        for level in 0..self.config.levels() {
            let channels = self.config.channels(level);
            for _ in 0..self.config.num_res_blocks {
                let at = self.enter_input(skips.len());
                self.residual(&format!("{at}.0"), inputs, channels);
                self.transformer(&format!("{at}.1"), channels, self.config.depth(level));
                inputs = channels;
                skips.push(channels);
            }
            if level + 1 < self.config.levels() {
                let at = self.enter_input(skips.len());
                self.modules.halving_conv(format!("{at}.0.op"), channels, 1);
                skips.push(channels);
            }
        }
        skips
    }

    fn middle(&mut self) {
        self.modules.block = Some(Block::MID);
        let channels = self.deepest();
        self.residual("middle_block.0", channels, channels);
        self.transformer("middle_block.1", channels, self.config.middle_depth);
        self.residual("middle_block.2", channels, channels);
    }

    /// The output blocks and the output; every block takes what the input block of the same place, from the end, left.
    fn up(&mut self, mut skips: Vec<usize>) {
        let mut inputs = self.deepest();
        let mut place = 0;
        for level in (0..self.config.levels()).rev() {
            let channels = self.config.channels(level);
            let depth = self.config.depth(level);
            for step in 0..=self.config.num_res_blocks {
                self.modules.block = Block::output(place);
                let at = format!("output_blocks.{place}");
                // There are as many input blocks as output blocks.
                let skip = skips.pop().unwrap_or(0);
                self.residual(&format!("{at}.0"), inputs + skip, channels);
                self.transformer(&format!("{at}.1"), channels, depth);
                if step == self.config.num_res_blocks && level > 0 {
                    let sub = if depth > 0 { 2 } else { 1 };
                    self.modules.conv(format!("{at}.{sub}.conv"), channels, channels, 3);
                }
                inputs = channels;
                place += 1;
            }
        }
        self.modules.block = Block::output(8);
        self.modules.norm("out.0".to_owned(), inputs);
        self.modules.conv("out.2".to_owned(), inputs, self.config.out_channels, 3);
    }

    fn deepest(&self) -> usize {
        self.config.channels(self.config.levels().saturating_sub(1))
    }

    fn enter_input(&mut self, place: usize) -> String {
        self.modules.block = Block::input(place);
        format!("input_blocks.{place}")
    }

    fn residual(&mut self, at: &str, inputs: usize, outputs: usize) {
        self.modules.norm(format!("{at}.in_layers.0"), inputs);
        self.modules.conv(format!("{at}.in_layers.2"), inputs, outputs, 3);
        self.modules.linear(format!("{at}.emb_layers.1"), self.config.time_embed_dim, outputs);
        self.modules.norm(format!("{at}.out_layers.0"), outputs);
        self.modules.conv(format!("{at}.out_layers.3"), outputs, outputs, 3);
        if inputs != outputs {
            self.modules.conv(format!("{at}.skip_connection"), inputs, outputs, 1);
        }
    }

    /// A transformer of `depth` blocks; nothing if that is 0.
    fn transformer(&mut self, at: &str, channels: usize, depth: usize) {
        if depth == 0 {
            return;
        }
        self.modules.norm(format!("{at}.norm"), channels);
        self.modules.linear(format!("{at}.proj_in"), channels, channels);
        for block in 0..depth {
            let at = format!("{at}.transformer_blocks.{block}");
            self.modules.norm(format!("{at}.norm1"), channels);
            self.attention(&format!("{at}.attn1"), channels, channels);
            self.modules.norm(format!("{at}.norm2"), channels);
            self.attention(&format!("{at}.attn2"), channels, self.config.context_dim);
            self.modules.norm(format!("{at}.norm3"), channels);
            // Gated: half of the eightfold width gates the other half.
            self.modules.linear(format!("{at}.ff.net.0.proj"), channels, 8 * channels);
            self.modules.linear(format!("{at}.ff.net.2"), 4 * channels, channels);
        }
        self.modules.linear(format!("{at}.proj_out"), channels, channels);
    }

    fn attention(&mut self, at: &str, channels: usize, context: usize) {
        self.modules.linear_without_bias(format!("{at}.to_q"), channels, channels);
        self.modules.linear_without_bias(format!("{at}.to_k"), context, channels);
        self.modules.linear_without_bias(format!("{at}.to_v"), context, channels);
        self.modules.linear(format!("{at}.to_out.0"), channels, channels);
    }
}
