//! The command line of the demonstration's search: what is run, and what the user is shown.

use super::{Args, EXAMPLE, NETWORKS};
use crate::failure::Failure;
use crate::options::Options;
use crate::output::shell::quoted;
use crate::settings::{Existing, Settings};
use crate::world::World;
use clap::{Args as _, Command, FromArgMatches as _};
use std::path::Path;

/// Name of the results.
const NAME: &str = "demo";

/// The arguments of `lora-rates search`, an option with its values each.
pub(super) fn arguments(args: &Args, world: &World) -> Vec<Vec<String>> {
    let path = |path: &Path| path.display().to_string();
    let option = |name: &str, values: &[String]| {
        std::iter::once(format!("--{name}")).chain(values.iter().cloned()).collect::<Vec<_>>()
    };
    let plain = |name: &str, value: &str| option(name, &[value.to_owned()]);
    let networks = NETWORKS.map(|name| path(&world.network(name)));
    vec![
        option("pretrained_model_name_or_path", &[path(&world.model())]),
        option("network_weights", &networks),
        option("train_data_dir", &[path(&world.pictures(EXAMPLE, "train"))]),
        option("validation_data_dir", &[path(&world.pictures(EXAMPLE, "heldout"))]),
        plain("caption_extension", ".txt"),
        plain("resolution", "128"),
        plain("train_batch_size", "8"),
        option("max_train_steps", &[args.steps.to_string()]),
        option("validate_every_n_steps", &[args.steps.to_string()]),
        // Smaller steps that end softly and a dearer application than usual: little noise is to be left in rates that
        // belong at 0.
        plain("learning_rate", "0.05"),
        plain("lr_scheduler", "cosine"),
        plain("application_loss_weight", "0.001"),
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
