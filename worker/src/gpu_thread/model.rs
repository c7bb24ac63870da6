//! A loaded model.

use super::Error;
use crate::cache::Cache;
use crate::device::{self, Device};
use crate::engine::{self, EngineOptions, GradientEngine};
use crate::source::Source;
use lora_rates_common::checkpoint::{self, Checkpoint};
use lora_rates_common::sdxl::Part;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::spec::ModelRef;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A model on the device.
pub(super) struct Model {
    device: Device,
    model: ModelRef,
    options: EngineOptions,
    config: SdxlConfig,
    /// None only after it could not be loaded again.
    engine: Option<Box<dyn GradientEngine>>,
}

impl Model {
    pub(super) fn load(device: Device, model: &ModelRef, options: EngineOptions) -> Result<Self, Error> {
        let checkpoint = open(model)?;
        if checkpoint.digest() != model.digest {
            return Err(Error::OtherModel(model.path.clone()));
        }
        let config = checkpoint.config().clone();
        let engine = device::load(device, Source::Checkpoint(Box::new(checkpoint)), options)?;
        Ok(Self { device, model: model.clone(), options, config, engine: Some(engine) })
    }

    /// Whether it is this one, computed in this way.
    pub(super) fn is(&self, model: &ModelRef, options: EngineOptions) -> bool {
        self.engine.is_some() && (&self.model, self.options) == (model, options)
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    pub(super) fn engine(&mut self) -> Result<(&mut dyn GradientEngine, &SdxlConfig), Error> {
        match &mut self.engine {
            Some(engine) => Ok((engine.as_mut(), &self.config)),
            None => Err(Error::NoModel(self.model.path.display().to_string())),
        }
    }

    /// Loads it again, without networks: after a panic nothing of it can be trusted.
    pub(super) fn reload(&mut self) -> Result<(), Error> {
        self.engine = None;
        // Memory of the old one that can't be freed now is missing later, which is said then.
        let _ = catch_unwind(AssertUnwindSafe(|| device::free_memory(self.device)));
        let source = Source::Checkpoint(Box::new(open(&self.model)?));
        self.engine = Some(device::load(self.device, source, self.options)?);
        Ok(())
    }
}

/// Computes something, and makes a panic of the device's libraries for want of memory an error like any other.
///
/// # Errors
/// As `compute`; second is whether it panicked, so that the engine must be loaded again.
pub(super) fn guarded<T>(compute: impl FnOnce() -> Result<T, engine::Error>) -> Result<T, (engine::Error, bool)> {
    match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(result) => result.map_err(|error| (error, false)),
        Err(panic) => match engine::Error::of_device(super::panics::reason(panic.as_ref())) {
            error @ engine::Error::OutOfMemory(_) => Err((error, true)),
            _ => std::panic::resume_unwind(panic),
        },
    }
}

/// As [`guarded`], for whatever reason the libraries panic.
///
/// # Errors
/// Likewise.
pub(super) fn caught<T>(compute: impl FnOnce() -> Result<T, engine::Error>) -> Result<T, (engine::Error, bool)> {
    match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(result) => result.map_err(|error| (error, false)),
        Err(panic) => Err((engine::Error::of_device(super::panics::reason(panic.as_ref())), true)),
    }
}

fn open(model: &ModelRef) -> Result<Checkpoint, checkpoint::Error> {
    match &model.vae {
        Some(vae) => Checkpoint::open_with_vae(&model.path, vae),
        None => Checkpoint::open(&model.path),
    }
}

pub(super) fn cache(folder: &Path, model: &ModelRef) -> Result<Cache, Error> {
    let checkpoint = open(model)?;
    let vae = checkpoint.digest_of(&[Part::Vae]);
    let text = checkpoint.digest_of(&[Part::TextEncoder1, Part::TextEncoder2]);
    Cache::open(folder, vae, text).map_err(|source| Error::Cache { folder: folder.to_owned(), source })
}
