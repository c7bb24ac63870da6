//! The demonstration's picture: what was searched with, and what the model draws before and after.

use super::{Args, EXAMPLE, NETWORKS};
use crate::failure::Failure;
use crate::output::file::replace;
use crate::pictures::{Base, Sampler};
use crate::progress::note;
use crate::world::World;
use anyhow::Context as _;
use image::{DynamicImage, RgbImage, imageops};
use lora_rates_common::picture::to_png;
use lora_rates_common::sampling::{self, Defaults};
use std::path::{Path, PathBuf};

/// Pictures in a row.
const COLUMNS: usize = 4;
/// Side of a picture in pixels.
const SIDE: u32 = 128;
/// Steps and guidance of each sample.
const SAMPLING: &str = "--s 20 --l 2.5";

/// Writes `before-after.png`: the first training pictures, and under each what the model draws for its caption from the
/// same noise without networks, with all of them whole, and at the rates that were found.
///
/// # Errors
/// A file can't be read or written, or the device fails.
pub(super) fn write(args: &Args, world: &World, found: &[f64]) -> Result<PathBuf, Failure> {
    let base = Base {
        model: world.model(),
        networks: NETWORKS.map(|name| world.network(name)).to_vec(),
        device: Some(args.device),
        ..Base::default()
    };
    let mut sampler = Sampler::load(&base)?;
    let shown = shown(&world.pictures(EXAMPLE, "train"))?;
    let mut rows = vec![shown.iter().map(|(picture, _)| picture.clone()).collect::<Vec<_>>()];
    for (words, rates) in
        [("all 0", vec![0.0; found.len()]), ("all 1", vec![1.0; found.len()]), ("found", found.to_vec())]
    {
        note(&format!("sampling pictures, rates: {words}"));
        let mut row = Vec::new();
        for (place, (_, caption)) in shown.iter().enumerate() {
            let prompt = sampling::parse(&format!("{caption} {SAMPLING}"), Defaults::of_size(SIDE, SIDE));
            let prompt = prompt.map_err(|why| anyhow::anyhow!("the caption {caption:?}: {why}"))?;
            row.push(sampler.picture(&prompt, args.seed + place as u64, &rates, &mut |_, _| ())?);
        }
        rows.push(row);
    }
    let path = args.output_dir.join("before-after.png");
    let sheet = sheet(&world.labels()?, &rows);
    let write = || anyhow::Ok(replace(&path, &to_png(&sheet)?)?);
    write().with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

/// The first pictures of a folder with their captions.
fn shown(folder: &Path) -> Result<Vec<(RgbImage, String)>, anyhow::Error> {
    let read = |place: usize| {
        let path = folder.join(format!("{place:02}.png"));
        let picture = image::open(&path).with_context(|| format!("can't read {}", path.display()))?;
        let path = path.with_extension("txt");
        let caption = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        anyhow::Ok((picture.into_rgb8(), caption.trim().to_owned()))
    };
    (0..COLUMNS).map(read).collect()
}

/// Rows of pictures with their labels to the left.
fn sheet(labels: &DynamicImage, rows: &[Vec<RgbImage>]) -> RgbImage {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let mut sheet =
        RgbImage::from_pixel(labels.width() + columns * SIDE, rows.len() as u32 * SIDE, image::Rgb([255; 3]));
    imageops::overlay(&mut sheet, &labels.to_rgb8(), 0, 0);
    for (down, row) in (0_i64..).zip(rows) {
        for (right, picture) in (0_i64..).zip(row) {
            let side = i64::from(SIDE);
            imageops::overlay(&mut sheet, picture, i64::from(labels.width()) + right * side, down * side);
        }
    }
    sheet
}
