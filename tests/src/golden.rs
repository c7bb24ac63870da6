//! Reference numbers, and the model that they were computed with.

use burn::backend::Flex;
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::network::{Network, Unmatched, open_all};
use lora_rates_common::spec::Precision;
use lora_rates_common::tokenizer::Tokens;
use lora_rates_test_support::{TensorFile, fixture, tiny_single};
use lora_rates_worker::engine::burn::{BurnEngine, Tuning};
use lora_rates_worker::engine::{EngineKind, EngineOptions, GradientEngine, Microbatch};
use lora_rates_worker::source::Source;
use serde_json::Value;
use std::path::Path;

/// A golden safetensors file, by tensor.
pub struct Numbers(TensorFile);

impl Numbers {
    /// Opens a file of the fixtures.
    pub fn open(name: &str) -> Self {
        Self(TensorFile::open(&fixture(name)))
    }

    /// Opens another file below `tests/fixtures`.
    pub fn below(name: &str) -> Self {
        Self(TensorFile::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)))
    }

    /// A float tensor, row by row.
    pub fn floats(&self, name: &str) -> Vec<f64> {
        self.0.get(name).floats()
    }

    /// The same rounded to f32.
    pub fn singles(&self, name: &str) -> Vec<f32> {
        self.floats(name).into_iter().map(|x| x as f32).collect()
    }

    /// An i64 tensor.
    pub fn integers(&self, name: &str) -> Vec<i64> {
        let tensor = self.0.get(name);
        assert_eq!(tensor.dtype, "I64", "{name}");
        tensor.bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect()
    }

    /// A shape.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.0.get(name).shape()
    }

    /// Timesteps.
    pub fn timesteps(&self, name: &str) -> Vec<u32> {
        self.integers(name).into_iter().map(|t| t as u32).collect()
    }

    /// Sizes and crops, six a sample.
    pub fn time_ids(&self, name: &str) -> Vec<[f32; 6]> {
        self.singles(name).as_chunks::<6>().0.to_vec()
    }

    /// Prompts from the ids of both tokenizers, `[b, rows, 77]` each.
    pub fn prompts(&self, clip_l: &str, clip_g: &str) -> Vec<Tokens> {
        let rows = self.shape(clip_l)[1];
        let split = |name: &str| -> Vec<Vec<[u32; 77]>> {
            let ids: Vec<u32> = self.integers(name).into_iter().map(|id| id as u32).collect();
            ids.as_chunks::<77>().0.chunks(rows).map(<[_]>::to_vec).collect()
        };
        split(clip_l).into_iter().zip(split(clip_g)).map(|(clip_l, clip_g)| Tokens { clip_l, clip_g }).collect()
    }
}

/// The batch of the step's golden file.
pub fn batch(numbers: &Numbers, weights: Option<&[f64]>) -> Microbatch {
    let shape = numbers.shape("batch/latents");
    Microbatch {
        height: shape[2],
        width: shape[3],
        latents: numbers.singles("batch/latents"),
        noise: numbers.singles("batch/noise"),
        timesteps: numbers.timesteps("batch/timesteps"),
        prompts: numbers.prompts("batch/ids_clip_l", "batch/ids_clip_g"),
        time_ids: numbers.time_ids("batch/time_ids"),
        loss_weights: weights.map_or_else(|| vec![1.0; shape[0]], <[f64]>::to_vec),
    }
}

/// A golden JSON file.
pub fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(name)).expect("a fixture is readable");
    serde_json::from_str(&text).expect("a fixture is JSON")
}

/// Numbers of a JSON list.
pub fn list(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// The golden model on the CPU in f32.
pub fn engine(gradient_checkpointing: bool) -> BurnEngine<Flex> {
    engine_of(&tiny_single(), gradient_checkpointing)
}

/// A model on the CPU in f32.
pub fn engine_of(path: &Path, gradient_checkpointing: bool) -> BurnEngine<Flex> {
    load(path, Precision::F32, gradient_checkpointing, Tuning::CPU)
}

/// The same with convolutions computed as on a GPU.
pub fn unfolded_engine() -> BurnEngine<Flex> {
    load(&tiny_single(), Precision::F32, false, Tuning::GPU)
}

/// The golden model in bfloat16.
pub fn bf16_engine(tuning: Tuning) -> BurnEngine<Flex> {
    load(&tiny_single(), Precision::Bf16, false, tuning)
}

fn load(path: &Path, precision: Precision, gradient_checkpointing: bool, tuning: Tuning) -> BurnEngine<Flex> {
    let source = Source::Checkpoint(Box::new(Checkpoint::open(path).expect("the golden model opens")));
    let options = EngineOptions { engine: EngineKind::Burn, precision, gradient_checkpointing, fp8_base: false };
    BurnEngine::load(source, Default::default(), "CPU".into(), options, tuning).expect("the golden model loads")
}

/// Networks of the golden set by file name.
pub fn networks(files: &[&str]) -> Vec<Network> {
    let config = Checkpoint::open(&tiny_single()).expect("the golden model opens").config().clone();
    let paths: Vec<_> = files.iter().map(|file| fixture(&format!("lora/{file}"))).collect();
    open_all(&paths, &config, Unmatched::Refuse).expect("golden networks open")
}

/// The golden model with networks attached.
pub fn engine_with(files: &[&str], gradient_checkpointing: bool) -> BurnEngine<Flex> {
    let mut engine = engine(gradient_checkpointing);
    engine.attach(&networks(files)).expect("golden networks attach");
    engine
}

/// Norm of the difference over the norm of the truth.
pub fn error<T: Copy + Into<f64>>(got: &[T], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths differ");
    let difference: f64 = got.iter().zip(want).map(|(g, w)| ((*g).into() - w).powi(2)).sum();
    let norm: f64 = want.iter().map(|w| w * w).sum();
    (difference / norm).sqrt()
}

/// Cosine of the angle between two gradients.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Asserts that [`error`] is below a bound; NaN never is.
#[track_caller]
pub fn close<T: Copy + Into<f64>>(what: &str, got: &[T], want: &[f64], bound: f64) {
    let error = error(got, want);
    assert!(error < bound, "{what}: relative error {error:.2e} is not below {bound:.0e}");
}
