//! The command line.

use crate::commands::control::{self, Order};
use crate::commands::{bench, evaluate, gradient, list, rates, sample, synthetic, trajectory, variance, watch};
#[cfg(feature = "demo")]
use crate::demo;
use crate::failure::Failure;
use crate::options::{self, EXAMPLES, Options, SWEEP_EXAMPLES};
use crate::remote::TargetArgs;
use crate::search;
use crate::settings::{Existing, Settings};
use crate::sweep::{self, Axes, Subsets};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Finds out how strongly each part of a trained LoRA should be applied to SDXL
///
/// A network (a LoRA file) gets 20 rates, one for each block of the model: BASE for both text encoders, IN00 to IN08,
/// MID and OUT00 to OUT08. A search moves them by gradient descent until the model reproduces a few pictures best.
#[derive(Debug, Parser)]
#[command(name = "lora-rates", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Search the rates of one or more networks
    #[command(after_help = EXAMPLES)]
    Search(Box<SearchArgs>),
    /// Make many searches over the same pictures, and compare them
    #[command(after_help = SWEEP_EXAMPLES)]
    Sweep(Box<SweepArgs>),
    Watch(watch::Args),
    List(list::ListArgs),
    Workers(list::WorkersArgs),
    Rates(rates::Args),
    /// Stop a search after what is done; `resume` goes on with it
    Pause(control::Args),
    /// Go on with a search that was paused or failed, to the same numbers as if it never had
    Resume(control::Args),
    /// End a search for good
    Cancel(control::Args),
    /// Make the coordinator forget a search that is over, with all its steps
    Delete(control::Args),
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    Sample(Box<sample::Args>),
    Evaluate(Box<evaluate::Args>),
    Variance(Box<variance::Args>),
    Gradient(gradient::Args),
    Trajectory(trajectory::Args),
    Bench(bench::Args),
    Synthetic(synthetic::Args),
}

/// Options of a search, and those that only make sense on a command line.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct SearchArgs {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    target: TargetArgs,
    /// Go on with the unfinished search of this name, to the same numbers as without interruption
    #[arg(long, help_heading = "Output", conflicts_with = "overwrite")]
    resume: bool,
    /// Forget the search of this name, and start anew
    #[arg(long, help_heading = "Output")]
    overwrite: bool,
    /// Options from a TOML file; those of the command line win
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    config_file: Option<PathBuf>,
    /// Print everything that happens as JSON on standard output, a line each
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Options of a sweep: those of a search, and lists.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(rename_all = "snake_case", allow_negative_numbers = true)]
pub struct SweepArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// Weights of the penalty on the rates' sizes [default: that of --application_loss_weight]
    #[arg(long, value_name = "WEIGHT", num_args = 1.., value_delimiter = ',', help_heading = "Sweep",
        conflicts_with = "application_loss_weight")]
    application_loss_weights: Vec<f64>,
    /// Seeds; each holds out other pictures [default: that of --seed, else 0]
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', help_heading = "Sweep",
        conflicts_with = "seed")]
    seeds: Vec<u64>,
    /// Learning rates [default: that of --learning_rate]
    #[arg(long, value_name = "RATE", num_args = 1.., value_delimiter = ',', help_heading = "Sweep",
        conflicts_with = "learning_rate")]
    learning_rates: Vec<f64>,
    /// Sets of networks: all, singles (each alone), pairs, leave_one_out (all but one) [default: all]
    #[arg(long, value_name = "SETS", num_args = 1.., value_delimiter = ',', help_heading = "Sweep")]
    subsets: Vec<Subsets>,
}

impl SweepArgs {
    /// What all searches share, and what is different about them.
    fn parts(self) -> Result<(Settings, Axes), Failure> {
        let Self { search, application_loss_weights, seeds, learning_rates, subsets } = self;
        let settings = search.settings()?;
        let or = |given: Vec<f64>, one: f64| if given.is_empty() { vec![one] } else { given };
        let axes = Axes {
            subsets: if subsets.is_empty() { vec![Subsets::All] } else { subsets },
            application_loss_weights: or(application_loss_weights, settings.options.application_loss_weight),
            learning_rates: or(learning_rates, settings.options.learning_rate.learning_rate),
            seeds: if seeds.is_empty() { vec![settings.seed.unwrap_or_default()] } else { seeds },
        };
        Ok((settings, axes))
    }
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// A usage error of one line. Help and version are printed, and end the process.
    pub fn read() -> Result<Self, Failure> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => Failure::Usage(anyhow::Error::msg(one_line(&error.to_string()))),
        })
    }

    /// Does what the command line says.
    ///
    /// # Errors
    /// Whatever the command ends in.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Search(args) => search::run(args.settings()?).map(|_| ()),
            Command::Sweep(args) => args.parts().and_then(|(settings, axes)| sweep::run(settings, &axes)),
            Command::Watch(args) => watch::run(args),
            Command::List(args) => list::searches(args),
            Command::Workers(args) => list::workers(args),
            Command::Rates(args) => rates::run(args),
            Command::Pause(args) => control::run(args, Order::Pause),
            Command::Resume(args) => control::run(args, Order::Resume),
            Command::Cancel(args) => control::run(args, Order::Cancel),
            Command::Delete(args) => control::run(args, Order::Delete),
            #[cfg(feature = "demo")]
            Command::Demo(args) => demo::run(args),
            Command::Sample(args) => sample::run(*args),
            Command::Evaluate(args) => evaluate::run(*args),
            Command::Variance(args) => variance::run(*args),
            Command::Gradient(args) => gradient::run(args),
            Command::Trajectory(args) => trajectory::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Synthetic(args) => synthetic::run(args),
        }
    }
}

impl SearchArgs {
    /// The command line laid over the file, with defaults for the rest.
    fn settings(self) -> Result<Settings, Failure> {
        let existing = match (self.resume, self.overwrite) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        };
        let options = options::laid_over(self.options, self.config_file.as_deref())?;
        let settings = Settings::resolve_for(&options, existing, self.target.elsewhere()).map_err(Failure::usage)?;
        Ok(Settings { json: self.json, ..settings })
    }
}

/// What clap says in a paragraph, without the usage that it ends with.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let said = said.join(" ");
    format!("{}; see --help", said.strip_prefix("error: ").unwrap_or(&said))
}

#[cfg(test)]
mod tests;
