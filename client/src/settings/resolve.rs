//! From options that may be open to settings that have a value each.

use super::{Error, Existing, Samples, Settings};
use crate::options::Options;
use crate::remote::Target;
use lora_rates_common::convert::{MAX_ACCUMULATION, MAX_BATCH, MAX_NAME, MAX_NETWORKS, MAX_STEPS, model_path};
use lora_rates_common::dataset::DatasetOptions;
use lora_rates_common::dataset::buckets::{BucketOptions, Buckets};
use lora_rates_common::diffusion::{LossOptions, TIMESTEPS};
use lora_rates_common::optimizer::AdamW;
use lora_rates_common::schedule::{self, Schedule};
use lora_rates_common::spec::SearchOptions;
use lora_rates_common::validation::MAX_SAMPLES_PER_IMAGE;
use lora_rates_worker::device::Device;
use lora_rates_worker::engine::EngineKind;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// Steps between two evaluations on held-out pictures, unless the user says.
const VALIDATE_EVERY: u64 = 100;
/// Most workers of one process.
const MAX_DEVICES: usize = 64;

impl Settings {
    /// Settings of these options, with defaults for what they leave open.
    ///
    /// # Errors
    /// An option that must be given is not, is out of range, or goes not together with another.
    pub fn resolve(options: &Options, existing: Existing) -> Result<Self, Error> {
        Self::resolve_for(options, existing, None)
    }

    /// [`Self::resolve`] for a search by a coordinator, if one is given.
    ///
    /// # Errors
    /// Those, and options that only make sense on this machine.
    pub fn resolve_for(options: &Options, existing: Existing, coordinator: Option<Target>) -> Result<Self, Error> {
        if coordinator.is_some() {
            refuse_local(options)?;
        }
        let default = Self::default();
        only(
            "network_module",
            options.network_module.as_deref(),
            "networks.lora",
            "LoRA and LoCon files are searched",
        )?;
        only("optimizer_type", options.optimizer_type.as_deref(), "AdamW", "it is the only optimizer there is")?;
        let output_dir = options.output_dir.clone().unwrap_or(default.output_dir);
        let output_name = options.output_name.clone().unwrap_or(default.output_name);
        let mut search = search_options(options, default.options)?;
        search.cache_dir = cache_dir(options, &output_dir)?;
        let settings = Self {
            model: required("pretrained_model_name_or_path", options, "give an SDXL checkpoint (a file or a folder)")?,
            vae: options.vae.clone(),
            networks: networks(options)?,
            dataset: dataset(options, default.dataset)?,
            options: search,
            seed: options.seed,
            max_train_epochs: options.max_train_epochs,
            samples: samples(options)?,
            devices: devices(options)?,
            engine: engine(options)?,
            coordinator,
            name: options.name.clone().unwrap_or_else(|| output_name.clone()),
            json: false,
            output_dir,
            output_name,
            save_every_n_steps: options.save_every_n_steps,
            existing,
        };
        settings.validate()?;
        Ok(settings)
    }

    /// Checks everything that can be checked without opening a file.
    ///
    /// # Errors
    /// For the first option that is out of range or goes not together with another.
    pub fn validate(&self) -> Result<(), Error> {
        let options = &self.options;
        within("train_batch_size", options.train_batch_size, 1..=MAX_BATCH)?;
        within("gradient_accumulation_steps", options.gradient_accumulation_steps, 1..=MAX_ACCUMULATION)?;
        within("max_train_steps", options.max_train_steps, 1..=MAX_STEPS)?;
        if let Some(epochs) = self.max_train_epochs {
            within("max_train_epochs", epochs, 1..=MAX_STEPS)?;
        }
        if let Some(steps) = self.save_every_n_steps {
            within("save_every_n_steps", steps, 1..=MAX_STEPS)?;
        }
        if let Some(samples) = &self.samples {
            within("sample_every_n_steps", samples.every_n_steps, 0..=MAX_STEPS)?;
        }
        within("max_timestep", options.max_timestep, 1..=TIMESTEPS)?;
        within("min_timestep", options.min_timestep, 0..=options.max_timestep - 1)?;
        number("application_loss_weight", options.application_loss_weight, 0.0..=f64::MAX)?;
        number("noise_offset", options.noise_offset.into(), 0.0..=10.0)?;
        within("network_weights", self.networks.len(), 1..=MAX_NETWORKS)?;
        if self.devices.len() > MAX_DEVICES {
            let (value, range) = (format!("{} devices", self.devices.len()), format!("at most {MAX_DEVICES}"));
            return Err(Error::Range { option: "device", value, range });
        }
        validation(options, self.dataset.validation_data_dir.is_some())?;
        options.loss.validate()?;
        if self.max_train_epochs.is_none() {
            // With epochs the number of steps, and so the room for a warm-up, is known once the pictures are.
            Schedule::new(&options.learning_rate, options.max_train_steps)?;
        }
        Buckets::new(&self.dataset.buckets)?;
        file_name(&self.output_name)?;
        within("name (its length)", self.name.len(), 1..=MAX_NAME)
    }
}

