//! `lora-rates variance`: what the gradient of a step varies by, under each way to draw timesteps and noise.

use super::rate_lines::{self, Asked};
use super::subject::{Opened, Subject};
use crate::failure::Failure;
use crate::options::{self, Options};
use crate::output::json;
use crate::output::listing::{Listing, terminal_width};
use crate::output::stdout::print;
use lora_rates_common::block::BLOCKS;
use lora_rates_common::plan::{NoiseSampling, TimestepSampling};
use lora_rates_common::spec::SearchSpec;
use serde_json::json;
use std::path::PathBuf;

/// The ways that are compared; the first is the reference's.
const WAYS: [(TimestepSampling, NoiseSampling); 4] = [
    (TimestepSampling::Uniform, NoiseSampling::Independent),
    (TimestepSampling::Stratified, NoiseSampling::Independent),
    (TimestepSampling::Uniform, NoiseSampling::Antithetic),
    (TimestepSampling::Stratified, NoiseSampling::Antithetic),
];

/// Measure what the gradient varies by under each --timestep_sampling and --noise_sampling
///
/// The rates stay as they are. Measured are pairs of epochs, the same number under each way, so that all cost the same.
/// STEP is the variance of one step's gradient by the rates, summed over them (the trace of its covariance); PAIR that of
/// the mean over two epochs, times the steps in it: what is left of STEP once antithetic epochs have cancelled. Both are
/// also given for each network.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Options from a TOML file; those of the command line win
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    config_file: Option<PathBuf>,
    /// The rates: a line of JSON, 20 N or N numbers [default: 0.5]
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    rates: Option<PathBuf>,
    /// Pairs of epochs under each way
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..), value_name = "N",
        help_heading = "Input and output")]
    pairs: u32,
    /// Print a JSON object a line instead of a table
    #[arg(long, help_heading = "Input and output")]
    json: bool,
}

/// Measures and prints.
///
/// # Errors
/// Options that make no sense, and files that can't be read or computed.
pub fn run(args: Args) -> Result<(), Failure> {
    let opened = Opened::new(&options::laid_over(args.options, args.config_file.as_deref())?)?;
    let rates = match &args.rates {
        None => opened.spec.initial_rates(),
        Some(path) => {
            let first = rate_lines::read(Some(path), opened.spec.live())?.next();
            let empty = || anyhow::anyhow!("{} is empty; give a line of JSON, 20 N or N rates", path.display());
            let Asked { rates, .. } = first.ok_or_else(empty)??;
            rates
        }
    };
    let rates: Vec<f32> = rates.into_iter().map(|rate| rate as f32).collect();
    let pictures = opened.spec.encodings();
    let mut subject = opened.load(pictures)?;
    let mut first: Option<Variance> = None;
    let mut listing =
        Listing::new(&["TIMESTEPS", "NOISE", "STEP", "RATIO", "PAIR", "RATIO", "BY NETWORK"], &[2, 3, 4, 5]);
    for (timesteps, noise) in WAYS {
        let mut spec = (*subject.spec).clone();
        (spec.options.timestep_sampling, spec.options.noise_sampling) = (timesteps, noise);
        let variance = measure(&mut subject, &spec, &rates, args.pairs)?;
        let base = first.get_or_insert_with(|| variance.clone());
        if args.json {
            json::line(&json!({
                "timestep_sampling": timesteps.name(),
                "noise_sampling": noise.name(),
                "step": variance.step.iter().sum::<f64>(),
                "pair": variance.pair.iter().sum::<f64>(),
                "step_by_network": variance.step,
                "pair_by_network": variance.pair,
                "steps": variance.steps,
                "samples": variance.samples,
            }))?;
        }
        let total = |of: &[f64]| of.iter().sum::<f64>();
        let ratio = |of: &[f64], base: &[f64]| format!("{:.3}", total(of) / total(base));
        let networks = variance.pair.iter().zip(&base.pair);
        listing.row([
            timesteps.name().to_owned(),
            noise.name().to_owned(),
            format!("{:.3e}", total(&variance.step)),
            ratio(&variance.step, &base.step),
            format!("{:.3e}", total(&variance.pair)),
            ratio(&variance.pair, &base.pair),
            networks.map(|(pair, base)| format!("{:.3}", pair / base)).collect::<Vec<_>>().join(" "),
        ]);
    }
    if !args.json {
        print(&listing.text(terminal_width()))?;
        print("RATIO is to the first row; BY NETWORK is the ratio of PAIR for each network\n")?;
    }
    Ok(())
}

/// Sums over the slots of each network.
#[derive(Clone, Debug, PartialEq)]
struct Variance {
    /// Of one step's gradient.
    step: Vec<f64>,
    /// Of the mean gradient of two epochs, times the steps in them.
    pair: Vec<f64>,
    steps: u64,
    samples: usize,
}

fn measure(subject: &mut Subject, spec: &SearchSpec, rates: &[f32], pairs: u32) -> Result<Variance, Failure> {
    let plan = spec.plan()?;
    let in_pair = 2 * plan.steps_per_epoch();
    let (mut of_steps, mut of_pairs) = (Moments::new(rates.len()), Moments::new(rates.len()));
    let mut samples = 0;
    for pair in 0..u64::from(pairs) {
        let mut mean = vec![0.0; rates.len()];
        for step in pair * in_pair..(pair + 1) * in_pair {
            let mut gradient = vec![0.0; rates.len()];
            let batches = plan.step(step);
            for batch in &batches {
                samples += batch.samples.len();
                let batch = subject.microbatch(batch)?;
                let of_batch = subject.engine.gradient(&batch, rates, &spec.options.loss)?;
                let share = |(sum, value): (&mut f64, f64)| *sum += value / batches.len() as f64;
                gradient.iter_mut().zip(of_batch.grad).for_each(share);
            }
            mean.iter_mut().zip(&gradient).for_each(|(sum, value)| *sum += value / in_pair as f64);
            of_steps.add(&gradient);
        }
        of_pairs.add(&mean);
    }
    let by_network = |variances: Vec<f64>, factor: f64| {
        variances.chunks(BLOCKS).map(|of_network| factor * of_network.iter().sum::<f64>()).collect()
    };
    Ok(Variance {
        step: by_network(of_steps.variances(), 1.0),
        pair: by_network(of_pairs.variances(), in_pair as f64),
        steps: u64::from(pairs) * in_pair,
        samples,
    })
}

/// Running mean and sum of squared deviations of each number (Welford).
struct Moments {
    count: f64,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn new(len: usize) -> Self {
        Self { count: 0.0, means: vec![0.0; len], squares: vec![0.0; len] }
    }

    fn add(&mut self, numbers: &[f64]) {
        self.count += 1.0;
        for ((mean, square), number) in self.means.iter_mut().zip(&mut self.squares).zip(numbers) {
            let before = number - *mean;
            *mean += before / self.count;
            *square += before * (number - *mean);
        }
    }

    /// n - 1 in the denominator.
    fn variances(&self) -> Vec<f64> {
        self.squares.iter().map(|square| square / (self.count - 1.0).max(1.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variances_are_those_of_the_numbers() {
        let mut moments = Moments::new(2);
        [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]].iter().for_each(|numbers| moments.add(numbers));
        assert!((moments.variances()[0] - 5.0 / 3.0).abs() < 1e-15);
        assert_eq!(moments.variances()[1], 0.0);
    }
}
