//! Opening and checking everything that a search is made of.

use crate::failure::Failure;
use crate::settings::{self, Settings};
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::dataset::buckets::MULTIPLE;
use lora_rates_common::dataset::{self, Dataset, DatasetOptions};
use lora_rates_common::network::{self, Network, Unmatched};
use lora_rates_common::plan;
use lora_rates_common::sampling::{self, Defaults};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::spec::{self, ModelRef, NetworkRef, SearchSpec};
use lora_rates_common::validation;
use std::io;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The search.
    pub(crate) spec: SearchSpec,
    /// For the user: the networks' modules by block, and the pictures.
    pub(crate) report: String,
}

/// The base model, as far as a search needs it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) reference: ModelRef,
    /// Its sizes.
    pub(crate) config: SdxlConfig,
}

/// Opens the model on this machine. Paths in it are absolute.
///
/// # Errors
/// It is missing, broken or of another kind.
pub(crate) fn open_model(settings: &Settings) -> Result<Model, Failure> {
    let path = absolute(&settings.model)?;
    let vae = settings.vae.as_deref().map(absolute).transpose()?;
    let checkpoint = match &vae {
        Some(vae) => Checkpoint::open_with_vae(&path, vae)?,
        None => Checkpoint::open(&path)?,
    };
    let (digest, config) = (checkpoint.digest(), checkpoint.config().clone());
    Ok(Model { reference: ModelRef { path, vae, digest }, config })
}

/// Opens the networks and all pictures, and makes one specification of them. Paths in it are absolute.
///
/// # Errors
/// Anything is missing, broken or doesn't fit the rest.
pub(crate) fn open(settings: &Settings, seed: u64, model: &Model) -> Result<Inputs, Failure> {
    let networks = networks(settings, &model.config)?;
    let data = DatasetOptions {
        train_data_dir: absolute(&settings.dataset.train_data_dir)?,
        validation_data_dir: settings.dataset.validation_data_dir.as_deref().map(absolute).transpose()?,
        ..settings.dataset.clone()
    };
    let dataset = Dataset::scan(&data).map_err(from_dataset)?;
    let mut report = format!("{}{}", network::report(&networks), dataset.summary());

    let mut options = settings.options.clone();
    options.cache_dir = options.cache_dir.as_deref().map(absolute).transpose()?;
    let networks = networks.iter().map(reference).collect();
    let sampling = sampling(settings)?;
    let spec = SearchSpec { model: model.reference.clone(), networks, images: dataset.images, options, sampling };
    let spec = with_seed(spec, settings, seed)?;
    spec.validate().map_err(from_spec)?;
    report += &held_out(&spec);
    Ok(Inputs { spec, report })
}

/// [`open`] with the seed of the settings, else with one that the same files and options have again: so that the same
/// command finds the search that it submitted.
///
/// # Errors
/// Those of [`open`].
pub(crate) fn open_with_own_seed(settings: &Settings, model: &Model) -> Result<Inputs, Failure> {
    let inputs = open(settings, settings.seed.unwrap_or_default(), model)?;
    if settings.seed.is_some() {
        return Ok(inputs);
    }
    // Pictures on the way don't change the search.
    let digits = SearchSpec { sampling: Default::default(), ..inputs.spec.clone() }.fingerprint();
    let seed = digits.get(..8).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    let spec = with_seed(inputs.spec, settings, seed)?;
    spec.validate().map_err(from_spec)?;
    let report = inputs.report.lines().filter(|line| !line.starts_with(HELD_OUT)).collect::<Vec<_>>().join("\n");
    Ok(Inputs { report: report + &held_out(&spec), spec })
}

/// The specification with this seed, which decides the pictures that are held out, and with that the steps of an epoch.
///
/// # Errors
/// There are too many steps, or the plan makes no sense.
pub(crate) fn with_seed(mut spec: SearchSpec, settings: &Settings, seed: u64) -> Result<SearchSpec, Failure> {
    spec.options.seed = seed;
    if let Some(epochs) = settings.max_train_epochs {
        spec.options.max_train_steps = steps(&spec, epochs)?;
    }
    Ok(spec)
}

/// A line that names the pictures that are held out, if any are.
fn held_out(spec: &SearchSpec) -> String {
    let images = spec.images.iter().zip(validation::held_out(spec)).filter(|(_, held_out)| *held_out);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names: Vec<String> = images.map(|(image, _)| name(&image.path)).collect();
    let count = names.len();
    if count == 0 {
        return String::new();
    }
    names.truncate(MAX_NAMED);
    let more = if count > MAX_NAMED { format!(" and {} more", count - MAX_NAMED) } else { String::new() };
    format!("\n{HELD_OUT}{count}: {}{more}", names.join(", "))
}

/// What the line begins with.
pub(crate) const HELD_OUT: &str = "held out for validation, ";
/// Most pictures that it names.
const MAX_NAMED: usize = 12;

fn networks(settings: &Settings, config: &SdxlConfig) -> Result<Vec<Network>, Failure> {
    let paths = settings.networks.iter().map(|path| absolute(path)).collect::<Result<Vec<PathBuf>, _>>()?;
    let unmatched = if settings.options.skip_unmatched_keys { Unmatched::Skip } else { Unmatched::Refuse };
    network::open_all(&paths, config, unmatched).map_err(|error| match error {
        network::Error::SameFile { .. } => Failure::usage(error),
        error => error.into(),
    })
}

fn reference(network: &Network) -> NetworkRef {
    let (name, path, sha256) = (network.name.clone(), network.path.clone(), network.sha256.clone());
    NetworkRef { name, path, sha256, live: network.live() }
}

/// What is sampled on the way. Pictures are as large as those that are searched with, unless their prompt says otherwise.
fn sampling(settings: &Settings) -> Result<sampling::Options, Failure> {
    let Some(samples) = &settings.samples else { return Ok(sampling::Options::default()) };
    let (width, height) = settings.dataset.buckets.resolution;
    let whole = |side: u32| (side - side % MULTIPLE).clamp(MULTIPLE, sampling::MAX_SIDE);
    let prompts = sampling::read(&samples.prompts, Defaults::of_size(whole(width), whole(height)))?;
    Ok(sampling::Options { prompts, every_n_steps: samples.every_n_steps, at_first: samples.at_first })
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
