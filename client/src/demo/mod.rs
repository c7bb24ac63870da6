//! `lora-rates demo`: a whole search with nothing downloaded.

mod command;
mod description;
pub(crate) mod model;
mod networks;
mod pictures;
#[cfg(test)]
mod tests;

use crate::failure::Failure;
use crate::progress::note;
use crate::search;
use anyhow::Context;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_worker::device::Device;
use std::path::{Path, PathBuf};

/// Run a small search with nothing downloaded
///
/// Makes a tiny SDXL, two networks and six pictures by a program, and searches the networks' rates on them: under a
/// minute on a CPU. The files stay, to try other options on.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    /// Folder for the model, the networks, the pictures and the results
    #[arg(long, default_value = "./output/demo", value_name = "FOLDER")]
    output_dir: PathBuf,

    /// Steps of the search
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,

    /// Makes other weights, noise and timesteps
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Where to compute: cpu, cuda or cuda:K
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,

    /// Keep model, networks and pictures that are there already instead of making them again
    #[arg(long)]
    keep: bool,
}

/// What the numbers mean, after the tables.
const MEANING: &str = "\
The model is no trained one: its weights are random but for three layers, by which it predicts noise, poorly. So the
rates say nothing about pictures; they show the search at work. The network \"disturbing\" only adds noise: its rates
fall. So do those of \"restoring\", but its OUT08 has what the model lacks and rises. Loss and penalty fall.";

/// Makes the files, searches, and says what it meant and how to do it again.
///
/// # Errors
/// A file can't be written, or the search ends in an error.
pub fn run(args: Args) -> Result<(), Failure> {
    let files = Files::below(&args.output_dir);
    let folder = args.output_dir.display();
    files.make(args.seed, args.keep).with_context(|| format!("the demonstration can't write to {folder}"))?;
    note(&format!("made a tiny SDXL, two networks and six pictures in {folder}"));
    let arguments = command::arguments(&args, &files);
    search::run(command::settings(&arguments)?)?;
    note(&format!("\n{MEANING}\n\nThe same search on these files:\n  {}", command::shown(&arguments)));
    Ok(())
}

/// What a demonstration searches over.
struct Files {
    model: PathBuf,
    networks: Vec<PathBuf>,
    pictures: PathBuf,
}

impl Files {
    /// Where they lie below a folder.
    fn below(folder: &Path) -> Self {
        let network = |name: &str| folder.join("networks").join(format!("{name}.safetensors"));
        Self {
            model: folder.join("model"),
            networks: vec![network(networks::DISTURBING), network(networks::RESTORING)],
            pictures: folder.join("pictures"),
        }
    }

    /// Makes them, the same bytes for the same seed; with `keep` only those of the three kinds that are not there.
    fn make(&self, seed: u64, keep: bool) -> Result<(), anyhow::Error> {
        // A model's index is written last.
        if !(keep && self.model.join(description::INDEX).is_file()) {
            model::write(&self.model, seed)?;
        }
        let folder = self.networks.first().and_then(|network| network.parent());
        if let Some(folder) = folder.filter(|_| !(keep && self.networks.iter().all(|network| network.is_file()))) {
            networks::write(folder, &SdxlConfig::tiny(), seed)?;
        }
        if !(keep && self.pictures.is_dir()) {
            pictures::write(&self.pictures)?;
        }
        Ok(())
    }
}
