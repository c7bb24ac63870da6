//! `lora-rates evaluate`: the held-out loss under given rates, as a program asks for it.

use super::rate_lines::{self, Asked};
use super::subject::{Opened, Subject};
use crate::failure::Failure;
use crate::options::{self, Options};
use crate::output::json;
use crate::settings;
use anyhow::anyhow;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::plan::Microbatch as Planned;
use lora_rates_common::validation::{self, Losses, MAX_SAMPLES_PER_IMAGE};
use lora_rates_worker::engine::Microbatch;
use serde_json::json;
use std::path::PathBuf;

/// Measure the loss on held-out pictures under rates that are given as lines of JSON
///
/// Each line is a list of 20 N rates, or of N rates, one for all blocks of each network; or {"id": ..., "rates": [...]}.
/// A line of JSON answers each at once: its id (else its number), the loss, its standard error over the pictures, and
/// the losses of the pictures, always at the same noise and timesteps, so that differences between lines can be formed
/// picture by picture. The model is loaded once.
///
/// Options are those of `lora-rates search`; what concerns its steps and results alone is not looked at. Measured are
/// the held-out pictures, as a search with these options has them; without --validation_data_dir and --validation_split
/// all pictures of --train_data_dir.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Options from a TOML file; those of the command line win
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    config_file: Option<PathBuf>,
    /// The lines [default: standard input]
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    rates: Option<PathBuf>,
    /// Compute the gradient of the loss by the rates too, 20 N numbers without the penalty
    #[arg(long, help_heading = "Input and output")]
    gradient: bool,
}

/// Answers line after line until there are no more.
///
/// # Errors
/// Options that make no sense, files that can't be read, and the first line that can't be answered.
pub fn run(args: Args) -> Result<(), Failure> {
    let options = options::laid_over(args.options, args.config_file.as_deref())?;
    let opened = open(options)?;
    let pictures: Vec<(u32, bool)> = (0..)
        .zip(validation::held_out(&opened.spec))
        .filter(|(_, held_out)| *held_out)
        .map(|(at, _)| (at, false))
        .collect();
    let lines = rate_lines::read(args.rates.as_deref(), opened.spec.live())?;
    let mut subject = opened.load(pictures)?;
    let planned = subject.spec.validation().map(|it| it.microbatches).unwrap_or_default();
    let batches = planned.iter().map(|batch| subject.microbatch(batch)).collect::<Result<Vec<_>, _>>()?;
    for asked in lines {
        let Asked { id, rates } = asked?;
        let Measured { losses, gradient } = measure(&mut subject, &planned, &batches, &rates, args.gradient)?;
        let (loss, standard_error) = losses.mean();
        let mut answer = json!({
            "id": id,
            "loss": loss,
            "standard_error": standard_error,
            "losses": losses.by_picture(),
            "samples": losses.samples(),
        });
        if args.gradient {
            answer["gradient"] = gradient.into();
        }
        json::line(&answer)?;
    }
    Ok(())
}

/// Opens what the options name, with the pictures that are measured marked as held out.
fn open(mut options: Options) -> Result<Opened, Failure> {
    let samples = options.validation_samples_per_image.take().unwrap_or_default();
    if samples > MAX_SAMPLES_PER_IMAGE {
        let range = format!("at most {MAX_SAMPLES_PER_IMAGE}");
        let option = "validation_samples_per_image";
        return Err(Failure::usage(settings::Error::Range { option, value: samples.to_string(), range }));
    }
    // There are no steps.
    (options.validate_every_n_steps, options.early_stop) = (None, None);
    (options.prune, options.curvature, options.curvature_bound) = (None, None, None);
    if options.train_data_dir.is_none() {
        options.train_data_dir = options.validation_data_dir.take();
    }
    let mut opened = Opened::new(&options)?;
    let spec = &mut opened.spec;
    if !validation::held_out(spec).contains(&true) {
        spec.images.iter_mut().for_each(|image| image.held_out = true);
    }
    (spec.options.validate_every_n_steps, spec.options.validation_samples_per_image) = (1, samples);
    Ok(opened)
}

/// What a line comes to.
struct Measured {
    losses: Losses,
    /// Of the mean over all samples; empty unless it was asked for.
    gradient: Vec<f64>,
}

fn measure(
    subject: &mut Subject,
    planned: &[Planned],
    batches: &[Microbatch],
    rates: &[f64],
    with_gradient: bool,
) -> Result<Measured, Failure> {
    let options = subject.spec.options.loss;
    let rates: Vec<f32> = rates.iter().map(|rate| *rate as f32).collect();
    let mut losses = Vec::new();
    let mut gradient = vec![0.0; if with_gradient { rates.len() } else { 0 }];
    for batch in batches {
        if with_gradient {
            let of_batch = subject.engine.gradient(batch, &rates, &options)?;
            losses.extend(weighted(batch, &of_batch.mse, &options)?);
            let samples = batch.timesteps.len() as f64;
            gradient.iter_mut().zip(of_batch.grad).for_each(|(sum, value)| *sum += samples * value);
        } else {
            losses.extend(subject.engine.losses(batch, &rates, &options)?);
        }
    }
    if let Some(loss) = losses.iter().find(|loss| !loss.is_finite()) {
        return Err(anyhow!("the loss under these rates is {loss}: they are too large, or a network is damaged").into());
    }
    gradient.iter_mut().for_each(|sum| *sum /= losses.len().max(1) as f64);
    Ok(Measured { losses: Losses::new(planned, &losses), gradient })
}

/// The loss of each sample from its error.
fn weighted(batch: &Microbatch, mse: &[f64], options: &LossOptions) -> Result<Vec<f64>, Failure> {
    let samples = mse.iter().zip(batch.timesteps.iter().zip(&batch.loss_weights));
    samples.map(|(mse, (timestep, weight))| Ok(options.factor(*timestep, *weight)? * mse)).collect()
}
