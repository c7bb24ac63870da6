//! A whole model: the UNet as programs on a device, everything around it in burn.

mod profile;

use super::Error;
use super::executor::{Executor, Part};
use super::networks::Networks;
use super::parameters::{Parameters, channels_first, channels_last};
use super::plan::{Buffer, Program, Stretch, Wanted};
use super::read::read_all;
use super::tape::{Case, Loaded, RecordedUnet, Recorder};
use crate::engine::breakdown::Breakdown;
use crate::engine::burn::Around;
use crate::engine::loss::{Aim, aim, judge, noisy};
use crate::engine::{self, EncodedText, EngineOptions, Gradient, GradientEngine, Microbatch, Moments, Shown};
use crate::sdxl::embedding::sinusoids;
use crate::sdxl::unet::Unet;
use burn::tensor::backend::Backend;
use lora_rates_common::block::BLOCKS;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::network::Network;
use lora_rates_common::picture::Pixels;
use lora_rates_common::sdxl::config::UnetConfig;
use lora_rates_common::tokenizer::Tokens;
use std::borrow::Borrow;
use std::collections::HashMap;

/// A model whose UNet is computed by programs on `E`.
pub struct CudaEngine<E: Executor, B: Backend> {
    // Dropped in this order: graphs before the kernels in them.
    programs: HashMap<(Case, Wanted), E::Prepared>,
    executor: E,
    around: Around<B>,
    config: UnetConfig,
    unet: Unet<Recorder>,
    parameters: Parameters,
    /// The names of layers that are computed as one.
    joined: Vec<Vec<String>>,
    /// How many of the parameters are the model's own.
    own: usize,
    networks: Networks,
    /// Keep the stages' outputs alone even where memory would do for more.
    checkpointing: bool,
    /// Add networks to weights; not to those in eight bits, which are never there as a whole.
    merging: bool,
}

/// What the UNet reads, channels last.
struct Inputs<'a> {
    case: Case,
    noisy: Vec<f32>,
    time: Vec<f32>,
    vector: Vec<f32>,
    context: &'a [f32],
}

impl<E: Executor, B: Backend> CudaEngine<E, B> {
    /// Stores the UNet's parameters on the device.
    ///
    /// # Errors
    /// A tensor can't be read, or the device has no room.
    pub fn load(mut executor: E, around: Around<B>, options: EngineOptions) -> Result<Self, engine::Error> {
        let config = around.source().config().unet.clone();
        let Loaded { unet, mut parameters, joined } = RecordedUnet::load(&config);
        if options.fp8_base {
            parameters.pack();
        }
        read_all(around.source(), &parameters, |id, parameter, values| Ok(executor.store(id, parameter, &values)?))?;
        let (own, networks) = (parameters.len(), Networks::default());
        let (programs, checkpointing) = (HashMap::new(), options.gradient_checkpointing);
        let merging = !options.fp8_base;
        Ok(Self { executor, around, config, unet, parameters, joined, own, networks, checkpointing, merging, programs })
    }

    /// The device below.
    #[cfg(all(test, feature = "cuda"))]
    pub(super) fn executor(&self) -> &E {
        &self.executor
    }

    fn check(&self, rates: &[f32]) -> Result<(), engine::Error> {
        let want = self.networks.count * BLOCKS;
        if rates.len() == want {
            return Ok(());
        }
        Err(engine::Error::Request(format!("{} rates were given, the networks have {want}", rates.len())))
    }

    /// What the program of a gradient is to find.
    fn wanted(&self) -> Wanted {
        let (conditions, checkpointing, merging) = (self.around.touches_text(), self.checkpointing, self.merging);
        Wanted { rates: true, conditions, checkpointing, merging }
    }

    fn inputs<'a>(&self, shown: &Shown<'_>, text: &'a EncodedText) -> Inputs<'a> {
        let batch = shown.timesteps.len();
        let shape = [batch, self.config.in_channels, shown.height, shown.width];
        let timesteps: Vec<f32> = shown.timesteps.iter().map(|t| *t as f32).collect();
        let numbers: Vec<f32> = shown.time_ids.iter().flatten().copied().collect();
        let sizes = sinusoids(&numbers, self.around.source().config().size_embedding_width());
        let (pooled, size) = (text.pooled.len() / batch.max(1), sizes.len() / batch.max(1));
        let rows = text.pooled.chunks_exact(pooled.max(1)).zip(sizes.chunks_exact(size.max(1)));
        let tokens = text.context.len() / (batch * self.config.context_dim).max(1);
        Inputs {
            case: Case { batch, height: shown.height, width: shown.width, tokens },
            noisy: channels_last(shown.noisy, shape),
            time: sinusoids(&timesteps, self.config.model_channels),
            vector: rows.flat_map(|(pooled, sizes)| pooled.iter().chain(sizes)).copied().collect(),
            context: &text.context,
        }
    }