/// Refuses what only makes sense on this machine, and a model that no worker could find.
fn refuse_local(options: &Options) -> Result<(), Error> {
    let refuse = |option, value: String, why: &str| Err(Error::Unsupported { option, value, why: why.to_owned() });
    if let Some(device) = &options.device {
        let why = "with --coordinator its workers choose their devices; leave it out, or search here with \
                   --coordinator local";
        return refuse("device", device.join(","), why);
    }
    if let Some(engine) = &options.engine {
        let why = "with --coordinator its workers choose their engines; leave it out";
        return refuse("engine", engine.clone(), why);
    }
    let kept = "with --coordinator the encoded pictures are kept by the coordinator anyway; leave it out";
    if options.cache_latents_to_disk == Some(true) {
        return refuse("cache_latents_to_disk", "true".to_owned(), kept);
    }
    if let Some(folder) = &options.cache_dir {
        return refuse("cache_dir", folder.display().to_string(), kept);
    }
    let paths = [("pretrained_model_name_or_path", &options.pretrained_model_name_or_path), ("vae", &options.vae)];
    for (option, path) in paths {
        let Some(path) = path.as_ref().map(|path| path.to_string_lossy().into_owned()) else { continue };
        if model_path(option, path.clone()).is_err() {
            let why = "with --coordinator give the path below its workers' model folder, without a leading / and \
                       without ..";
            return refuse(option, path, why);
        }
    }
    Ok(())
}

/// Checks what is said of held-out pictures.
fn validation(options: &SearchOptions, of_their_own: bool) -> Result<(), Error> {
    let split = options.validation_split;
    if !(0.0..1.0).contains(&split) {
        let range = "from 0 to below 1: the part of the pictures that is held out".to_owned();
        return Err(Error::Range { option: "validation_split", value: split.to_string(), range });
    }
    if of_their_own && split > 0.0 {
        return Err(Error::Conflict("validation_split", "validation_data_dir"));
    }
    let held_out = of_their_own || split > 0.0;
    let needs = [
        ("validate_every_n_steps", options.validate_every_n_steps > 0),
        ("validation_samples_per_image", options.validation_samples_per_image > 0),
        ("early_stop", options.early_stop > 0),
        ("prune", options.prune != 0.0),
        ("curvature", options.curvature),
    ];
    if let Some((option, _)) = needs.into_iter().find(|(_, given)| *given && !held_out) {
        let what = "without held-out pictures there is nothing to measure; give a part such as 0.2, or \
                    --validation_data_dir";
        return Err(Error::Needs { option, needed: "validation_split", what });
    }
    if options.curvature_bound.is_some() && !options.curvature {
        let (option, needed, what) = ("curvature_bound", "curvature", "it is the bound of what that measures");
        return Err(Error::Needs { option, needed, what });
    }
    number("prune", options.prune, 0.0..=1e6)?;
    number("curvature_bound", options.curvature_bound.unwrap_or_default(), 0.0..=1e30)?;
    if held_out {
        within("validate_every_n_steps", options.validate_every_n_steps, 1..=MAX_STEPS)?;
    }
    within("validation_samples_per_image", options.validation_samples_per_image, 0..=MAX_SAMPLES_PER_IMAGE)?;
    Ok(())
}

/// A name that is that of a file in the output folder and no other.
pub(crate) fn file_name(name: &str) -> Result<(), Error> {
    let fine = !name.trim().is_empty() && name.len() <= 200 && !name.starts_with('.');
    if fine && !name.contains(['/', '\\', '\0']) {
        return Ok(());
    }
    let why = "give a plain name; the folder is that of --output_dir".to_owned();
    Err(Error::Unsupported { option: "output_name", value: format!("{name:?}"), why })
}

