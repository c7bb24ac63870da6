//! `NAME.json`: everything that a search was and came to.

use super::{ConclusionReport, NetworkRates, Subject, Validations, block_weight, file};
use lora_rates_common::block::Block;
use lora_rates_common::convert::{Baseline, StepRecord, Validation};
use lora_rates_common::dataset::Image;
use lora_rates_common::spec::{ModelRef, NetworkRef, SearchOptions, SearchSpec};
use lora_rates_common::validation::held_out;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The whole report. The same search gives the same report, wherever it was interrupted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// SHA-256 over all that determines the numbers; null where only the coordinator knows them.
    pub fingerprint: Option<String>,
    /// Whether the search came to its end.
    pub finished: bool,
    /// Why it ended before its last step, if the held-out loss made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_early: Option<String>,
    /// Steps that were made.
    pub step: u64,
    /// The rates, network by network.
    pub networks: Vec<NetworkReport>,
    /// The rates of the lowest held-out loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestReport>,
    /// What the user chose; null where only the coordinator knows it.
    pub settings: Option<SearchOptions>,
    /// The base model; likewise.
    pub model: Option<ModelRef>,
    /// The pictures.
    pub images: Vec<ImageReport>,
    /// The held-out loss over the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validations: Vec<ValidationReport>,
    /// The held-out loss with all live rates at one value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<BaselineReport>,
    /// What was measured at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<ConclusionReport>,
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
    /// Whether it was held out: measured on, never trained on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_out: bool,
}

/// The rates of the lowest held-out loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestReport {
    /// Steps done before it.
    pub step: u64,
    /// On the held-out pictures.
    pub loss: f64,
    /// Of the loss.
    pub standard_error: f64,
    /// The rates, network by network.
    pub networks: Vec<NetworkReport>,
}

/// The loss on the held-out pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationReport {
    /// Steps done before it.
    pub step: u64,
    /// Mean of the samples.
    pub loss: f64,
    /// Of the loss.
    pub standard_error: f64,
    /// Samples in it.
    pub samples: u32,
}

impl From<&Validation> for ValidationReport {
    fn from(validation: &Validation) -> Self {
        let &Validation { step, loss, standard_error, samples, .. } = validation;
        Self { step, loss, standard_error, samples }
    }
}

/// The held-out loss with all live rates at one value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineReport {
    /// The value.
    pub rate: f64,
    /// Mean of the samples.
    pub loss: f64,
    /// Of the loss.
    pub standard_error: f64,
}

impl From<&Baseline> for BaselineReport {
    fn from(&Baseline { rate, loss, standard_error }: &Baseline) -> Self {
        Self { rate, loss, standard_error }
    }
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
    pub fn new(
        subject: &Subject,
        finished: bool,
        rates: &[f64],
        history: Vec<StepReport>,
        validations: &Validations,
    ) -> Self {
        let spec = subject.spec.as_ref();
        let best = validations.best().map(|best| BestReport {
            step: best.step,
            loss: best.loss,
            standard_error: best.standard_error,
            networks: networks(subject, &best.rates),
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: spec.map(SearchSpec::fingerprint),
            finished,
            stopped_early: None,
            step: history.last().map_or(0, |record| record.step),
            networks: networks(subject, rates),
            best,
            settings: spec.map(|spec| spec.options.clone()),
            model: spec.map(|spec| spec.model.clone()),
            images: spec.map(images).unwrap_or_default(),
            validations: validations.all().map(Into::into).collect(),
            baselines: validations.baselines().iter().map(Into::into).collect(),
            conclusion: None,
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
        file::replace(path, text.as_bytes())
    }
}

fn images(spec: &SearchSpec) -> Vec<ImageReport> {
    let images = spec.images.iter().zip(held_out(spec));
    let report = |(image, held_out): (&Image, bool)| ImageReport {
        path: image.path.clone(),
        sha256: image.sha256.clone(),
        caption: image.caption.clone(),
        repeats: image.repeats,
        bucket: image.fit.bucket,
        held_out,
    };
    images.map(report).collect()
}

/// The networks with these rates.
pub(crate) fn networks(subject: &Subject, rates: &[f64]) -> Vec<NetworkReport> {
    let networks = subject.networks.iter().zip(subject.with_rates(rates));
    let report = |(network, rates): (&NetworkRef, NetworkRates<'_>)| NetworkReport {
        name: network.name.clone(),
        path: network.path.clone(),
        sha256: network.sha256.clone(),
        rates: by_block(&rates),
        block_weight: block_weight::values(&rates),
    };
    networks.map(report).collect()
}

fn by_block(network: &NetworkRates<'_>) -> BTreeMap<String, Option<f64>> {
    let rates = Block::all().zip(network.rates.into_iter().zip(network.live));
    rates.map(|(block, (rate, live))| (block.name().to_owned(), live.then_some(rate))).collect()
}
