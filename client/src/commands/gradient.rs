//! `lora-rates gradient`: loss and gradient of one step on an explicit batch.

// The documentation of `Args` is the help text, which names shapes as [B].
#![allow(rustdoc::broken_intra_doc_links)]

use super::batch::{self, CHANNELS, Samples};
use super::model::{Loaded, LossArgs, ModelArgs};
use super::output;
use super::tensors::{Axis, Error, Inputs};
use crate::failure::Failure;
use anyhow::{Context, anyhow};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::penalty;
use lora_rates_common::tensor_file::NewTensor;
use lora_rates_worker::engine::{Gradient, Microbatch};
use std::path::{Path, PathBuf};

/// Compute loss and gradient of one step on an explicit batch
///
/// BATCH holds latents [B, 4, h, w] (scaled), noise [B, 4, h, w], timesteps [B] (I64), ids_clip_l and ids_clip_g
/// [B, K, 77] (I64), time_ids [B, 6] and, if wanted, loss_weights [B]. RATES is a JSON list of one list of 20 numbers
/// for each network.
///
/// OUTPUT gets, in F32: pred [B, 4, h, w], mse [B], loss [1] and its gradient by the rates grad [20 N], without the
/// penalty; penalty [1], not weighted, and penalty_grad [20 N], times the weight.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// The samples: a safetensors file
    #[arg(long, value_name = "BATCH.safetensors", help_heading = "Input and output")]
    batch: PathBuf,

    /// The rates: a JSON list of a list of 20 numbers for each network
    #[arg(long, value_name = "RATES.json", help_heading = "Input and output")]
    rates: PathBuf,

    /// The file to write
    #[arg(long, value_name = "OUT.safetensors", help_heading = "Input and output")]
    output: PathBuf,

    #[command(flatten)]
    loss: LossArgs,
}

/// Computes the step and writes it.
///
/// # Errors
/// Options that make no sense, and files that can't be read, written or computed.
pub fn run(args: Args) -> Result<(), Failure> {
    let options = args.loss.options()?;
    output::check(&args.output)?;
    // The small files first: what is wrong with them is said before a model is loaded.
    let batch = read_batch(&args.batch)?;
    let rates = read_rates(&args.rates, args.model.network_weights.len())?;
    let Loaded { mut engine, live } = args.model.load()?;
    let singles: Vec<f32> = rates.iter().map(|rate| *rate as f32).collect();
    let gradient = engine.gradient(&batch, &singles, &options)?;
    let penalty = Penalty::new(&rates, args.loss.application_loss_weight, &args.loss.penalized(&live));
    output::write(&args.output, &tensors(&batch, gradient, penalty))
}

/// What the rates cost.
struct Penalty {
    /// Not weighted.
    value: f64,
    /// Weighted.
    grad: Vec<f64>,
}

impl Penalty {
    fn new(rates: &[f64], weight: f64, counted: &[bool]) -> Self {
        let value = penalty::live_value(rates, counted);
        Self { value, grad: penalty::live_gradient(rates, weight, counted) }
    }
}

fn tensors(batch: &Microbatch, gradient: Gradient, penalty: Penalty) -> [NewTensor<'static>; 6] {
    let Gradient { prediction, mse, loss, grad } = gradient;
    let samples = batch.timesteps.len();
    let slots = [grad.len()];
    [
        NewTensor::from_f32("pred", &[samples, CHANNELS, batch.height, batch.width], &prediction),
        output::singles("mse", &[samples], mse),
        output::singles("loss", &[1], [loss]),
        output::singles("grad", &slots, grad),
        output::singles("penalty", &[1], [penalty.value]),
        output::singles("penalty_grad", &slots, penalty.grad),
    ]
}

fn read_batch(path: &Path) -> Result<Microbatch, Error> {
    let inputs = Inputs::open(path)?;
    let samples = Samples::read(&inputs, "")?;
    let count = samples.count();
    let noise = inputs.floats("noise", samples.noise_shape(count))?.values;
    let timesteps = batch::timesteps(&inputs, "timesteps", [Axis::Is(count)])?.values;
    // A misspelt loss_weights would otherwise change the result without a word.
    let known = |name: &str| Samples::NAMES.contains(&name) || ["noise", "timesteps"].contains(&name);
    for name in inputs.names().filter(|name| !known(name)) {
        tracing::warn!("tensor {name} of {} is not used", path.display());
    }
    let places: Vec<usize> = (0..count).collect();
    Ok(samples.microbatch(&places, &noise, &timesteps))
}

/// The rates, network by network.
pub(super) fn read_rates(path: &Path, networks: usize) -> Result<Vec<f64>, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown} can't be read"))?;
    let form = || format!("{shown} is no JSON list of lists of {BLOCKS} rates");
    let lists: Vec<Vec<f64>> = serde_json::from_str(&text).with_context(form)?;
    if lists.len() != networks {
        let found = lists.len();
        return Err(Failure::Run(anyhow!(
            "{shown} has {found} lists of rates; there must be {networks}, one a network"
        )));
    }
    for (place, list) in lists.iter().enumerate() {
        if list.len() != BLOCKS {
            let found = list.len();
            return Err(Failure::Run(anyhow!("list {place} of {shown} has {found} rates; there must be {BLOCKS}")));
        }
        if let Some(rate) = list.iter().find(|rate| !(**rate as f32).is_finite()) {
            return Err(Failure::Run(anyhow!("list {place} of {shown} has a rate {rate:e}, beyond what F32 holds")));
        }
    }
    Ok(lists.concat())
}