    /// Makes a program for these sizes, or finds it.
    fn ready(&mut self, case: Case, wanted: Wanted) -> Result<(), Error> {
        if self.programs.contains_key(&(case, wanted)) {
            return Ok(());
        }
        let recorded = RecordedUnet::record(&self.unet, &self.config, self.networks.stacks.clone(), case)?;
        let narrow = self.executor.narrow();
        let plan =
            |checkpointing| Program::plan(&recorded, Wanted { checkpointing, ..wanted }, self.networks.width, narrow);
        let mut program = plan(wanted.checkpointing)?;
        let room = self.executor.room().unwrap_or(usize::MAX);
        if program.arena.bytes > room && wanted.rates && !wanted.checkpointing {
            program = plan(true)?;
            tracing::info!("the gradient of {case:?} is computed with activation checkpointing: it lacks memory");
        }
        let books = program.books(narrow);
        tracing::debug!(?case, arena = books.arena, kept = books.kept, "planned");
        let prepared = self.executor.prepare(program)?;
        self.programs.insert((case, wanted), prepared);
        Ok(())
    }

    /// Has the forward half run, and its prediction fetched.
    fn forward(&mut self, inputs: &Inputs<'_>, wanted: Wanted, rates: &[f32]) -> Result<(), Error> {
        let case = inputs.case;
        self.ready(case, wanted)?;
        let values = self.networks.values(rates);
        let (executor, prepared) = self.prepared(case, wanted)?;
        executor.begin(prepared)?;
        let program: &Program = (*prepared).borrow();
        let (places, rates, prediction) = (program.inputs, program.rates, program.prediction);
        let numbers = [&inputs.noisy, &inputs.time, &inputs.vector, inputs.context];
        for (place, numbers) in places.into_iter().zip(numbers) {
            executor.write(prepared, place, numbers)?;
        }
        executor.write(prepared, rates, &values)?;
        executor.run(prepared, Part::Forward)?;
        executor.fetch(prepared, prediction)
    }

    /// Waits for the prediction: `[b, 4, h, w]`.
    fn predicted(&mut self, case: Case, wanted: Wanted) -> Result<Vec<f32>, Error> {
        let (executor, prepared) = self.prepared(case, wanted)?;
        let program: &Program = (*prepared).borrow();
        let prediction = program.prediction;
        let prediction = executor.fetched(prepared, prediction)?;
        Ok(channels_first(&prediction, self.shape(case)))
    }

    /// Has the backward half run after the forward half.
    fn backward(&mut self, case: Case, wanted: Wanted, aim: &Aim) -> Result<(), Error> {
        let target = channels_last(&aim.target, self.shape(case));
        let (executor, prepared) = self.prepared(case, wanted)?;
        let program: &Program = (*prepared).borrow();
        let Some([of_target, of_slopes]) = program.loss else { return Ok(()) };
        executor.write(prepared, of_target, &target)?;
        executor.write(prepared, of_slopes, &aim.slopes)?;
        executor.run(prepared, Part::Backward)
    }

    /// Waits for what the backward half finds: gradients by column, and by vector and text.
    fn found(&mut self, case: Case, wanted: Wanted) -> Result<Found, Error> {
        let (executor, prepared) = self.prepared(case, wanted)?;
        let program: &Program = (*prepared).borrow();
        if program.loss.is_none() {
            return Ok(Found::default());
        }
        let (by_column, by_conditions) = (program.by_column, program.by_conditions);
        let stretches = program.stretches.clone();
        let by_column = executor.read(prepared, by_column)?;
        let mut read = |buffer: Option<Buffer>| buffer.map(|buffer| executor.read(prepared, buffer)).transpose();
        let [by_vector, by_context] = by_conditions;
        Ok(Found { by_column, stretches, by_vector: read(by_vector)?, by_context: read(by_context)? })
    }

    /// Shape of a prediction, channels first.
    fn shape(&self, case: Case) -> [usize; 4] {
        [case.batch, self.config.out_channels, case.height, case.width]
    }

    fn prepared(&mut self, case: Case, wanted: Wanted) -> Result<(&mut E, &mut E::Prepared), Error> {
        let prepared = self.programs.get_mut(&(case, wanted)).ok_or(Error::NoPlan)?;
        Ok((&mut self.executor, prepared))
    }
}

