//! One search on this worker: its pictures and prompts made ready, and its microbatches computed.

use crate::cache::Cache;
use crate::engine::{self, EncodedText, GradientEngine, LATENT_CHANNELS, Microbatch, Moments};
use crate::sampler::Task;
use lora_rates_common::dataset::Image;
use lora_rates_common::network::{self, Unmatched, open_all};
use lora_rates_common::noise::{self, Key};
use lora_rates_common::plan::PlanSample;
use lora_rates_common::sampling;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::spec::SearchSpec;
use lora_rates_common::tokenizer::{self, Tokenizers, Tokens};
use lora_rates_common::{picture, tensor_file};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a worker can't work for a search.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A network can't be used.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// A picture can't be read.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// A caption can't be read.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// A result can't be kept.
    #[error(transparent)]
    Cache(#[from] tensor_file::Error),
    /// A file is not the one that the search was made with.
    #[error("{} has changed since the search was made: start a new search, or put the file back", .0.display())]
    Changed(PathBuf),
    /// A latent became infinite or NaN.
    #[error("the VAE makes {} infinite or NaN: the VAE's weights are damaged; try another with --vae", .0.display())]
    Latent(PathBuf),
    /// The coordinator asked for what is not there.
    #[error("the coordinator asked for picture {0}, which the search does not have")]
    NoImage(u32),
    /// The coordinator asked for a sample picture that is not there.
    #[error("the coordinator asked for a picture of prompt {0}, which the search does not have")]
    NoPrompt(u32),
    /// A prompt can't be sampled.
    #[error(transparent)]
    Sampling(#[from] sampling::Error),
    /// The coordinator asked for a picture before it was encoded.
    #[error("the coordinator asked for {}, which is not encoded yet", .0.display())]
    NoEncoding(PathBuf),
}

/// What a worker is busy with before the first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// In words.
    pub activity: &'static str,
    /// How many are done.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// Where a picture's file is.
#[derive(Clone, Debug)]
pub enum Picture {
    /// On this machine.
    File(PathBuf),
    /// Here.
    Bytes(Arc<[u8]>),
}

/// Pictures by their numbers.
pub type Pictures = HashMap<u32, Picture>;

/// A search that is ready to be computed.
#[derive(Debug)]
pub struct Search {
    spec: Arc<SearchSpec>,
    networks: Vec<PathBuf>,
    cache: Option<Cache>,
    prompts: Vec<Tokens>,
    /// Those of the sample pictures, each with its negative before it.
    sampled: Vec<[Tokens; 2]>,
    /// By picture and mirroring; empty if latents are not cached.
    latents: HashMap<(u32, bool), Latents>,
}

/// Scaled latents `[4, height, width]`.
#[derive(Clone, Debug)]
struct Latents {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Search {
    /// A search whose networks lie in these files. It computes nothing before [`Self::attach`].
    ///
    /// # Errors
    /// A caption can't be read.
    pub fn new(spec: Arc<SearchSpec>, networks: Vec<PathBuf>, cache: Option<Cache>) -> Result<Self, Error> {
        let tokenizers = Tokenizers::new()?;
        let length = spec.options.max_token_length;
        let tokens = |image: &Image| tokenizers.encode(&image.caption, length);
        let prompts = spec.images.iter().map(tokens).collect::<Result<Vec<_>, _>>()?;
        let both = |prompt: &sampling::Prompt| {
            Ok([tokenizers.encode(&prompt.negative_prompt, length)?, tokenizers.encode(&prompt.prompt, length)?])
        };
        let sampled = spec.sampling.prompts.iter().map(both).collect::<Result<Vec<_>, tokenizer::Error>>()?;
        Ok(Self { spec, networks, cache, prompts, sampled, latents: HashMap::new() })
    }

    /// Attaches the networks to the engine's model and encodes the captions.
    ///
    /// # Errors
    /// [`Error`].
    pub fn attach(
        &self,
        engine: &mut dyn GradientEngine,
        config: &SdxlConfig,
        told: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        attach(engine, config, &self.spec, &self.networks, told)?;
        if !engine.touches_text() {
            encode_prompts(engine, self.cache.as_ref(), &self.spec, &self.prompts, told)?;
        }
        Ok(())
    }

    /// What the search is made of.
    pub fn spec(&self) -> &SearchSpec {
        &self.spec
    }

    /// Encodes a picture, and keeps what it needs of that.
    ///
    /// # Errors
    /// [`Error`].
    pub fn encode(
        &mut self,
        engine: &mut dyn GradientEngine,
        number: u32,
        flip: bool,
        picture: &Picture,
    ) -> Result<Moments, Error> {
        let image = self.image(number)?;
        let known = self.cache.as_ref().and_then(|cache| cache.moments(image, flip));
        let moments = match known {
            Some(moments) => moments,
            None => {
                let moments = encode(engine, image, flip, picture)?;
                self.cache.as_ref().map_or(Ok(()), |cache| cache.keep_moments(image, flip, &moments))?;
                moments
            }
        };
        self.learn(number, flip, &moments)?;
        Ok(moments)
    }

    /// Takes what another worker has encoded.
    ///
    /// # Errors
    /// There is no such picture, or the moments are none of a picture.
    pub fn learn(&mut self, number: u32, flip: bool, moments: &Moments) -> Result<(), Error> {
        if self.spec.options.cache_latents {
            // An image is drawn once in a search, its mirror image apart from it.
            let sample = u64::from(number) << 1 | u64::from(flip);
            let key = Key { seed: self.spec.options.seed, step: 0, sample };
            let latents = draw(self.image(number)?, moments, key)?;
            self.latents.insert((number, flip), latents);
        }
        Ok(())
    }

    /// A microbatch as the engine takes it. `pictures` has those of the samples if latents are not cached.
    ///
    /// # Errors
    /// [`Error`].
    pub fn microbatch(
        &self,
        engine: &mut dyn GradientEngine,
        samples: &[PlanSample],
        pictures: &Pictures,
    ) -> Result<Microbatch, Error> {
        let mut drawn = Vec::with_capacity(samples.len());
        for sample in samples {
            let image = self.image(sample.image)?;
            drawn.push(match (self.latents.get(&(sample.image, sample.flip)), pictures.get(&sample.image)) {
                (Some(latents), _) => Cow::Borrowed(latents),
                // A latent encoded for this use alone is drawn for this use alone. The step after the last there may
                // be is none of a search's, and wraps only in what a damaged coordinator asks for.
                (None, Some(picture)) => {
                    let Key { seed, step, sample: id } = sample.noise_key;
                    let key = Key { seed, step: step.wrapping_add(1), sample: id };
                    Cow::Owned(draw(image, &encode(engine, image, sample.flip, picture)?, key)?)
                }
                (None, None) => return Err(Error::NoEncoding(image.path.clone())),
            });
        }
        self.gather(samples, &drawn)
    }

    /// A microbatch all of whose latents are here already, which therefore needs no engine.
    pub fn prepared(&self, samples: &[PlanSample]) -> Option<Microbatch> {
        let known = |sample: &PlanSample| self.latents.get(&(sample.image, sample.flip)).map(Cow::Borrowed);
        self.gather(samples, &samples.iter().map(known).collect::<Option<Vec<_>>>()?).ok()
    }

    fn gather(&self, samples: &[PlanSample], drawn: &[Cow<'_, Latents>]) -> Result<Microbatch, Error> {
        let offset = self.spec.options.noise_offset;
        let noise = |(sample, latents): (&PlanSample, &Cow<'_, Latents>)| {
            let mut noise = noise::latent_noise(sample.noise_key, latents.values.len());
            if offset > 0.0 {
                noise::add_by_channel(&mut noise, &noise::noise_offset(sample.noise_key, LATENT_CHANNELS, offset));
            }
            if sample.negated {
                noise.iter_mut().for_each(|value| *value = -*value);
            }
            noise
        };
        // A millisecond a sample, for which a GPU would wait.
        let noises: Vec<_> = samples.par_iter().zip(drawn).map(noise).collect();
        let mut batch = Microbatch::default();
        for ((sample, latents), noise) in samples.iter().zip(drawn).zip(noises) {
            let image = self.image(sample.image)?;
            let place = usize::try_from(sample.image).unwrap_or(usize::MAX);
            let prompt = self.prompts.get(place).ok_or(Error::NoImage(sample.image))?;
            (batch.height, batch.width) = (latents.height, latents.width);
            batch.latents.extend(&latents.values);
            batch.noise.extend(noise);
            batch.timesteps.push(sample.timestep);
            batch.prompts.push(prompt.clone());
            batch.time_ids.push(image.fit.time_ids(image.size, sample.flip));
            batch.loss_weights.push(image.loss_weight.into());
        }
        Ok(batch)
    }

    /// The sample picture of a prompt.
    ///
    /// # Errors
    /// There is no such prompt.
    pub fn sampling(&self, item: u32) -> Result<Task, Error> {
        let place = usize::try_from(item).unwrap_or(usize::MAX);
        let prompt = self.spec.sampling.prompts.get(place).zip(self.sampled.get(place));
        let (prompt, tokens) = prompt.ok_or(Error::NoPrompt(item))?;
        let options = &self.spec.options;
        Ok(Task::new(prompt, tokens.clone(), options.seed, options.loss.v_parameterization)?)
    }

    fn image(&self, number: u32) -> Result<&Image, Error> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        self.spec.images.get(place).ok_or(Error::NoImage(number))
    }
}

fn attach(
    engine: &mut dyn GradientEngine,
    config: &SdxlConfig,
    spec: &SearchSpec,
    paths: &[PathBuf],
    told: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    told(Progress { activity: "attaching networks", done: 0, total: spec.networks.len() });
    let unmatched = if spec.options.skip_unmatched_keys { Unmatched::Skip } else { Unmatched::Refuse };
    let networks = open_all(paths, config, unmatched)?;
    for (network, told) in networks.iter().zip(&spec.networks) {
        if network.sha256 != told.sha256 {
            return Err(Error::Changed(told.path.clone()));
        }
    }
    Ok(engine.attach(&networks)?)
}

fn encode_prompts(
    engine: &mut dyn GradientEngine,
    cache: Option<&Cache>,
    spec: &SearchSpec,
    prompts: &[Tokens],
    told: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let precision = spec.options.mixed_precision;
    // No attached network changes the text encoders: any rates give the same.
    let rates = vec![0.0; spec.networks.len() * lora_rates_common::block::BLOCKS];
    let total = prompts.len();
    for (done, prompt) in prompts.iter().enumerate() {
        told(Progress { activity: "encoding captions", done, total });
        let known: Option<EncodedText> = cache.and_then(|cache| cache.text(prompt, precision));
        match known {
            Some(known) => engine.remember_text(prompt.clone(), known)?,
            None => {
                let encoded = engine.encode_text(std::slice::from_ref(prompt), &rates)?;
                cache.map_or(Ok(()), |cache| cache.keep_text(prompt, precision, &encoded))?;
            }
        }
    }
    told(Progress { activity: "encoding captions", done: total, total });
    Ok(())
}

fn encode(engine: &mut dyn GradientEngine, image: &Image, flip: bool, picture: &Picture) -> Result<Moments, Error> {
    let picture = match picture {
        Picture::File(path) => picture::decode(&picture::read(path)?, &image.path)?,
        Picture::Bytes(bytes) => picture::decode(bytes, &image.path)?,
    };
    if picture.dimensions() != image.size {
        return Err(Error::Changed(image.path.clone()));
    }
    let moments = engine.encode(&picture::prepare(&picture, &image.fit, flip)?)?;
    match moments.values.iter().all(|value| value.is_finite()) {
        true => Ok(moments),
        false => Err(Error::Latent(image.path.clone())),
    }
}

fn draw(image: &Image, moments: &Moments, key: Key) -> Result<Latents, Error> {
    let noise = noise::posterior_noise(key, moments.values.len() / 2);
    let values = moments.sample(&noise);
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(Latents { height: moments.height, width: moments.width, values }),
        false => Err(Error::Latent(image.path.clone())),
    }
}
