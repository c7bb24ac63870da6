//! The command line.

use crate::commands::{bench, gradient, synthetic, trajectory};
use crate::demo;
use crate::failure::Failure;
use crate::options::{self, EXAMPLES, Options};
use crate::search;
use crate::settings::{Existing, Settings};
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
    Demo(demo::Args),
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
    /// Go on with the unfinished search in OUTPUT_DIR/NAME-state, to the same numbers as without interruption
    #[arg(long, help_heading = "Output", conflicts_with = "overwrite")]
    resume: bool,
    /// Remove OUTPUT_DIR/NAME-state and start anew
    #[arg(long, help_heading = "Output")]
    overwrite: bool,
    /// Options from a TOML file; those of the command line win
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    config_file: Option<PathBuf>,
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
            Command::Demo(args) => demo::run(args),
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
        let file = self.config_file.as_deref().map(options::read).transpose().map_err(|error| match error {
            // A file that isn't there is like any other missing file.
            options::Error::Read { .. } => Failure::Run(error.into()),
            error => Failure::usage(error),
        })?;
        let existing = match (self.resume, self.overwrite) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        };
        let options = self.options.over(file.unwrap_or_default());
        Settings::resolve(&options, existing).map_err(Failure::usage)
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
