//! Two LoRA files for the tiny SDXL, under kohya's names: random, but for one module.

use super::model::{CARRIED, bf16, sign};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::{Layer, LayerKind, Part, layout, random};
use lora_rates_common::tensor_file::{self, Dtype, NewTensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Adds noise in the UNet's attention.
pub(super) const DISTURBING: &str = "disturbing";
/// Adds noise in all transformers and both text encoders, and restores in OUT08 what the model lacks.
pub(super) const RESTORING: &str = "restoring";

/// The layer of the module that is not random.
const RESTORED: &str = "unet.output_blocks.8.0.skip_connection";
/// Size of what random modules add, relative to their layer's output.
const STRENGTH: f32 = 2.0;

/// Rank and alpha of a network.
#[derive(Clone, Copy)]
struct Size {
    rank: usize,
    alpha: f32,
}

/// Writes `disturbing.safetensors` and `restoring.safetensors` into this folder; the same bytes for the same seed.
pub(super) fn write(folder: &Path, config: &SdxlConfig, seed: u64) -> Result<(), anyhow::Error> {
    std::fs::create_dir_all(folder)?;
    let layers = layout::layers(config);
    let attention = |layer: &Layer| layer.part == Part::Unet && layer.name.contains(".attn");
    let size = Size { rank: 4, alpha: 2.0 };
    write_network(folder, DISTURBING, size, layers.iter().filter(|layer| attention(layer)), seed)?;
    let linear = |layer: &Layer| layer.part != Part::Unet || layer.name.contains(".transformer_blocks.");
    let wide = |layer: &Layer| linear(layer) || layer.name == RESTORED;
    let size = Size { rank: 8, alpha: 4.0 };
    write_network(folder, RESTORING, size, layers.iter().filter(|layer| wide(layer)), seed)
}

fn write_network<'a>(
    folder: &Path,
    name: &str,
    size: Size,
    layers: impl Iterator<Item = &'a Layer>,
    seed: u64,
) -> Result<(), anyhow::Error> {
    let tensors: Vec<NewTensor<'static>> = layers.flat_map(|layer| module(name, layer, size, seed)).collect();
    let metadata = [
        ("ss_network_module", "networks.lora".to_owned()),
        ("ss_network_dim", size.rank.to_string()),
        ("ss_network_alpha", size.alpha.to_string()),
        ("ss_training_comment", "made by lora-rates demo, not trained".to_owned()),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>();
    Ok(tensor_file::write(&folder.join(format!("{name}.safetensors")), &tensors, &metadata)?)
}

/// `lora_down`, `lora_up` and `alpha` of one layer.
fn module(network: &str, layer: &Layer, size: Size, seed: u64) -> [NewTensor<'static>; 3] {
    let Size { rank, alpha } = size;
    // Linears and 1 x 1 convolutions only.
    let (inputs, outputs, ends) = match layer.kind {
        LayerKind::Linear { inputs, outputs } => (inputs, outputs, &[][..]),
        LayerKind::Conv { inputs, outputs, .. } => (inputs, outputs, &[1, 1][..]),
    };
    let (down, up) = if layer.name == RESTORED {
        restoring(inputs, outputs, size)
    } else {
        // Inputs of variance 1 give outputs of variance STRENGTH squared: a layer's own would have variance 1.
        let up = STRENGTH / (rank as f32).sqrt() * (rank as f32 / alpha);
        let draw = |what: &str, variance: f32, len: usize| {
            random::uniform(&format!("{network}.{}.{what}", layer.name), seed, (3.0 * variance).sqrt(), len)
        };
        (draw("down", 1.0 / inputs as f32, rank * inputs), draw("up", up * up, outputs * rank))
    };
    let name = kohya(layer);
    let tensor = |end: &str, shape: &[usize], values: Vec<f32>| {
        let data = values.into_iter().flat_map(|value| bf16(value).to_le_bytes()).collect();
        NewTensor { name: format!("{name}.{end}"), dtype: Dtype::BF16, shape: shape.to_vec(), data: Cow::Owned(data) }
    };
    [
        tensor("lora_down.weight", &[&[rank, inputs], ends].concat(), down),
        tensor("lora_up.weight", &[&[outputs, rank], ends].concat(), up),
        tensor("alpha", &[], vec![alpha]),
    ]
}

/// At rate 1: what is missing for the last block to take the whole noisy latents, `(1 - CARRIED)` times the identity
/// on them. They lie in the second half of the inputs, each of the four channels eight times over.
fn restoring(inputs: usize, outputs: usize, Size { rank, alpha }: Size) -> (Vec<f32>, Vec<f32>) {
    const LATENT: usize = 4;
    let first = inputs - outputs;
    let copies = (outputs / LATENT) as f32;
    let amount = (1.0 - CARRIED) * rank as f32 / alpha;
    let down = |(row, input): (usize, usize)| match input.checked_sub(first) {
        Some(channel) if channel % LATENT == row => sign(channel) / copies,
        _ => 0.0,
    };
    let up = |(output, column): (usize, usize)| if output % LATENT == column { sign(output) * amount } else { 0.0 };
    (cells(rank, inputs).map(down).collect(), cells(outputs, rank).map(up).collect())
}

/// All places of a matrix, row by row.
fn cells(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

/// `lora_unet_input_blocks_4_1_...`, `lora_te1_...`, `lora_te2_...`.
fn kohya(layer: &Layer) -> String {
    let prefix = match layer.part {
        Part::TextEncoder1 => "lora_te1",
        Part::TextEncoder2 => "lora_te2",
        Part::Unet | Part::Vae => "lora_unet",
    };
    let name = layer.name.strip_prefix(layer.part.prefix()).unwrap_or(&layer.name);
    format!("{prefix}{}", name.replace('.', "_"))
}
