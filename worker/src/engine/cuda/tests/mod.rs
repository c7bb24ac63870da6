//! The engine on the reference device against engine burn.

mod books;
mod costs;
#[cfg(feature = "cuda")]
mod gpu;
mod kernels;
mod model;
mod plans;
mod same;
mod simulator;
mod single;

use super::{CudaEngine, reference::Reference};
use crate::engine::burn::{Around, BurnEngine, Tuning};
use crate::engine::{EngineKind, EngineOptions, GradientEngine, Microbatch};
use crate::source::Source;
use burn::backend::Flex;
use lora_rates_common::block::BLOCKS;
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::network::{Network, Unmatched, open_all};
use lora_rates_common::noise::{self, Key};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::tokenizer::{TokenLength, Tokenizers};
use lora_rates_test_support::{fixture, tiny_single};
use tempfile::TempDir;

type Engine = CudaEngine<Reference, Flex>;

fn options() -> EngineOptions {
    EngineOptions { engine: EngineKind::Cuda, ..Default::default() }
}

fn golden() -> Source {
    Source::Checkpoint(Box::new(Checkpoint::open(&tiny_single()).unwrap()))
}

fn random(config: &SdxlConfig) -> Source {
    Source::Random(Box::new(config.clone()), 7)
}

fn burn(source: Source) -> BurnEngine<Flex> {
    BurnEngine::load(source, Default::default(), "CPU".into(), options(), Tuning::CPU).unwrap()
}

fn taped(source: Source, device: Reference, checkpointing: bool) -> Engine {
    taped_as(source, device, EngineOptions { gradient_checkpointing: checkpointing, ..options() })
}

fn taped_as(source: Source, device: Reference, options: EngineOptions) -> Engine {
    let around = Around::load(source, Default::default(), "CPU".into(), options, Tuning::CPU).unwrap();
    CudaEngine::load(device, around, options).unwrap()
}

/// Networks of the golden set.
fn golden_networks(files: &[&str]) -> Vec<Network> {
    let paths: Vec<_> = files.iter().map(|file| fixture(&format!("lora/{file}.safetensors"))).collect();
    open_all(&paths, golden().config(), Unmatched::Refuse).unwrap()
}

/// Random networks on all attention and feed-forward layers; their files live as long as the folder.
fn random_networks(config: &SdxlConfig, count: usize, rank: usize) -> (TempDir, Vec<Network>) {
    let folder = tempfile::tempdir().unwrap();
    let paths = crate::bench::networks::write(folder.path(), config, count, rank, 3).unwrap();
    let networks = open_all(&paths, config, Unmatched::Refuse).unwrap();
    (folder, networks)
}

fn microbatch(batch: usize, (height, width): (usize, usize), length: TokenLength) -> Microbatch {
    let draw = |step: u64| {
        let sample =
            |sample: usize| noise::latent_noise(Key { seed: 5, step, sample: sample as u64 }, 4 * height * width);
        (0..batch).flat_map(sample).collect()
    };
    let tokenizers = Tokenizers::new().unwrap();
    let prompts = ["a photo of a cat", "an oil painting", "", "a red cube on a blue sphere"];
    Microbatch {
        height,
        width,
        latents: draw(0),
        noise: draw(1),
        timesteps: (0..batch as u32).map(|sample| (211 * sample + 640) % 1000).collect(),
        prompts: (0..batch).map(|i| tokenizers.encode(prompts[i % prompts.len()], length).unwrap()).collect(),
        time_ids: (0..batch).map(|i| [512.0, 640.0 + i as f32, 0.0, 8.0, 512.0, 512.0]).collect(),
        loss_weights: (0..batch).map(|i| 1.0 - 0.25 * i as f64).collect(),
    }
}

/// Different in every slot, one of them 0 and some negative.
fn rates(networks: usize) -> Vec<f32> {
    (0..networks * BLOCKS).map(|i| ((i * 7 + 3) % 11) as f32 * 0.15 - 0.3).collect()
}

/// Norm of the difference over the norm of the truth.
fn error<T: Copy + Into<f64>>(got: &[T], want: &[T]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths differ");
    let difference: f64 = got.iter().zip(want).map(|(g, w)| ((*g).into() - (*w).into()).powi(2)).sum();
    let norm: f64 = want.iter().map(|w| (*w).into().powi(2)).sum();
    (difference / norm).sqrt()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
