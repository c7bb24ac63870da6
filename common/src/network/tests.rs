//! Tests over the golden networks, and over small files made by hand.

mod golden;
mod names;
mod refusals;

use super::{Error, Network, Unmatched};
use crate::sdxl::config::{SdxlConfig, TextConfig, UnetConfig};
use crate::tensor_file::{NewTensor, write};
use lora_rates_test_support::fixture;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

/// A linear layer of the tiny model, 64 to 64, under kohya's name.
const LINEAR: &str = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q";

/// The sizes of the golden networks' model.
fn tiny() -> SdxlConfig {
    let base = SdxlConfig::sdxl_base();
    SdxlConfig {
        unet: UnetConfig {
            model_channels: 32,
            transformer_depth: vec![0, 1, 2],
            middle_depth: 2,
            context_dim: 192,
            adm_channels: 1664,
            time_embed_dim: 128,
            ..base.unet
        },
        text_encoder_1: TextConfig { hidden: 64, layers: 3, mlp: 256, ..base.text_encoder_1 },
        text_encoder_2: TextConfig { hidden: 128, layers: 4, mlp: 512, projection: Some(128), ..base.text_encoder_2 },
        vae: base.vae,
    }
}

fn open_golden(file: &str) -> Network {
    open_with(file, Unmatched::Refuse).expect("a sound network")
}

fn open_with(file: &str, unmatched: Unmatched) -> Result<Network, Error> {
    Network::open(&fixture(&format!("lora/{file}")), &tiny(), unmatched)
}

/// A network file made by hand, and the folder that it lies in.
struct Made {
    folder: TempDir,
    tensors: Vec<NewTensor<'static>>,
    metadata: BTreeMap<String, String>,
}

impl Made {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder"), tensors: Vec::new(), metadata: BTreeMap::new() }
    }

    /// With a tensor whose elements are all 0.5.
    fn with(self, key: &str, shape: &[usize]) -> Self {
        let count = shape.iter().product();
        self.with_values(key, shape, &vec![0.5; count])
    }

    fn with_values(self, key: &str, shape: &[usize], values: &[f32]) -> Self {
        self.with_tensor(NewTensor::from_f32(key, shape, values))
    }

    fn with_tensor(mut self, tensor: NewTensor<'static>) -> Self {
        self.tensors.push(tensor);
        self
    }

    /// With both halves of a module of rank 2 on a linear layer, 64 to 64.
    fn with_module(self, name: &str) -> Self {
        self.with(&format!("{name}.lora_down.weight"), &[2, 64]).with(&format!("{name}.lora_up.weight"), &[64, 2])
    }

    fn path(&self) -> PathBuf {
        let path = self.folder.path().join("made.safetensors");
        write(&path, &self.tensors, &self.metadata).expect("a file");
        path
    }

    fn open(&self) -> Result<Network, Error> {
        Network::open(&self.path(), &tiny(), Unmatched::Refuse)
    }

    fn open_skipping(&self) -> Result<Network, Error> {
        Network::open(&self.path(), &tiny(), Unmatched::Skip)
    }
}
