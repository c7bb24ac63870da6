//! Opening and checking everything that a search is made of.

use crate::failure::Failure;
use crate::settings::{self, Settings};
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::dataset::{self, Dataset, DatasetOptions};
use lora_rates_common::network::{self, Network, Unmatched};
use lora_rates_common::plan;
use lora_rates_common::spec::{self, ModelRef, NetworkRef, SearchSpec};
use std::io;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug)]
pub(super) struct Inputs {
    /// The search.
    pub(super) spec: SearchSpec,
    /// For the user: the networks' modules by block, and the pictures.
    pub(super) report: String,
}

/// Opens the model, the networks and all pictures, and makes one specification of them. Paths in it are absolute.
///
/// # Errors
/// Anything is missing, broken or doesn't fit the rest.
pub(super) fn open(settings: &Settings, seed: u64) -> Result<Inputs, Failure> {
    let (model, checkpoint) = model(settings)?;
    let networks = networks(settings, &checkpoint)?;
    let data =
        DatasetOptions { train_data_dir: absolute(&settings.dataset.train_data_dir)?, ..settings.dataset.clone() };
    let dataset = Dataset::scan(&data).map_err(from_dataset)?;
    let report = format!("{}{}", network::report(&networks), dataset.summary());

    let mut options = settings.options.clone();
    options.seed = seed;
    options.cache_dir = options.cache_dir.as_deref().map(absolute).transpose()?;
    let networks = networks.iter().map(reference).collect();
    let mut spec = SearchSpec { model, networks, images: dataset.images, options };
    if let Some(epochs) = settings.max_train_epochs {
        spec.options.max_train_steps = steps(&spec, epochs)?;
    }
    spec.validate().map_err(from_spec)?;
    Ok(Inputs { spec, report })
}

fn model(settings: &Settings) -> Result<(ModelRef, Checkpoint), Failure> {
    let path = absolute(&settings.model)?;
    let vae = settings.vae.as_deref().map(absolute).transpose()?;
    let checkpoint = match &vae {
        Some(vae) => Checkpoint::open_with_vae(&path, vae)?,
        None => Checkpoint::open(&path)?,
    };
    let digest = checkpoint.digest();
    Ok((ModelRef { path, vae, digest }, checkpoint))
}

fn networks(settings: &Settings, checkpoint: &Checkpoint) -> Result<Vec<Network>, Failure> {
    let paths = settings.networks.iter().map(|path| absolute(path)).collect::<Result<Vec<PathBuf>, _>>()?;
    let unmatched = if settings.options.skip_unmatched_keys { Unmatched::Skip } else { Unmatched::Refuse };
    network::open_all(&paths, checkpoint.config(), unmatched).map_err(|error| match error {
        network::Error::SameFile { .. } => Failure::usage(error),
        error => error.into(),
    })
}

fn reference(network: &Network) -> NetworkRef {
    let (name, path, sha256) = (network.name.clone(), network.path.clone(), network.sha256.clone());
    NetworkRef { name, path, sha256, live: network.live() }
}

/// Steps of so many epochs.
fn steps(spec: &SearchSpec, epochs: u64) -> Result<u64, Failure> {
    let per_epoch = spec.plan().map_err(from_spec)?.steps_per_epoch();
    let steps = per_epoch.saturating_mul(epochs);
    if steps > lora_rates_common::convert::MAX_STEPS {
        let range = format!("small enough for {} steps in all", lora_rates_common::convert::MAX_STEPS);
        let option = "max_train_epochs";
        return Err(Failure::usage(settings::Error::Range { option, value: epochs.to_string(), range }));
    }
    Ok(steps)
}

/// As it is seen from any folder; links are left as they are, because their names say more than what they lead to.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let named = |source: io::Error| anyhow::anyhow!("{:?} is no path: {source}", path.display().to_string());
    std::path::absolute(path).map_err(|source| Failure::usage(named(source)))
}

/// Options are the user's, the rest is the files'.
fn from_dataset(error: dataset::Error) -> Failure {
    match error {
        dataset::Error::Buckets(_) | dataset::Error::CaptionExtension(_) => Failure::usage(error),
        error => error.into(),
    }
}

/// As [`from_dataset`].
fn from_spec(error: spec::Error) -> Failure {
    match error {
        spec::Error::NothingLive | spec::Error::Plan(plan::Error::NoImages | plan::Error::TooManySamples(_)) => {
            error.into()
        }
        error => Failure::usage(error),
    }
}
