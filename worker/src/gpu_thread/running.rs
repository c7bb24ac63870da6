//! The search that is worked for.

use super::model::{Model, caught, guarded};
use super::{Command, Error, Task, Told, memory_words, progress};
use crate::device::{self, Device};
use crate::encoding;
use crate::engine::{self, GradientEngine, Microbatch};
use crate::parts::{Parts, Trial};
use crate::sampler;
use crate::search::{Pictures, Search};
use lora_rates_common::convert::{Draw, Evaluate, Evaluated, Gradient, Lease, Progress, Rates};
use lora_rates_common::picture::to_png;
use lora_rates_common::plan::PlanSample;
use std::sync::Arc;
use std::thread;

/// A search that is prepared.
pub(super) struct Running {
    pub(super) task: Arc<Task>,
    search: Search,
    rates: Option<Rates>,
    /// What fits with the activations that the gradient needs.
    parts: Parts,
    /// Without gradient more samples fit: what is found there says nothing of the others.
    evaluated: Parts,
    /// The VAE is on the device, and is not needed for what comes next.
    vae: bool,
    /// The samples of a lease that was known to come next, made ready while the one before was computed.
    prepared: Option<(Vec<PlanSample>, Microbatch)>,
}

impl Running {
    pub(super) fn new(task: Arc<Task>, search: Search) -> Self {
        Self {
            task,
            search,
            rates: None,
            parts: Parts::default(),
            evaluated: Parts::default(),
            vae: false,
            prepared: None,
        }
    }