fn required(option: &'static str, options: &Options, what: &'static str) -> Result<PathBuf, Error> {
    let given = match option {
        "train_data_dir" => &options.train_data_dir,
        _ => &options.pretrained_model_name_or_path,
    };
    given.clone().ok_or(Error::Missing { option, what })
}

fn networks(options: &Options) -> Result<Vec<PathBuf>, Error> {
    let given = options.network_weights.clone().filter(|networks| !networks.is_empty());
    given.ok_or(Error::Missing { option: "network_weights", what: "give the LoRA files whose rates are searched" })
}

fn dataset(options: &Options, default: DatasetOptions) -> Result<DatasetOptions, Error> {
    let buckets = default.buckets;
    Ok(DatasetOptions {
        train_data_dir: required("train_data_dir", options, "give a folder of pictures")?,
        validation_data_dir: options.validation_data_dir.clone(),
        caption_extension: options.caption_extension.clone().unwrap_or(default.caption_extension),
        buckets: BucketOptions {
            resolution: options.resolution.map_or(buckets.resolution, |size| (size.width, size.height)),
            enable: options.enable_bucket.unwrap_or(buckets.enable),
            min: options.min_bucket_reso.unwrap_or(buckets.min),
            max: options.max_bucket_reso.unwrap_or(buckets.max),
            step: options.bucket_reso_steps.unwrap_or(buckets.step),
            no_upscale: options.bucket_no_upscale.unwrap_or(buckets.no_upscale),
        },
    })
}

fn search_options(options: &Options, default: SearchOptions) -> Result<SearchOptions, Error> {
    let rate = default.learning_rate;
    Ok(SearchOptions {
        seed: default.seed,
        max_train_steps: options.max_train_steps.unwrap_or(default.max_train_steps),
        train_batch_size: options.train_batch_size.unwrap_or(default.train_batch_size),
        gradient_accumulation_steps: options.gradient_accumulation_steps.unwrap_or(default.gradient_accumulation_steps),
        flip_aug: options.flip_aug.unwrap_or(default.flip_aug),
        min_timestep: options.min_timestep.unwrap_or(default.min_timestep),
        max_timestep: options.max_timestep.unwrap_or(default.max_timestep),
        max_token_length: options.max_token_length.unwrap_or(default.max_token_length),
        noise_offset: options.noise_offset.unwrap_or(default.noise_offset),
        application_loss_weight: options.application_loss_weight.unwrap_or(default.application_loss_weight),
        loss: LossOptions {
            v_parameterization: options.v_parameterization.unwrap_or_default(),
            min_snr_gamma: options.min_snr_gamma,
            debiased_estimation: options.debiased_estimation_loss.unwrap_or_default(),
            scale_v_pred_loss_like_noise_pred: options.scale_v_pred_loss_like_noise_pred.unwrap_or_default(),
            v_pred_like_loss: options.v_pred_like_loss,
        },
        optimizer: AdamW::parse(options.optimizer_args.as_deref().unwrap_or_default())?,
        learning_rate: schedule::Options {
            learning_rate: options.learning_rate.unwrap_or(rate.learning_rate),
            lr_scheduler: options.lr_scheduler.unwrap_or(rate.lr_scheduler),
            lr_warmup_steps: options.lr_warmup_steps.unwrap_or(rate.lr_warmup_steps),
            lr_scheduler_num_cycles: options.lr_scheduler_num_cycles.unwrap_or(rate.lr_scheduler_num_cycles),
            lr_scheduler_power: options.lr_scheduler_power.unwrap_or(rate.lr_scheduler_power),
        },
        mixed_precision: named("mixed_precision", options.mixed_precision.as_deref(), default.mixed_precision)?,
        gradient_checkpointing: options.gradient_checkpointing.unwrap_or(default.gradient_checkpointing),
        cache_latents: options.cache_latents.unwrap_or(default.cache_latents),
        cache_dir: None,
        skip_unmatched_keys: options.skip_unmatched_keys.unwrap_or(default.skip_unmatched_keys),
        penalize_dead_slots: options.penalize_dead_slots.unwrap_or(default.penalize_dead_slots),
        validation_split: options.validation_split.unwrap_or_default(),
        validate_every_n_steps: match options.validate_every_n_steps {
            // A 0 that was asked for is refused, not replaced.
            Some(every) => every,
            None if options.validation_data_dir.is_some()
                || options.validation_split.is_some_and(|split| split > 0.0) =>
            {
                VALIDATE_EVERY
            }
            None => 0,
        },
        early_stop: options.early_stop.unwrap_or_default(),
        validation_samples_per_image: options.validation_samples_per_image.unwrap_or_default(),
        timestep_sampling: named("timestep_sampling", options.timestep_sampling.as_deref(), default.timestep_sampling)?,
        prune: options.prune.unwrap_or_default(),
        curvature: options.curvature.unwrap_or_default(),
        curvature_bound: options.curvature_bound,
        fp8_base: options.fp8_base.unwrap_or_default(),
        noise_sampling: named("noise_sampling", options.noise_sampling.as_deref(), default.noise_sampling)?,
    })
}

