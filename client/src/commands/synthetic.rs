//! `lora-rates synthetic`: files to measure and to try things out with, where no real ones are.

use super::ModelSize;
use crate::failure::Failure;
use crate::progress::note;
use crate::random_model;
use anyhow::Context as _;
use clap::value_parser;
use image::{ImageFormat, Rgb, RgbImage};
use lora_rates_worker::bench::networks;
use std::path::{Path, PathBuf};

/// Make an SDXL of random weights, random networks and pictures, for measuring
///
/// OUTPUT_DIR gets the folders model (in diffusers' layout, bf16: 7 GB at full size), networks (network0.safetensors and
/// so on, on all attention and feed-forward layers) and pictures (with captions). The same bytes for the same seed.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    /// Folder for the files
    #[arg(long, value_name = "FOLDER")]
    output_dir: PathBuf,

    /// Size of the model: full (2.6 billion parameters in the UNet) or tiny
    #[arg(long, value_enum, default_value_t = ModelSize::Full)]
    model: ModelSize,

    /// How many networks
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=256))]
    networks: u32,

    /// Rank of each network
    #[arg(long, default_value_t = 32, value_parser = value_parser!(u32).range(1..=1024))]
    rank: u32,

    /// How many pictures
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(1..=100_000))]
    pictures: u32,

    /// Side of the pictures in pixels
    #[arg(long, default_value_t = 1024, value_parser = value_parser!(u32).range(32..=4096))]
    resolution: u32,

    /// Makes other weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Makes the files.
///
/// # Errors
/// A file can't be written.
pub fn run(args: Args) -> Result<(), Failure> {
    let folder = &args.output_dir;
    make(&args, folder).with_context(|| format!("can't write to {}", folder.display()))?;
    let Args { networks, pictures, .. } = args;
    note(&format!("made a model, networks ({networks}) and pictures ({pictures}) in {}", folder.display()));
    Ok(())
}

fn make(args: &Args, folder: &Path) -> anyhow::Result<()> {
    let config = args.model.config();
    random_model::write(&folder.join("model"), &config, args.seed)?;
    let below = folder.join("networks");
    std::fs::create_dir_all(&below)?;
    networks::write(&below, &config, args.networks as usize, args.rank as usize, args.seed)?;
    let below = folder.join("pictures");
    std::fs::create_dir_all(&below)?;
    for number in 0..args.pictures {
        let path = below.join(format!("{number:05}.png"));
        picture(number, args.resolution).save_with_format(&path, ImageFormat::Png)?;
        std::fs::write(path.with_extension("caption"), format!("rings of colour, number {number}\n"))?;
    }
    Ok(())
}

/// Coloured rings around a point that differs from picture to picture.
fn picture(number: u32, side: u32) -> RgbImage {
    let (x0, y0) = (number.wrapping_mul(37) % side, number.wrapping_mul(101) % side);
    RgbImage::from_fn(side, side, |x, y| {
        let distance = f64::from(x.abs_diff(x0)).hypot(f64::from(y.abs_diff(y0))) / f64::from(side);
        let wave = |frequency: f64| (127.5 * (1.0 + (distance * frequency + f64::from(number)).sin())) as u8;
        Rgb([wave(20.0), wave(31.0), wave(44.0)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lora_rates_common::checkpoint::Checkpoint;
    use lora_rates_common::network::{Unmatched, open_all};
    use lora_rates_common::sdxl::config::SdxlConfig;

    #[test]
    fn the_files_are_a_model_its_networks_and_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let output_dir = folder.path().to_owned();
        let args =
            Args { output_dir, model: ModelSize::Tiny, networks: 2, rank: 4, pictures: 3, resolution: 64, seed: 1 };
        run(args).unwrap();
        let model = Checkpoint::open(&folder.path().join("model")).unwrap();
        assert_eq!(*model.config(), SdxlConfig::tiny());
        let paths = [0, 1].map(|number| folder.path().join(format!("networks/network{number}.safetensors")));
        let networks = open_all(&paths, model.config(), Unmatched::Refuse).unwrap();
        assert_ne!(networks[0].sha256, networks[1].sha256);
        for number in 0..3 {
            let picture = image::open(folder.path().join(format!("pictures/{number:05}.png"))).unwrap();
            assert_eq!((picture.width(), picture.height()), (64, 64));
            assert!(folder.path().join(format!("pictures/{number:05}.caption")).is_file());
        }
    }
}