    /// Does what is asked of this search; what takes long, as long as it is wanted.
    pub(super) fn obey(
        &mut self,
        model: &mut Model,
        command: Command,
        next: Option<&Lease>,
        tell: &mut dyn FnMut(Progress),
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Told>, Error> {
        match command {
            Command::Rates(rates) => {
                self.rates = Some(rates);
                Ok(None)
            }
            Command::Encode { encode, picture, asked } => {
                self.vae = true;
                let moments = self.search.encode(model.engine()?.0, encode.image, encode.flip, &picture)?;
                let bytes = Some(encoding::to_bytes(&moments));
                Ok(Some(Told::Encoded { encode, bytes, asked }))
            }
            Command::Learn { encode, moments } => {
                self.search.learn(encode.image, encode.flip, &moments)?;
                Ok(None)
            }
            Command::Lease(lease, pictures) => self.gradient(model, lease, &pictures, next, tell),
            Command::Evaluate(evaluate, pictures) => self.losses(model, evaluate, &pictures, tell).map(Some),
            Command::Draw(draw) => self.draw(model, draw, tell, wanted),
            Command::Prepare(_) | Command::Release(_) => Ok(None),
        }
    }

    /// A lease of a step whose rates were replaced since is stale: nobody waits for it.
    fn gradient(
        &mut self,
        model: &mut Model,
        lease: Lease,
        pictures: &Pictures,
        next: Option<&Lease>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Option<Told>, Error> {
        let Lease { search_id, step, microbatch, batch } = lease;
        let Some(rates) = self.rates.clone().filter(|rates| rates.step == step) else { return Ok(None) };
        let batch = self.microbatch(model, &batch.samples, pictures)?;
        let options = self.task.spec.options.loss;
        let mut parts = std::mem::take(&mut self.parts);
        let compute =
            |engine: &mut dyn GradientEngine, part: &Microbatch| engine.gradient(part, &rates.rates, &options);
        let (result, prepared) = thread::scope(|scope| {
            let prepare = |next: &Lease| Some((next.batch.samples.clone(), self.search.prepared(&next.batch.samples)?));
            let preparing = next.map(|next| scope.spawn(move || prepare(next)));
            let result =
                self.feel(model, &mut parts, &batch, &mut |engine, part| compute(engine, part).map(drop), tell);
            let result = result.and_then(|()| {
                parts.gradient(
                    &batch,
                    |part| self.attempt(model, |engine| compute(engine, part)),
                    |size| self.limited(size, tell),
                )
            });
            // What could not be prepared is tried again when its turn comes, and then says why.
            (result, preparing.and_then(|preparing| preparing.join().ok().flatten()))
        });
        (self.parts, self.prepared) = (parts, prepared);
        let result = result.map_err(|error| described(error, model, &batch))?;
        let (mse, loss, gradient) = (result.mse, result.loss, result.grad);
        Ok(Some(Told::Gradient(Gradient { search_id, step, microbatch, mse, loss, gradient })))
    }

    fn losses(
        &mut self,
        model: &mut Model,
        evaluate: Evaluate,
        pictures: &Pictures,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Told, Error> {
        let Evaluate { search_id, step, item, rates, batch } = evaluate;
        let batch = self.microbatch(model, &batch.samples, pictures)?;
        let options = self.task.spec.options.loss;
        let mut parts = std::mem::take(&mut self.evaluated);
        let compute = |engine: &mut dyn GradientEngine, part: &Microbatch| engine.losses(part, &rates, &options);
        let losses = self.feel(model, &mut parts, &batch, &mut |engine, part| compute(engine, part).map(drop), tell);
        let losses = losses.and_then(|()| {
            parts.losses(
                &batch,
                |part| self.attempt(model, |engine| compute(engine, part)),
                |size| self.limited(size, tell),
            )
        });
        self.evaluated = parts;
        let losses = losses.map_err(|error| described(error, model, &batch))?;
        Ok(Told::Evaluated(Evaluated { search_id, step, item, losses }))
    }

    /// Samples a picture. Whatever goes wrong with it is said of the picture: the search goes on without.
    fn draw(
        &mut self,
        model: &mut Model,
        draw: Draw,
        tell: &mut dyn FnMut(Progress),
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Told>, Error> {
        let task = self.search.sampling(draw.item)?;
        self.vae = true;
        let mut goes_on = |done, total| {
            tell(progress(&draw.search_id, "sampling pictures", done, total));
            wanted()
        };
        let device = model.device();
        let (engine, _) = model.engine()?;
        // As much room as there is: when memory runs out, some devices never compute again.
        engine.free_memory();
        let result = match caught(|| sampler::picture(&mut *engine, &task, &draw.rates, &mut goes_on)) {
            Ok(None) => return Ok(None),
            Ok(Some(picture)) => to_png(&picture).map_err(|error| error.to_string()),
            Err((error, panicked)) => {
                engine.release_vae();
                if panicked {
                    self.again(model)?;
                } else {
                    engine.free_memory();
                }
                let short = matches!(error, engine::Error::OutOfMemory(_));
                let words = if short { memory_words(device) + "; try a smaller picture" } else { String::new() };
                Err(self.task.redact(&format!("{error}{words}")))
            }
        };
        Ok(Some(Told::Drawn { draw, result }))
    }

    fn microbatch(
        &mut self,
        model: &mut Model,
        samples: &[PlanSample],
        pictures: &Pictures,
    ) -> Result<Microbatch, Error> {
        let (engine, _) = model.engine()?;
        if self.vae && self.task.spec.options.cache_latents {
            engine.release_vae();
        }
        self.vae = false;
        match self.prepared.take() {
            Some((of, batch)) if of == samples => Ok(batch),
            _ => Ok(self.search.microbatch(engine, samples, pictures)?),
        }
    }

    /// Computes a part. Where memory ran out, the engine is made fit for a smaller one.
    fn attempt<T>(
        &self,
        model: &mut Model,
        compute: impl FnOnce(&mut dyn GradientEngine) -> Result<T, engine::Error>,
    ) -> Result<T, engine::Error> {
        let (engine, _) = model.engine().map_err(|error| engine::Error::Device(error.to_string()))?;
        let (error, panicked) = match guarded(|| compute(&mut *engine)) {
            Ok(result) => return Ok(result),
            Err(failure) => failure,
        };
        if matches!(error, engine::Error::OutOfMemory(_)) {
            if panicked {
                self.again(model).map_err(|error| engine::Error::Device(error.to_string()))?;
            } else {
                engine.free_memory();
            }
        }
        Err(error)
    }

    /// Loads the model again, with the networks.
    fn again(&self, model: &mut Model) -> Result<(), Error> {
        tracing::warn!("the device's libraries gave up; the model is loaded again");
        model.reload()?;
        let (engine, config) = model.engine()?;
        Ok(self.search.attach(engine, config, &mut |_| ())?)
    }

    /// Finds out how much of a microbatch fits, where that is not known yet.
    fn feel(
        &self,
        model: &mut Model,
        parts: &mut Parts,
        batch: &Microbatch,
        compute: &mut dyn FnMut(&mut dyn GradientEngine, &Microbatch) -> Result<(), engine::Error>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), engine::Error> {
        let device = model.device();
        let (engine, _) = model.engine().map_err(|error| engine::Error::Device(error.to_string()))?;
        parts.feel(batch, &mut OnDevice { device, engine, compute }, |size| self.limited(size, tell))
    }

    fn limited(&self, size: usize, tell: &mut dyn FnMut(Progress)) {
        let words = format!("too little GPU memory: microbatches are computed in parts of {size}");
        tracing::warn!("{words}");
        tell(progress(&self.task.search_id, &words, 0, 0));
    }
}

/// Tries microbatches on the device.
struct OnDevice<'a> {
    device: Device,
    engine: &'a mut dyn GradientEngine,
    compute: &'a mut dyn FnMut(&mut dyn GradientEngine, &Microbatch) -> Result<(), engine::Error>,
}

impl Trial for OnDevice<'_> {
    fn compute(&mut self, batch: &Microbatch) -> Result<(), engine::Error> {
        (self.compute)(self.engine, batch)
    }

    fn memory(&mut self) -> Option<(u64, u64)> {
        device::memory(self.device)
    }

    fn free(&mut self) {
        self.engine.free_memory();
    }
}

/// Says what did not fit where memory ran out for a single sample.
fn described(error: engine::Error, model: &Model, batch: &Microbatch) -> Error {
    let engine::Error::OutOfMemory(words) = error else { return error.into() };
    let (width, height, samples) = (8 * batch.width, 8 * batch.height, batch.timesteps.len());
    Error::OutOfMemory(format!(
        "out of GPU memory for a single sample of {width} x {height} pixels (of a microbatch of {samples}): {words}{}; \
         try --gradient_checkpointing, --mixed_precision bf16, a smaller --resolution or fewer networks",
        memory_words(model.device()),
    ))
}