/// What is sampled on the way, if anything is.
fn samples(options: &Options) -> Result<Option<Samples>, Error> {
    only("sample_sampler", options.sample_sampler.as_deref(), "euler", "more samplers come later")?;
    if options.sample_every_n_steps == Some(0) {
        let (value, range) = ("0".to_owned(), format!("1 to {MAX_STEPS}; leave it out for the end alone"));
        return Err(Error::Range { option: "sample_every_n_steps", value, range });
    }
    let at_first = options.sample_at_first.unwrap_or(false);
    let Some(prompts) = options.sample_prompts.clone() else {
        let given = [("sample_every_n_steps", options.sample_every_n_steps.is_some()), ("sample_at_first", at_first)];
        let what = "give a file of prompts, one a line";
        return match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::Needs { option, needed: "sample_prompts", what }),
            None => Ok(None),
        };
    };
    Ok(Some(Samples { prompts, every_n_steps: options.sample_every_n_steps.unwrap_or(0), at_first }))
}

/// Where latents are kept on disk, if they are.
fn cache_dir(options: &Options, output_dir: &std::path::Path) -> Result<Option<PathBuf>, Error> {
    let to_disk = options.cache_latents_to_disk.unwrap_or(false);
    if to_disk && options.cache_latents == Some(false) {
        return Err(Error::Conflict("cache_latents_to_disk", "cache_latents false"));
    }
    if !to_disk && options.cache_dir.is_some() {
        let what = "--cache_dir is the place for its files; give both or neither";
        return Err(Error::Missing { option: "cache_latents_to_disk", what });
    }
    Ok(to_disk.then(|| options.cache_dir.clone().unwrap_or_else(|| output_dir.join("cache"))))
}

/// One of an option's names; its default where none is given.
fn named<T: FromStr<Err = String>>(option: &'static str, given: Option<&str>, otherwise: T) -> Result<T, Error> {
    let Some(given) = given else { return Ok(otherwise) };
    let value = given.to_owned();
    given.parse().map_err(|why| Error::Unsupported { option, value, why })
}

fn engine(options: &Options) -> Result<EngineKind, Error> {
    let parse = |value: &String| {
        value.parse().map_err(|why| Error::Unsupported { option: "engine", value: value.clone(), why })
    };
    options.engine.as_ref().map_or(Ok(EngineKind::Auto), parse)
}

fn devices(options: &Options) -> Result<Vec<Device>, Error> {
    let parse = |value: &String| {
        value.parse().map_err(|why| Error::Unsupported { option: "device", value: value.clone(), why })
    };
    options.device.iter().flatten().map(parse).collect()
}

/// Refuses every value but one.
fn only(option: &'static str, given: Option<&str>, value: &str, why: &str) -> Result<(), Error> {
    match given.filter(|given| *given != value) {
        None => Ok(()),
        Some(given) => Err(Error::Unsupported { option, value: given.to_owned(), why: format!("use {value}; {why}") }),
    }
}

fn within<N: PartialOrd + Display>(option: &'static str, value: N, range: RangeInclusive<N>) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    let range = format!("{} to {}", range.start(), range.end());
    Err(Error::Range { option, value: value.to_string(), range })
}

fn number(option: &'static str, value: f64, range: RangeInclusive<f64>) -> Result<(), Error> {
    if value.is_finite() && range.contains(&value) {
        return Ok(());
    }
    let range = match *range.end() {
        f64::MAX => format!("a number of at least {}", range.start()),
        end => format!("a number from {} to {end}", range.start()),
    };
    Err(Error::Range { option, value: value.to_string(), range })
}
