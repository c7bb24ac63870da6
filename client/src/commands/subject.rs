//! Model, networks and encoded pictures of a search's options, ready to be computed without a search.

use crate::failure::Failure;
use crate::options::Options;
use crate::progress::note;
use crate::search::{devices, inputs};
use crate::settings::{self, Existing, Settings};
use anyhow::anyhow;
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::plan::Microbatch as Planned;
use lora_rates_common::spec::SearchSpec;
use lora_rates_worker::device::{self, Device};
use lora_rates_worker::engine::{EngineOptions, GradientEngine, Microbatch};
use lora_rates_worker::search::{Picture, Pictures, Search};
use lora_rates_worker::source::Source;
use std::sync::Arc;

/// All that the loss needs but rates.
pub(super) struct Subject {
    pub(super) spec: Arc<SearchSpec>,
    pub(super) engine: Box<dyn GradientEngine>,
    search: Search,
}

/// What is opened, before the model is loaded.
pub(super) struct Opened {
    settings: Settings,
    /// The pictures may still be marked, and what is measured be changed.
    pub(super) spec: SearchSpec,
    device: Device,
}

impl Opened {
    /// Opens everything that the options name, and checks it.
    ///
    /// # Errors
    /// Options that make no sense, and files that can't be read or don't fit each other.
    pub(super) fn new(options: &Options) -> Result<Self, Failure> {
        let mut settings = Settings::resolve(options, Existing::Refuse).map_err(Failure::usage)?;
        // Each picture is used many times.
        (settings.options.cache_latents, settings.options.cache_dir) = (true, None);
        let device = match (&settings.devices[..], device::best()) {
            ([], best) => best,
            (&[_], _) => devices(&settings)?.first().copied().unwrap_or(Device::Cpu),
            _ => {
                let (value, why) = (settings.devices.len().to_string(), "one device computes here; give one");
                let (option, why) = ("device", why.to_owned());
                return Err(Failure::usage(settings::Error::Unsupported { option, value: value + " devices", why }));
            }
        };
        let model = inputs::open_model(&settings)?;
        let inputs = inputs::open(&settings, settings.seed.unwrap_or_default(), &model)?;
        note(&inputs.report);
        Ok(Self { settings, spec: inputs.spec, device })
    }

    /// Loads the model, attaches the networks, and encodes captions and these pictures, given with whether they are
    /// mirrored.
    ///
    /// # Errors
    /// A file can't be read, or the device fails.
    pub(super) fn load(self, pictures: impl IntoIterator<Item = (u32, bool)>) -> Result<Subject, Failure> {
        let Self { settings, spec, device } = self;
        let checkpoint = match &settings.vae {
            Some(vae) => Checkpoint::open_with_vae(&settings.model, vae)?,
            None => Checkpoint::open(&settings.model)?,
        };
        let config = checkpoint.config().clone();
        let (precision, gradient_checkpointing) = (spec.options.mixed_precision, spec.options.gradient_checkpointing);
        let options = EngineOptions {
            engine: settings.engine,
            precision,
            gradient_checkpointing,
            fp8_base: spec.options.fp8_base,
        };
        let mut engine = device::load(device, Source::Checkpoint(Box::new(checkpoint)), options)?;
        let spec = Arc::new(spec);
        let networks = spec.networks.iter().map(|network| network.path.clone()).collect();
        let mut search = Search::new(Arc::clone(&spec), networks, None)?;
        search.attach(engine.as_mut(), &config, &mut |_| ())?;
        for (number, flip) in pictures {
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            let image = spec.images.get(place).ok_or_else(|| anyhow!("there is no picture {number}"))?;
            search.encode(engine.as_mut(), number, flip, &Picture::File(image.path.clone()))?;
        }
        engine.release_vae();
        tracing::info!("the model is on {}", engine.device());
        Ok(Subject { spec, engine, search })
    }
}

impl Subject {
    /// A planned microbatch as the engine takes it.
    ///
    /// # Errors
    /// One of its pictures is not encoded.
    pub(super) fn microbatch(&mut self, batch: &Planned) -> Result<Microbatch, Failure> {
        Ok(self.search.microbatch(self.engine.as_mut(), &batch.samples, &Pictures::new())?)
    }
}