/// What a backward half found.
#[derive(Default)]
struct Found {
    by_column: Vec<f32>,
    /// Whose columns those are.
    stretches: Vec<Stretch>,
    by_vector: Option<Vec<f32>>,
    by_context: Option<Vec<f32>>,
}

impl<E: Executor, B: Backend> GradientEngine for CudaEngine<E, B> {
    fn device(&self) -> String {
        self.around.device()
    }

    fn synchronize(&mut self) -> Result<(), engine::Error> {
        self.executor.synchronize()?;
        self.around.synchronize()
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, engine::Error> {
        self.around.encode(pixels)
    }

    fn decode(&mut self, latents: &[f32], height: usize, width: usize) -> Result<Vec<f32>, engine::Error> {
        self.around.decode(latents, height, width)
    }

    fn release_vae(&mut self) {
        self.around.release_vae();
    }

    fn attach(&mut self, networks: &[Network]) -> Result<(), engine::Error> {
        self.programs.clear();
        self.networks = Networks::default();
        self.parameters.truncate(self.own);
        self.executor.forget(self.own);
        self.around.attach(networks)?;
        self.networks = Networks::attach(networks, &self.joined, &mut self.parameters, &mut self.executor)?;
        Ok(())
    }

    fn encode_text(&mut self, prompts: &[Tokens], rates: &[f32]) -> Result<EncodedText, engine::Error> {
        self.around.encode_text(prompts, rates)
    }

    fn touches_text(&self) -> bool {
        self.around.touches_text()
    }

    fn remember_text(&mut self, prompt: Tokens, encoded: EncodedText) -> Result<(), engine::Error> {
        self.around.remember_text(prompt, encoded)
    }

    fn predict(&mut self, shown: &Shown<'_>, rates: &[f32]) -> Result<Vec<f32>, engine::Error> {
        self.check(rates)?;
        let text = self.around.encode_text(shown.prompts, rates)?;
        let inputs = self.inputs(shown, &text);
        let wanted = Wanted { rates: false, conditions: false, checkpointing: false, merging: self.merging };
        self.forward(&inputs, wanted, rates)?;
        Ok(self.predicted(inputs.case, wanted)?)
    }

    fn gradient(
        &mut self,
        batch: &Microbatch,
        rates: &[f32],
        options: &LossOptions,
    ) -> Result<Gradient, engine::Error> {
        batch.validate(self.config.in_channels)?;
        self.check(rates)?;
        let noisy = noisy(batch)?;
        let held = self.around.hold_text(&batch.prompts, rates)?;
        let inputs = self.inputs(&batch.shown(&noisy), &held.encoded);
        let case = inputs.case;
        let pooled = held.encoded.pooled.len() / batch.timesteps.len().max(1);
        let wanted = self.wanted();
        self.forward(&inputs, wanted, rates)?;
        // What the device waits for comes first; the rest is done while it computes.
        self.backward(case, wanted, &aim(batch, options)?)?;
        let prediction = self.predicted(case, wanted)?;
        let judged = judge(batch, options, &prediction)?;
        let found = self.found(case, wanted)?;
        let mut grad = self.networks.pull(&found.stretches, &found.by_column);
        if wanted.conditions {
            let width = self.config.adm_channels;
            let first =
                |by_vector: Vec<f32>| by_vector.chunks_exact(width).flat_map(|row| row[..pooled].to_vec()).collect();
            let text = self.around.pull_text(held, found.by_context, found.by_vector.map(first))?;
            grad.iter_mut().zip(text).for_each(|(rate, text)| *rate += text);
        }
        Ok(Gradient { prediction, mse: judged.mse, loss: judged.loss, grad })
    }

    fn breakdown(
        &mut self,
        batch: &Microbatch,
        rates: &[f32],
        options: &LossOptions,
    ) -> Result<Option<Breakdown>, engine::Error> {
        // So that all of it has run.
        self.gradient(batch, rates, options)?;
        let tokens = self.around.encode_text(&batch.prompts, rates)?.context.len();
        let of_one = batch.timesteps.len() * self.config.context_dim;
        let case = Case {
            batch: batch.timesteps.len(),
            height: batch.height,
            width: batch.width,
            tokens: tokens / of_one.max(1),
        };
        let wanted = self.wanted();
        Ok(Some(self.time_parts(case, wanted)?))
    }

    fn free_memory(&mut self) {
        self.around.free_memory();
    }
}
