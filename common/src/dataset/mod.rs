//! The pictures of a search: which they are, how often each is shown, with what caption and in which bucket.
//!
//! Folders follow the layout common among LoRA trainers: `5_cat` holds pictures shown five times per epoch, whose
//! caption is `cat` where no caption file stands beside them.

pub mod buckets;
mod caption;
mod error;
mod folder;
mod load;
#[cfg(test)]
mod tests;

pub use error::Error;

use buckets::{BucketOptions, Buckets, Fit};
use caption::Captions;
use folder::Subset;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the pictures are and how they are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetOptions {
    /// A folder of pictures, or of folders named `N_class` (N repeats) with pictures.
    pub train_data_dir: PathBuf,
    /// A folder of the same form whose pictures are measured on and never trained on.
    pub validation_data_dir: Option<PathBuf>,
    /// Extension of the caption files, with or without its dot.
    pub caption_extension: String,
    /// Sizes at which pictures are shown.
    pub buckets: BucketOptions,
}

impl Default for DatasetOptions {
    fn default() -> Self {
        let caption_extension = ".caption".into();
        let buckets = BucketOptions::default();
        Self { train_data_dir: PathBuf::new(), validation_data_dir: None, caption_extension, buckets }
    }
}

/// A picture of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its file.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// What the text encoders read; may be empty.
    pub caption: String,
    /// Width and height of the upright picture in pixels.
    pub size: (u32, u32),
    /// How often it is shown per epoch, at least once.
    pub repeats: u32,
    /// Factor of its loss.
    pub loss_weight: f32,
    /// Its bucket and how it is brought there.
    pub fit: Fit,
    /// Of a folder of held-out pictures. Left out where it is not so: stored searches keep their fingerprints.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_out: bool,
}

/// All pictures of a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// Those to train on, sorted by path, then those of the folder of held-out ones, likewise.
    pub images: Vec<Image>,
}

impl Dataset {
    /// Reads the folders. Every picture is decoded to its end, so that none can fail once the search runs.
    ///
    /// What is odd but no error (folders and files passed over, pictures without caption) is logged as a warning.
    ///
    /// # Errors
    /// When the options make no sense, the folder is not of the expected layout, or a picture or caption cannot be
    /// read; the error names the file.
    pub fn scan(options: &DatasetOptions) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let dataset = Self::read(options, &mut warnings);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        dataset
    }

    /// [`Self::scan`], with the warnings returned.
    fn read(options: &DatasetOptions, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let mut images = read(&options.train_data_dir, options, warnings)?;
        if let Some(folder) = &options.validation_data_dir {
            let mut held_out = read(folder, options, warnings)?;
            let trained: BTreeMap<&str, &PathBuf> =
                images.iter().map(|image| (image.sha256.as_str(), &image.path)).collect();
            let twice = |image: &Image| Some((image.path.clone(), (*trained.get(image.sha256.as_str())?).clone()));
            if let Some((held_out, trained)) = held_out.iter().find_map(twice) {
                return Err(Error::Trained { held_out, trained });
            }
            held_out.iter_mut().for_each(|image| image.held_out = true);
            images.extend(held_out);
        }
        Ok(Self { images })
    }

    /// One line for the user about the pictures to train on, such as `12 pictures, 24 with repeats, 2 buckets: 832x1216
    /// (8), 1024x1024 (16)`; a bucket's number counts repeats.
    pub fn summary(&self) -> String {
        let mut buckets = BTreeMap::<_, u64>::new();
        let images = || self.images.iter().filter(|image| !image.held_out);
        for image in images() {
            *buckets.entry(image.fit.bucket).or_default() += u64::from(image.repeats);
        }
        let sizes: Vec<_> =
            buckets.iter().map(|((width, height), count)| format!("{width}x{height} ({count})")).collect();
        format!(
            "{}, {} with repeats, {}: {}",
            count(images().count(), "picture"),
            buckets.values().sum::<u64>(),
            count(buckets.len(), "bucket"),
            sizes.join(", ")
        )
    }
}

/// The pictures of one folder, sorted by path.
fn read(root: &Path, options: &DatasetOptions, warnings: &mut Vec<String>) -> Result<Vec<Image>, Error> {
    let buckets = Buckets::new(&options.buckets)?;
    let mut captions = Captions::new(&options.caption_extension)?;
    let subsets = folder::subsets(root, warnings)?;

    let mut pictures: Vec<_> =
        subsets.iter().flat_map(|subset| subset.pictures.iter().map(move |path| (path, subset))).collect();
    pictures.sort_by_key(|(path, _)| *path);
    // Captions first: they are read at once, while decoding takes its time.
    let captioned = pictures
        .into_iter()
        .map(|(path, subset)| Ok((path, subset, captions.of(path, &subset.class)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    warnings.extend(captions.warning());

    let loaded = load::all(&captioned.iter().map(|(path, ..)| path.as_path()).collect::<Vec<_>>())?;
    let images = captioned.into_iter().zip(loaded).map(|((path, subset, caption), loaded)| {
        let Subset { repeats, .. } = *subset;
        let load::Loaded { sha256, size } = loaded;
        let fit = buckets.fit(size.0, size.1);
        Image { path: path.clone(), sha256, caption, size, repeats, loss_weight: 1.0, fit, held_out: false }
    });
    Ok(images.collect())
}

/// `1 picture`, `2 pictures`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
