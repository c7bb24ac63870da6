//! The command line of the demonstration's search: what is run, and what the user is shown.

use super::{Args, Files};
use crate::failure::Failure;
use crate::options::Options;
use crate::output::shell::quoted;
use crate::settings::{Existing, Settings};
use clap::{Args as _, Command, FromArgMatches as _};
use std::path::Path;

/// Name of the results.
const NAME: &str = "demo";

/// The arguments of `lora-rates search`, an option with its values each.
pub(super) fn arguments(args: &Args, files: &Files) -> Vec<Vec<String>> {
    let path = |path: &Path| path.display().to_string();
    let option = |name: &str, values: &[String]| {
        std::iter::once(format!("--{name}")).chain(values.iter().cloned()).collect::<Vec<_>>()
    };
    let plain = |name: &str, value: &str| option(name, &[value.to_owned()]);
    let networks: Vec<String> = files.networks.iter().map(|network| path(network)).collect();
    vec![
        option("pretrained_model_name_or_path", &[path(&files.model)]),
        option("network_weights", &networks),
        option("train_data_dir", &[path(&files.pictures)]),
        plain("caption_extension", ".txt"),
        plain("resolution", "64"),
        option("enable_bucket", &[]),
        plain("min_bucket_reso", "32"),
        plain("max_bucket_reso", "96"),
        plain("bucket_reso_steps", "32"),
        plain("train_batch_size", "4"),
        option("max_train_steps", &[args.steps.to_string()]),
        // Smaller steps and a dearer application than usual: few steps are to show the rates' way.
        plain("learning_rate", "0.05"),
        plain("application_loss_weight", "0.005"),
        option("seed", &[args.seed.to_string()]),
        option("device", &[args.device.to_string()]),
        option("output_dir", &[path(&args.output_dir)]),
        plain("output_name", NAME),
    ]
}

/// What these arguments mean. An earlier demonstration's search makes room.
pub(super) fn settings(arguments: &[Vec<String>]) -> Result<Settings, Failure> {
    let words = std::iter::once("search").chain(arguments.iter().flatten().map(String::as_str));
    let matches = Options::augment_args(Command::new("search")).try_get_matches_from(words);
    let options = matches.and_then(|matches| Options::from_arg_matches(&matches)).map_err(Failure::usage)?;
    Settings::resolve(&options, Existing::Overwrite).map_err(Failure::usage)
}

/// The command for a shell, an option a line.
pub(super) fn shown(arguments: &[Vec<String>]) -> String {
    let line = |option: &Vec<String>| option.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let lines = std::iter::once("lora-rates search --overwrite".to_owned()).chain(arguments.iter().map(line));
    lines.collect::<Vec<_>>().join(" \\\n    ")
}
