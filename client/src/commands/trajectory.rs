//! `lora-rates trajectory`: the updates of the rates over explicit steps.

// The documentation of `Args` is the help text, which names shapes as [B].
#![allow(rustdoc::broken_intra_doc_links)]

use super::batch::{self, CHANNELS, Samples};
use super::model::{Loaded, LossArgs, ModelArgs};
use super::output;
use super::tensors::{Axis, Error, Inputs};
use crate::failure::Failure;
use anyhow::anyhow;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::optimizer::{AdamW, State};
use lora_rates_common::penalty;
use lora_rates_common::schedule::{self, LrScheduler, Schedule};
use lora_rates_worker::engine::{GradientEngine, Microbatch};
use std::path::{Path, PathBuf};

/// Follow the rates over explicit steps
///
/// STEPS holds the samples data/latents [M, 4, h, w] (scaled), data/ids_clip_l and data/ids_clip_g [M, K, 77] (I64),
/// data/time_ids [M, 6] and, if wanted, data/loss_weights [M]; which of them make up each of the S micro steps, index
/// [S, B] (I64); and their noise [S, B, 4, h, w] and timesteps [S, B] (I64).
///
/// All rates start from 0.5, those of slots without any module from 0. OUTPUT gets, in F32, the rates after every
/// update, rates [updates, 20 N], and the loss of every micro step without the penalty, loss [S].
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// The micro steps and their samples: a safetensors file
    #[arg(long, alias = "batch", value_name = "STEPS.safetensors", help_heading = "Input and output")]
    steps: PathBuf,

    /// Take RUN/noise and RUN/timesteps instead of noise and timesteps
    #[arg(long, value_name = "RUN", help_heading = "Input and output")]
    run: Option<String>,

    /// The file to write
    #[arg(long, value_name = "OUT.safetensors", help_heading = "Input and output")]
    output: PathBuf,

    #[command(flatten)]
    optimizer: OptimizerArgs,

    #[command(flatten)]
    loss: LossArgs,
}

/// How the rates are updated.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Optimizer")]
struct OptimizerArgs {
    /// Learning rate of AdamW
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true, value_name = "RATE")]
    learning_rate: f64,

    /// Course of the learning rate: constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial
    #[arg(long, default_value_t, value_name = "NAME")]
    lr_scheduler: LrScheduler,

    /// Updates over which the learning rate rises from 0
    #[arg(long, default_value_t = 0, value_name = "UPDATES")]
    lr_warmup_steps: u64,

    /// Half cosines of cosine_with_restarts
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    lr_scheduler_num_cycles: u32,

    /// Power of polynomial
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_name = "POWER")]
    lr_scheduler_power: f64,

    /// Options of AdamW: betas=0.9,0.999 eps=1e-8 weight_decay=0.01
    #[arg(long, num_args = 0.., value_name = "KEY=VALUE")]
    optimizer_args: Vec<String>,

    /// Micro steps of an update, whose gradients are averaged
    #[arg(long, default_value_t = 1, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    gradient_accumulation_steps: u32,
}

/// Makes the updates and writes them.
///
/// # Errors
/// Options that make no sense, and files that can't be read, written or computed.
pub fn run(args: Args) -> Result<(), Failure> {
    let loss = args.loss.options()?;
    let optimizer = AdamW::parse(&args.optimizer.optimizer_args).map_err(Failure::usage)?;
    output::check(&args.output)?;
    let steps = read_steps(&args.steps, args.run.as_deref())?;
    let updates = args.optimizer.updates(steps.len())?;
    let schedule = args.optimizer.schedule(updates)?;
    let Loaded { mut engine, live } = args.model.load()?;
    let course = Course {
        loss,
        optimizer,
        schedule,
        penalty_weight: args.loss.application_loss_weight,
        searched: args.loss.penalized(&live),
        accumulation: steps.len() / updates.max(1),
    };
    let Trajectory { rates, loss } = course.follow(engine.as_mut(), &steps)?;
    let shape = [rates.len(), live.len()];
    let tensors = [output::singles("rates", &shape, rates.concat()), output::singles("loss", &[loss.len()], loss)];
    output::write(&args.output, &tensors)
}

