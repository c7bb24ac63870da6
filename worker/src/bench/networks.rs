//! Random networks in files, as people's are.

use half::f16;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::{LayerKind, layout, random};
use lora_rates_common::tensor_file::{self, Dtype, NewTensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Writes `count` networks of one rank on every attention and feed-forward layer, in fp16, and returns their paths.
///
/// # Errors
/// A file can't be written.
pub fn write(
    folder: &Path,
    config: &SdxlConfig,
    count: usize,
    rank: usize,
    seed: u64,
) -> Result<Vec<PathBuf>, tensor_file::Error> {
    let layers: Vec<_> =
        layout::layers(config).into_iter().filter(|layer| layer.name.contains("transformer_blocks")).collect();
    let one = |index: usize| {
        let path = folder.join(format!("network{index}.safetensors"));
        let mut tensors = Vec::new();
        for layer in &layers {
            let LayerKind::Linear { inputs, outputs } = layer.kind else { continue };
            let key = format!("lora_{}", layer.name.replace('.', "_"));
            // Small enough that sixteen of them together change the model's output, not its scale.
            let spread = 0.1 / (rank as f32).sqrt();
            tensors.push(tensor(
                format!("{key}.lora_down.weight"),
                [rank, inputs],
                (inputs as f32).powf(-0.5),
                seed + index as u64,
            ));
            tensors.push(tensor(format!("{key}.lora_up.weight"), [outputs, rank], spread, seed + index as u64));
        }
        tensor_file::write(&path, &tensors, &BTreeMap::new())?;
        Ok(path)
    };
    (0..count).map(one).collect()
}

fn tensor(name: String, shape: [usize; 2], half_width: f32, seed: u64) -> NewTensor<'static> {
    let values = random::uniform(&name, seed, half_width, shape[0] * shape[1]);
    let data: Vec<u8> = values.into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
    NewTensor { name, dtype: Dtype::F16, shape: shape.to_vec(), data: data.into() }
}
