//! One search on this worker: its pictures and prompts made ready, and its microbatches computed.

use crate::cache::Cache;
use crate::engine::{self, EncodedText, Gradient, GradientEngine, Microbatch, Moments};
use lora_rates_common::dataset::Image;
use lora_rates_common::network::{self, Unmatched, open_all};
use lora_rates_common::noise::{self, Key};
use lora_rates_common::plan::{self, PlanSample};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::spec::SearchSpec;
use lora_rates_common::tokenizer::{self, Tokenizers, Tokens};
use lora_rates_common::{picture, tensor_file};
use std::collections::HashMap;
use std::path::PathBuf;

/// Channels of a latent.
const CHANNELS: usize = 4;

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

/// A search that is ready to be computed.
#[derive(Debug)]
pub struct Search {
    spec: SearchSpec,
    prompts: Vec<Tokens>,
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
    /// Attaches the networks, encodes pictures and prompts.
    ///
    /// # Errors
    /// [`Error`].
    pub fn prepare(
        engine: &mut dyn GradientEngine,
        config: &SdxlConfig,
        cache: Option<&Cache>,
        spec: SearchSpec,
        told: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        attach(engine, config, &spec, told)?;
        let tokenizers = Tokenizers::new()?;
        let length = spec.options.max_token_length;
        let tokens = |image: &Image| tokenizers.encode(&image.caption, length);
        let prompts = spec.images.iter().map(tokens).collect::<Result<Vec<_>, _>>()?;
        if !engine.touches_text() {
            encode_prompts(engine, cache, &spec, &prompts, told)?;
        }
        let mut search = Self { spec, prompts, latents: HashMap::new() };
        if search.spec.options.cache_latents {
            search.encode_pictures(engine, cache, told)?;
            engine.release_vae();
        }
        Ok(search)
    }

    /// Loss and gradient of a microbatch under these rates.
    ///
    /// # Errors
    /// [`Error`].
    pub fn gradient(
        &self,
        engine: &mut dyn GradientEngine,
        batch: &plan::Microbatch,
        rates: &[f32],
    ) -> Result<Gradient, Error> {
        let batch = self.microbatch(engine, &batch.samples)?;
        Ok(engine.gradient(&batch, rates, &self.spec.options.loss)?)
    }

    fn microbatch(&self, engine: &mut dyn GradientEngine, samples: &[PlanSample]) -> Result<Microbatch, Error> {
        let mut batch = Microbatch::default();
        for sample in samples {
            let place = usize::try_from(sample.image).unwrap_or(usize::MAX);
            let (Some(image), Some(prompt)) = (self.spec.images.get(place), self.prompts.get(place)) else {
                return Err(Error::NoImage(sample.image));
            };
            let latents = match self.latents.get(&(sample.image, sample.flip)) {
                Some(latents) => latents.clone(),
                // A latent encoded for this use alone is drawn for this use alone.
                None => {
                    let Key { seed, step, sample: id } = sample.noise_key;
                    let key = Key { seed, step: step + 1, sample: id };
                    draw(image, &encode(engine, image, sample.flip)?, key)?
                }
            };
            let mut noise = noise::latent_noise(sample.noise_key, latents.values.len());
            let offset = self.spec.options.noise_offset;
            if offset > 0.0 {
                noise::add_by_channel(&mut noise, &noise::noise_offset(sample.noise_key, CHANNELS, offset));
            }
            (batch.height, batch.width) = (latents.height, latents.width);
            batch.latents.extend(latents.values);
            batch.noise.extend(noise);
            batch.timesteps.push(sample.timestep);
            batch.prompts.push(prompt.clone());
            batch.time_ids.push(image.fit.time_ids(image.size, sample.flip));
            batch.loss_weights.push(image.loss_weight.into());
        }
        Ok(batch)
    }

    fn encode_pictures(
        &mut self,
        engine: &mut dyn GradientEngine,
        cache: Option<&Cache>,
        told: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let flips: &[bool] = if self.spec.options.flip_aug { &[false, true] } else { &[false] };
        let total = self.spec.images.len() * flips.len();
        for (index, image) in (0u32..).zip(&self.spec.images) {
            for &flip in flips {
                told(Progress { activity: "encoding pictures", done: self.latents.len(), total });
                let known = cache.and_then(|cache| cache.moments(image, flip));
                let moments = match known {
                    Some(moments) => moments,
                    None => {
                        let moments = encode(engine, image, flip)?;
                        cache.map_or(Ok(()), |cache| cache.keep_moments(image, flip, &moments))?;
                        moments
                    }
                };
                // An image is drawn once in a search, its mirror image apart from it.
                let sample = u64::from(index) << 1 | u64::from(flip);
                let key = Key { seed: self.spec.options.seed, step: 0, sample };
                self.latents.insert((index, flip), draw(image, &moments, key)?);
            }
        }
        told(Progress { activity: "encoding pictures", done: total, total });
        Ok(())
    }
}

fn attach(
    engine: &mut dyn GradientEngine,
    config: &SdxlConfig,
    spec: &SearchSpec,
    told: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    told(Progress { activity: "attaching networks", done: 0, total: spec.networks.len() });
    let unmatched = if spec.options.skip_unmatched_keys { Unmatched::Skip } else { Unmatched::Refuse };
    let paths: Vec<PathBuf> = spec.networks.iter().map(|network| network.path.clone()).collect();
    let networks = open_all(&paths, config, unmatched)?;
    for (network, told) in networks.iter().zip(&spec.networks) {
        if network.sha256 != told.sha256 {
            return Err(Error::Changed(network.path.clone()));
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

fn encode(engine: &mut dyn GradientEngine, image: &Image, flip: bool) -> Result<Moments, Error> {
    let bytes = picture::read(&image.path)?;
    let picture = picture::decode(&bytes, &image.path)?;
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