impl OptimizerArgs {
    /// How many updates the micro steps make.
    fn updates(&self, steps: usize) -> Result<usize, Failure> {
        let accumulation = usize::try_from(self.gradient_accumulation_steps).unwrap_or(usize::MAX);
        if steps.checked_rem(accumulation) != Some(0) {
            let why = format!("gradient_accumulation_steps is {accumulation}, which does not divide the {steps} steps");
            return Err(Failure::usage(anyhow!(why)));
        }
        Ok(steps / accumulation)
    }

    fn schedule(&self, updates: usize) -> Result<Schedule, Failure> {
        let options = schedule::Options {
            learning_rate: self.learning_rate,
            lr_scheduler: self.lr_scheduler,
            lr_warmup_steps: self.lr_warmup_steps,
            lr_scheduler_num_cycles: self.lr_scheduler_num_cycles,
            lr_scheduler_power: self.lr_scheduler_power,
        };
        Schedule::new(&options, updates as u64).map_err(Failure::usage)
    }
}

/// All that decides the updates besides the steps.
struct Course {
    loss: LossOptions,
    optimizer: AdamW,
    schedule: Schedule,
    penalty_weight: f64,
    /// Which of the rates take part in penalty and updates.
    searched: Vec<bool>,
    /// Micro steps of an update.
    accumulation: usize,
}

/// Where the rates went.
struct Trajectory {
    /// After every update.
    rates: Vec<Vec<f64>>,
    /// Of every micro step, without the penalty.
    loss: Vec<f64>,
}

impl Course {
    fn follow(&self, engine: &mut dyn GradientEngine, steps: &[Microbatch]) -> Result<Trajectory, Failure> {
        let mut state = State::new(self.searched.len());
        for (rate, _) in state.rates.iter_mut().zip(&self.searched).filter(|(_, searched)| !**searched) {
            *rate = 0.0;
        }
        let mut trajectory = Trajectory { rates: Vec::new(), loss: Vec::new() };
        for (update, micro) in steps.chunks(self.accumulation.max(1)).enumerate() {
            let rates: Vec<f32> = state.rates.iter().map(|rate| *rate as f32).collect();
            let mut data = vec![0.0; rates.len()];
            for batch in micro {
                let got = engine.gradient(batch, &rates, &self.loss)?;
                data.iter_mut().zip(got.grad).for_each(|(sum, grad)| *sum += grad);
                trajectory.loss.push(got.loss);
            }
            let penalty = penalty::live_gradient(&state.rates, self.penalty_weight, &self.searched);
            let of_step = |(sum, penalty): (f64, f64)| sum / micro.len() as f64 + penalty;
            let gradient: Vec<f64> = data.into_iter().zip(penalty).map(of_step).collect();
            let lr = self.schedule.rate(update as u64);
            self.optimizer.step(&mut state, &gradient, lr, &self.searched)?;
            let loss = trajectory.loss.last().copied().unwrap_or_default();
            tracing::info!("update {} of {}: loss {loss:.6}", update + 1, steps.len() / self.accumulation.max(1));
            trajectory.rates.push(state.rates.clone());
        }
        Ok(trajectory)
    }
}

/// The micro steps of a file, in their order.
fn read_steps(path: &Path, run: Option<&str>) -> Result<Vec<Microbatch>, Error> {
    let inputs = Inputs::open(path)?;
    let samples = Samples::read(&inputs, "data/")?;
    let of_run = |tensor: &str| run.map_or_else(|| tensor.to_owned(), |run| format!("{run}/{tensor}"));
    let axes = [Axis::Free("S"), Axis::Free("B")];
    let index = inputs.integers("index", axes, 0..samples.count(), "sample's place")?;
    let [steps, batch] = index.shape;
    let timesteps = batch::timesteps(&inputs, &of_run("timesteps"), [steps, batch].map(Axis::Is))?;
    let axes = [steps, batch, CHANNELS, samples.height, samples.width].map(Axis::Is);
    let noise = inputs.floats(&of_run("noise"), axes)?;
    let places: Vec<usize> = index.values.iter().filter_map(|place| usize::try_from(*place).ok()).collect();
    let noise = noise.values.chunks(batch * CHANNELS * samples.height * samples.width);
    let micro = places.chunks(batch).zip(noise).zip(timesteps.values.chunks(batch));
    Ok(micro.map(|((places, noise), timesteps)| samples.microbatch(places, noise, timesteps)).collect())
}
