//! Speed of the gradient on a device, beside that device's own matrix product measured in the same run.

mod memory;
pub mod networks;
mod rate;

use crate::device::{self, Device};
use crate::engine::breakdown::Breakdown;
use crate::engine::count::Count;
use crate::engine::{self, EngineKind, EngineOptions, Gradient, GradientEngine, Microbatch};
use crate::source::Source;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::network::{self, Unmatched, open_all};
use lora_rates_common::noise::{self, Key};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::spec::Precision;
use lora_rates_common::tokenizer::{self, TokenLength, Tokenizers};
use lora_rates_common::{block::BLOCKS, tensor_file};
use std::time::{Duration, Instant};

/// Seed of everything random.
const SEED: u64 = 0;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The random networks could not be written.
    #[error(transparent)]
    Write(#[from] tensor_file::Error),
    /// The random networks could not be read back.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The prompt could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// There is no place for the networks' files.
    #[error("can't make a temporary folder for the networks: {0}")]
    Folder(#[from] std::io::Error),
    /// The measurement makes no sense.
    #[error("{0}")]
    Request(String),
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sizes of the model.
    pub config: SdxlConfig,
    /// Where.
    pub device: Device,
    /// By what.
    pub engine: EngineKind,
    /// In what.
    pub precision: Precision,
    /// Keep the blocks' outputs only.
    pub gradient_checkpointing: bool,
    /// Keep the UNet's weights in eight bits.
    pub fp8_base: bool,
    /// How many networks.
    pub networks: usize,
    /// Rank of each, on all attention and feed-forward layers.
    pub rank: usize,
    /// Side of the pictures in pixels.
    pub resolution: usize,
    /// Samples of a microbatch.
    pub batch: usize,
    /// Timed steps, after two that are not.
    pub steps: usize,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The device in words.
    pub device: String,
    /// Seconds until model and networks were on the device.
    pub load: f64,
    /// Seconds of the first step, in which kernels are compiled and tuned.
    pub first_step: f64,
    /// Median seconds of a timed step.
    pub step: f64,
    /// Fastest and slowest timed step.
    pub spread: (f64, f64),
    /// Samples per second at the median.
    pub images_per_second: f64,
    /// Floating-point operations of a step, products of matrices alone.
    pub operations: Count,
    /// Operations per second of a large matrix product on this device in this precision, measured just now.
    pub matmul_rate: f64,
    /// Bytes per second that an elementwise operation reads and writes there.
    pub copy_rate: f64,
    /// Where the time goes, from an engine that can tell.
    pub breakdown: Option<Breakdown>,
    /// The step's operations per second over that.
    pub share: f64,
    /// Bytes of memory: after loading the model, with the networks attached, and the highest during the steps.
    pub memory: [u64; 3],
    /// Loss of the first step: the same in every run on one device.
    pub loss: f64,
    /// Gradient of the first step by the rates, `[20 N]`, to compare engines by.
    pub gradient: Vec<f64>,
    /// Whether loss and gradient of every other step were equal to the bit.
    pub repeatable: bool,
}

/// Measures.
///
/// # Errors
/// [`Error`].
pub fn run(options: &Options, told: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    check(options)?;
    let watch = memory::Watch::start(options.device);
    told("loading a model with random weights");
    let begin = Instant::now();
    let source = Source::Random(Box::new(options.config.clone()), SEED);
    let Options { engine, precision, gradient_checkpointing, fp8_base, .. } = *options;
    let engine_options = EngineOptions { engine, precision, gradient_checkpointing, fp8_base };
    let mut engine = device::load(options.device, source, engine_options)?;
    engine.synchronize()?;
    let model = watch.now();
    told("attaching random networks");
    attach(engine.as_mut(), options)?;
    engine.synchronize()?;
    let attached = watch.now();
    let load = begin.elapsed().as_secs_f64();
    let batch = microbatch(options)?;
    let rates = vec![0.5; options.networks * BLOCKS];
    let step = |engine: &mut dyn GradientEngine| -> Result<(f64, Gradient), Error> {
        let begin = Instant::now();
        let gradient = engine.gradient(&batch, &rates, &LossOptions::default())?;
        Ok((begin.elapsed().as_secs_f64(), gradient))
    };
    told("first step: kernels are compiled and tuned");
    let (first_step, first) = step(engine.as_mut())?;
    let mut repeatable = true;
    let mut step = |engine: &mut dyn GradientEngine| -> Result<f64, Error> {
        let (seconds, gradient) = step(engine)?;
        repeatable &= gradient.loss == first.loss && gradient.grad == first.grad;
        Ok(seconds)
    };
    step(engine.as_mut())?;
    told("timed steps");
    let mut times = (0..options.steps).map(|_| step(engine.as_mut())).collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    let (device, peak) = (engine.device(), watch.peak());
    told("where the time goes");
    let breakdown = engine.breakdown(&batch, &rates, &LossOptions::default())?;
    drop(engine);
    told("a large matrix product, and a copy");
    let matmul_rate = rate::matmul(options.device, options.precision)?;
    let copy_rate = rate::copy(options.device)?;
    let side = options.resolution / 8;
    let operations = Count::of_unet(&options.config, options.batch, (side, side), 77, options.networks * options.rank);
    let median = times[times.len() / 2];
    Ok(Report {
        device,
        load,
        first_step,
        step: median,
        spread: (times[0], times[times.len() - 1]),
        images_per_second: options.batch as f64 / median,
        operations,
        matmul_rate,
        copy_rate,
        breakdown,
        share: operations.total() / median / matmul_rate,
        memory: [model, attached, peak],
        loss: first.loss,
        gradient: first.grad,
        repeatable,
    })
}

fn check(options: &Options) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::Request(why.to_owned()));
    match options {
        Options { batch: 0, .. } => wrong("the batch size must be at least 1"),
        Options { steps: 0, .. } => wrong("there must be at least 1 timed step"),
        Options { rank: 0, .. } => wrong("the rank must be at least 1"),
        Options { resolution, .. } if *resolution == 0 || resolution % 32 != 0 || *resolution > 4096 => {
            wrong("the resolution must be a multiple of 32 from 32 to 4096")
        }
        _ => Ok(()),
    }
}

fn attach(engine: &mut dyn GradientEngine, options: &Options) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let paths = networks::write(folder.path(), &options.config, options.networks, options.rank, SEED)?;
    let networks = open_all(&paths, &options.config, Unmatched::Refuse)?;
    Ok(engine.attach(&networks)?)
}

fn microbatch(options: &Options) -> Result<Microbatch, Error> {
    let side = options.resolution / 8;
    let size = options.config.unet.in_channels * side * side;
    let prompt = Tokenizers::new()?.encode("a photo of a cat", TokenLength::T75)?;
    let draw = |step: u64| {
        let sample = |sample: usize| noise::latent_noise(Key { seed: SEED, step, sample: sample as u64 }, size);
        (0..options.batch).flat_map(sample).collect()
    };
    let pixels = options.resolution as f32;
    Ok(Microbatch {
        height: side,
        width: side,
        latents: draw(0),
        noise: draw(1),
        timesteps: (0..options.batch).map(|sample| (137 * sample as u32 + 500) % 1000).collect(),
        prompts: vec![prompt; options.batch],
        time_ids: vec![[pixels, pixels, 0.0, 0.0, pixels, pixels]; options.batch],
        loss_weights: vec![1.0; options.batch],
    })
}

/// How often the memory in use is looked at.
const LOOK: Duration = Duration::from_millis(20);
