//! `NAME.json`: everything that a search was and came to.

use super::{NetworkRates, block_weight};
use lora_rates_common::block::Block;
use lora_rates_common::convert::StepRecord;
use lora_rates_common::spec::{ModelRef, SearchOptions, SearchSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The whole report. The same search gives the same report, wherever it was interrupted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// SHA-256 over all that determines the numbers.
    pub fingerprint: String,
    /// Whether all steps were made.
    pub finished: bool,
    /// Steps that were made.
    pub step: u64,
    /// The rates, network by network.
    pub networks: Vec<NetworkReport>,
    /// What the user chose.
    pub settings: SearchOptions,
    /// The base model.
    pub model: ModelRef,
    /// The pictures.
    pub images: Vec<ImageReport>,
    /// What every step came to.
    pub history: Vec<StepReport>,
}

/// One network and its rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// The file's name without its extension.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// By block; null where the network has no module.
    pub rates: BTreeMap<String, Option<f64>>,
    /// Values for `<lora:name:1:1:lbw=...>`.
    pub block_weight: String,
}

/// One picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageReport {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// What the text encoders read.
    pub caption: String,
    /// How often an epoch shows it.
    pub repeats: u32,
    /// Width and height at which it is shown.
    pub bucket: (u32, u32),
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Counts from 1.
    pub step: u64,
    /// Without the penalty.
    pub loss: f64,
    /// Not weighted.
    pub penalty: f64,
    /// Of the step.
    pub learning_rate: f64,
    /// With the penalty's.
    pub gradient_norm: f64,
}

impl From<&StepRecord> for StepReport {
    fn from(record: &StepRecord) -> Self {
        let &StepRecord { step, loss, penalty, learning_rate, gradient_norm, .. } = record;
        Self { step, loss, penalty, learning_rate, gradient_norm }
    }
}

impl Report {
    /// What this search came to.
    pub fn new(spec: &SearchSpec, finished: bool, rates: &[f64], history: Vec<StepReport>) -> Self {
        let images = spec.images.iter().map(|image| ImageReport {
            path: image.path.clone(),
            sha256: image.sha256.clone(),
            caption: image.caption.clone(),
            repeats: image.repeats,
            bucket: image.fit.bucket,
        });
        let networks = spec.networks.iter().zip(NetworkRates::of(&spec.networks, rates));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: spec.fingerprint(),
            finished,
            step: history.last().map_or(0, |record| record.step),
            networks: networks
                .map(|(network, rates)| NetworkReport {
                    name: network.name.clone(),
                    path: network.path.clone(),
                    sha256: network.sha256.clone(),
                    rates: by_block(&rates),
                    block_weight: block_weight::values(&rates),
                })
                .collect(),
            settings: spec.options.clone(),
            model: spec.model.clone(),
            images: images.collect(),
            history,
        }
    }

    /// Writes it as JSON: whole or not at all.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        replace(path, text.as_bytes())
    }
}

fn by_block(network: &NetworkRates<'_>) -> BTreeMap<String, Option<f64>> {
    let rates = Block::all().zip(network.rates.into_iter().zip(network.live));
    rates.map(|(block, (rate, live))| (block.name().to_owned(), live.then_some(rate))).collect()
}

/// Puts a file in the place of another at once: nobody ever sees half of it.
///
/// # Errors
/// The operating system refuses.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let partial = path.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().inspect_err(|_| {
        // Nothing better can be done about what is left of it.
        let _ = std::fs::remove_file(&partial);
    })
}
