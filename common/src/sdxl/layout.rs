//! Every tensor of an SDXL model, and every layer that a network may add to, by name and size.

mod text;
mod unet;
mod vae;

#[cfg(test)]
mod tests;

use super::config::SdxlConfig;
use super::{Layer, LayerKind, Part, TensorSpec};
use crate::block::Block;

/// All tensors of the model: text encoders, UNet, VAE, each in the order of its computation.
pub fn tensors(config: &SdxlConfig) -> Vec<TensorSpec> {
    modules(config).into_iter().flat_map(Module::tensors).collect()
}

/// All linear and convolution layers that a network may add to, with the block whose rate scales it there. Those of
/// both text encoders (without the projection of the pooled state) are BASE; of those of the UNet outside its
/// numbered blocks, the embeddings' are IN00 and the output's is OUT08.
pub fn layers(config: &SdxlConfig) -> Vec<Layer> {
    modules(config).into_iter().filter_map(Module::layer).collect()
}

fn modules(config: &SdxlConfig) -> Vec<Module> {
    let mut all = text::modules(Part::TextEncoder1, &config.text_encoder_1);
    all.extend(text::modules(Part::TextEncoder2, &config.text_encoder_2));
    all.extend(unet::modules(&config.unet));
    all.extend(vae::modules(&config.vae));
    all
}

/// A piece of the model with a weight, and perhaps a bias.
struct Module {
    part: Part,
    /// Canonical name without the part's prefix.
    name: String,
    op: Op,
    bias: bool,
    /// The slot of the rates, for a layer that a network may add to.
    block: Option<Block>,
}

enum Op {
    Layer(LayerKind),
    /// Group or layer normalisation over this many channels.
    Norm(usize),
    /// Rows to look up.
    Table {
        rows: usize,
        width: usize,
    },
}

impl Module {
    fn tensors(self) -> impl Iterator<Item = TensorSpec> {
        let (shape, outputs) = match self.op {
            Op::Layer(LayerKind::Linear { inputs, outputs }) => (vec![outputs, inputs], outputs),
            Op::Layer(LayerKind::Conv { inputs, outputs, kernel, .. }) => {
                (vec![outputs, inputs, kernel, kernel], outputs)
            }
            Op::Norm(channels) => (vec![channels], channels),
            Op::Table { rows, width } => (vec![rows, width], width),
        };
        let name = format!("{}.{}", self.part, self.name);
        let bias = self.bias.then(|| TensorSpec { name: format!("{name}.bias"), shape: vec![outputs] });
        [TensorSpec { name: format!("{name}.weight"), shape }].into_iter().chain(bias)
    }

    fn layer(self) -> Option<Layer> {
        let Op::Layer(kind) = self.op else { return None };
        let name = format!("{}.{}", self.part, self.name);
        Some(Layer { part: self.part, name, kind, block: self.block? })
    }
}

/// Collects the modules of one part.
struct Modules {
    part: Part,
    /// The block of the layers added next; `None` where no network may add.
    block: Option<Block>,
    all: Vec<Module>,
}

impl Modules {
    fn new(part: Part, block: Option<Block>) -> Self {
        Self { part, block, all: Vec::new() }
    }

    fn linear(&mut self, name: String, inputs: usize, outputs: usize) {
        self.push(name, Op::Layer(LayerKind::Linear { inputs, outputs }), true);
    }

    fn linear_without_bias(&mut self, name: String, inputs: usize, outputs: usize) {
        self.push(name, Op::Layer(LayerKind::Linear { inputs, outputs }), false);
    }

    /// A convolution that keeps the picture's size.
    fn conv(&mut self, name: String, inputs: usize, outputs: usize, kernel: usize) {
        let padding = kernel / 2;
        self.push(name, Op::Layer(LayerKind::Conv { inputs, outputs, kernel, stride: 1, padding }), true);
    }

    /// A 3x3 convolution that halves the picture's sides.
    fn halving_conv(&mut self, name: String, channels: usize, padding: usize) {
        let kind = LayerKind::Conv { inputs: channels, outputs: channels, kernel: 3, stride: 2, padding };
        self.push(name, Op::Layer(kind), true);
    }

    fn norm(&mut self, name: String, channels: usize) {
        self.push(name, Op::Norm(channels), true);
    }

    fn table(&mut self, name: String, rows: usize, width: usize) {
        self.push(name, Op::Table { rows, width }, false);
    }

    fn push(&mut self, name: String, op: Op, bias: bool) {
        self.all.push(Module { part: self.part, name, op, bias, block: self.block });
    }
}
