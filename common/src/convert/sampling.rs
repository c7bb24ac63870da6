//! Sample pictures: what is told of them, both ways.

use super::check::{length, name, rates, required, sha256, text, within, words};
use super::{Error, MAX_MESSAGE, MAX_STEPS};
use crate::sampling::{MAX_PROMPT, MAX_PROMPTS, Options, Prompt};
use crate::spec::SearchSpec;
use lora_rates_proto::v1;

/// A worker is to sample the picture of a prompt under these rates, put it into the coordinator's store as a file, and say
/// [`Drawn`].
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// The search.
    pub search_id: String,
    /// Steps done.
    pub step: u64,
    /// Place of the prompt.
    pub item: u32,
    /// The 20 N rates.
    pub rates: Vec<f32>,
}

/// What became of a picture to be sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// The search.
    pub search_id: String,
    /// Steps done.
    pub step: u64,
    /// Place of the prompt.
    pub item: u32,
    /// The SHA-256 of the PNG, 64 hexadecimal digits, or why there is none.
    pub result: Result<String, String>,
}

/// A picture that was sampled, or that could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePicture {
    /// Steps done before it.
    pub step: u64,
    /// Place of its prompt.
    pub item: u32,
    /// What its initial noise was keyed by.
    pub seed: u64,
    /// The SHA-256 of the PNG, 64 hexadecimal digits, or why there is none.
    pub result: Result<String, String>,
}

impl From<&Options> for v1::SamplingOptions {
    fn from(options: &Options) -> Self {
        Self {
            prompts: options.prompts.iter().map(Into::into).collect(),
            every_n_steps: options.every_n_steps,
            at_first: options.at_first,
        }
    }
}

impl TryFrom<v1::SamplingOptions> for Options {
    type Error = Error;

    /// What [`Options::validate`] knows is left to it.
    fn try_from(options: v1::SamplingOptions) -> Result<Self, Error> {
        length("spec.sampling.prompts", options.prompts.len(), "prompts", 0..=MAX_PROMPTS)?;
        let prompts = options.prompts.into_iter().enumerate();
        let prompts = prompts.map(|(at, it)| prompt(&format!("spec.sampling.prompts[{at}]"), it));
        Ok(Self {
            prompts: prompts.collect::<Result<_, _>>()?,
            every_n_steps: within("spec.sampling.every_n_steps", options.every_n_steps, 0..=MAX_STEPS)?,
            at_first: options.at_first,
        })
    }
}

impl From<&Prompt> for v1::SamplePrompt {
    fn from(prompt: &Prompt) -> Self {
        let Prompt { prompt, negative_prompt, width, height, seed, scale, steps } = prompt.clone();
        Self { prompt, negative_prompt, width, height, seed, scale, steps }
    }
}

fn prompt(field: &str, message: v1::SamplePrompt) -> Result<Prompt, Error> {
    let v1::SamplePrompt { prompt, negative_prompt, width, height, seed, scale, steps } = message;
    let prompt = text(&format!("{field}.prompt"), prompt, MAX_PROMPT)?;
    let negative_prompt = text(&format!("{field}.negative_prompt"), negative_prompt, MAX_PROMPT)?;
    let prompt = Prompt { prompt, negative_prompt, width, height, seed, scale, steps };
    prompt.validate().map_err(|error| Error::spec(field, error))?;
    Ok(prompt)
}

impl From<&SamplePicture> for v1::SamplePicture {
    fn from(picture: &SamplePicture) -> Self {
        use v1::sample_picture::Result;
        let SamplePicture { step, item, seed, result } = picture.clone();
        let result = match result {
            Ok(sha256) => Result::Sha256(sha256),
            Err(failure) => Result::Failure(failure),
        };
        Self { step, item, seed, result: Some(result) }
    }
}

impl TryFrom<v1::SamplePicture> for SamplePicture {
    type Error = Error;

    fn try_from(picture: v1::SamplePicture) -> Result<Self, Error> {
        use v1::sample_picture::Result as Found;
        let v1::SamplePicture { step, item, seed, result } = picture;
        let result = match required("sample_picture.result", result)? {
            Found::Sha256(digest) => Ok(sha256("sample_picture.sha256", digest)?),
            Found::Failure(failure) => Err(words(failure, MAX_MESSAGE)),
        };
        Ok(Self {
            step: within("sample_picture.step", step, 0..=MAX_STEPS)?,
            item: within("sample_picture.item", item, 0..=MAX_PROMPTS as u32 - 1)?,
            seed,
            result,
        })
    }
}

impl From<Draw> for v1::Draw {
    fn from(Draw { search_id, step, item, rates }: Draw) -> Self {
        Self { search_id, step, item, rates }
    }
}

/// A picture to be sampled within a search.
///
/// # Errors
/// When the search has no such prompt, or a rate is not finite.
pub fn draw(message: v1::Draw, spec: &SearchSpec) -> Result<Draw, Error> {
    let v1::Draw { search_id, step, item, rates: numbers } = message;
    let prompts = spec.sampling.prompts.len();
    if usize::try_from(item).map_or(true, |item| item >= prompts) {
        return Err(Error::range("draw.item", item, format!("below {prompts}")));
    }
    Ok(Draw {
        search_id: name("draw.search_id", search_id)?,
        step: within("draw.step", step, 0..=MAX_STEPS)?,
        item,
        rates: rates("draw.rates", numbers)?,
    })
}

impl From<Drawn> for v1::Drawn {
    fn from(Drawn { search_id, step, item, result }: Drawn) -> Self {
        use v1::drawn::Result;
        let result = match result {
            Ok(sha256) => Result::Sha256(sha256),
            Err(failure) => Result::Failure(failure),
        };
        Self { search_id, step, item, result: Some(result) }
    }
}

impl TryFrom<v1::Drawn> for Drawn {
    type Error = Error;

    fn try_from(drawn: v1::Drawn) -> Result<Self, Error> {
        use v1::drawn::Result as Found;
        let v1::Drawn { search_id, step, item, result } = drawn;
        let result = match required("drawn.result", result)? {
            Found::Sha256(digest) => Ok(sha256("drawn.sha256", digest)?),
            Found::Failure(failure) => Err(words(failure, MAX_MESSAGE)),
        };
        let (search_id, step) = (name("drawn.search_id", search_id)?, within("drawn.step", step, 0..=MAX_STEPS)?);
        Ok(Self { search_id, step, item, result })
    }
}
