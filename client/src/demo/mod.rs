//! `lora-rates demo`: a whole search on the small world, with nothing downloaded.

mod command;
mod strip;
#[cfg(test)]
mod tests;

use crate::failure::Failure;
use crate::progress::note;
use crate::search;
use crate::world::World;
use anyhow::Context;
use lora_rates_worker::device::Device;
use std::path::PathBuf;

/// Networks that the search may use: the two that are needed, and one that has learned nothing.
const NETWORKS: [&str; 3] = ["character1", "style2", "useless"];
/// Whose pictures are searched with.
const EXAMPLE: &str = "character_in_style";

/// Run a small search with nothing downloaded
///
/// Writes a small SDXL that has truly learned to draw, networks that were trained on it, and pictures: an alien, which one
/// network knows, as a sketch, which another knows. Finds how strongly each part of three networks should apply, and
/// samples pictures before and after. A few minutes on a CPU. The files stay, to try other options on.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    /// Folder for the model, the networks, the pictures and the results
    #[arg(long, default_value = "./output/demo", value_name = "FOLDER")]
    output_dir: PathBuf,

    /// Steps of the search
    #[arg(long, default_value_t = 80, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,

    /// Makes other noise and timesteps
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Where to compute: cpu, cuda or cuda:K
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,

    /// Keep the model's, networks' and pictures' files that are there already instead of writing them again
    #[arg(long)]
    keep: bool,

    /// Only write the files
    #[arg(long)]
    files_only: bool,
}

/// What the numbers mean, after the tables.
const MEANING: &str = "\
The pictures show an alien as a sketch. The network \"character1\" knows aliens, but only ever saw them in flat colours;
\"style2\" knows sketches, of other figures; \"useless\" was trained on random captions. The search lowers what does not
help to reproduce the pictures. The held-out loss, on pictures that were never trained on, tells how much is gained.";

/// Makes the files, searches, samples pictures, and says what it meant and how to do it again.
///
/// # Errors
/// A file can't be written, or the search ends in an error.
pub fn run(args: Args) -> Result<(), Failure> {
    let world = World::below(&args.output_dir);
    let folder = args.output_dir.display();
    world.write(args.keep).with_context(|| format!("the demonstration can't write to {folder}"))?;
    note(&format!("wrote a small SDXL, its networks and pictures to {folder}"));
    if args.files_only {
        return Ok(());
    }
    let arguments = command::arguments(&args, &world);
    let outcome = search::run(command::settings(&arguments)?)?;
    let strip = strip::write(&args, &world, &outcome.rates)?;
    let shown = command::shown(&arguments);
    note(&format!(
        "\n{MEANING}\n\nBefore and after: {}\n\nThe same search on these files:\n  {shown}",
        strip.display()
    ));
    Ok(())
}
