//! Sample pictures: what is drawn from prompts while a search goes on, and when. They never touch its numbers.

mod euler;
mod prompts;
#[cfg(test)]
mod tests;

pub use euler::{Euler, guided};
pub use prompts::{Defaults, FileError, parse, read};

use crate::dataset::buckets::MULTIPLE;
use crate::noise;
use crate::sdxl::config::SIZE_NUMBERS;
use serde::{Deserialize, Serialize};

/// Most prompts of a search.
pub const MAX_PROMPTS: usize = 256;
/// Longest prompt, in bytes.
pub const MAX_PROMPT: usize = 64 << 10;
/// Longest side of a sample picture, in pixels.
pub const MAX_SIDE: u32 = 4096;
/// Largest guidance scale.
pub const MAX_SCALE: f64 = 100.0;
/// Most steps of the sampler: its timesteps are whole, distinct and begin at 1.
pub const MAX_STEPS: u32 = 999;
/// Pixels of a picture for each of its latents, in both directions.
pub const LATENT_SIDE: u32 = 8;

/// Why a prompt can't be sampled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A number out of range.
    #[error("{name} is {value}; it must be {range}")]
    Range {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be, in words.
        range: String,
    },
    /// When to sample, but not what.
    #[error("sample pictures are asked for without a prompt")]
    NoPrompts,
}

/// The sample pictures of a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// What is drawn, each at every time.
    pub prompts: Vec<Prompt>,
    /// Steps between two times; 0: only at the end, and perhaps at the beginning.
    pub every_n_steps: u64,
    /// Before the first step too.
    pub at_first: bool,
}

/// What a picture is drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// What is to be seen.
    pub prompt: String,
    /// What the guidance leads away from; encoded as it is, also when it is empty.
    pub negative_prompt: String,
    /// In pixels, a multiple of 32.
    pub width: u32,
    /// In pixels, a multiple of 32.
    pub height: u32,
    /// Keys the initial noise; none: the search's seed.
    pub seed: Option<u64>,
    /// Guidance: 1 is none, 0 is the negative prompt alone.
    pub scale: f64,
    /// Steps of the sampler.
    pub steps: u32,
}

impl Options {
    /// Whether pictures are drawn after so many steps; `last`: no step follows.
    #[must_use]
    pub fn is_due(&self, step: u64, last: bool) -> bool {
        let regular = self.every_n_steps > 0 && step > 0 && step.is_multiple_of(self.every_n_steps);
        !self.prompts.is_empty() && (last || regular || (step == 0 && self.at_first))
    }

    /// Checks that all of it can be sampled.
    ///
    /// # Errors
    /// For the first thing that can't.
    pub fn validate(&self) -> Result<(), Error> {
        if self.prompts.len() > MAX_PROMPTS {
            let value = self.prompts.len().to_string();
            return Err(Error::Range { name: "the number of prompts", value, range: format!("at most {MAX_PROMPTS}") });
        }
        if self.prompts.is_empty() && (self.every_n_steps > 0 || self.at_first) {
            return Err(Error::NoPrompts);
        }
        self.prompts.iter().try_for_each(Prompt::validate)
    }
}

impl Prompt {
    /// Checks that it can be sampled.
    ///
    /// # Errors
    /// For the first number out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let texts = [("the prompt's length", &self.prompt), ("the negative prompt's length", &self.negative_prompt)];
        if let Some((name, text)) = texts.into_iter().find(|(_, text)| text.len() > MAX_PROMPT) {
            let (value, range) = (text.len().to_string(), format!("at most {MAX_PROMPT} bytes"));
            return Err(Error::Range { name, value, range });
        }
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if !(MULTIPLE..=MAX_SIDE).contains(&side) || !side.is_multiple_of(MULTIPLE) {
                let range = format!("a multiple of {MULTIPLE} from {MULTIPLE} to {MAX_SIDE}");
                return Err(Error::Range { name, value: side.to_string(), range });
            }
        }
        if !(0.0..=MAX_SCALE).contains(&self.scale) {
            let range = format!("a number from 0 to {MAX_SCALE}");
            return Err(Error::Range { name: "scale", value: self.scale.to_string(), range });
        }
        if !(1..=MAX_STEPS).contains(&self.steps) {
            let range = format!("from 1 to {MAX_STEPS}");
            return Err(Error::Range { name: "steps", value: self.steps.to_string(), range });
        }
        Ok(())
    }

    /// Height and width of the latents.
    #[must_use]
    pub fn latent(&self) -> (usize, usize) {
        ((self.height / LATENT_SIDE) as usize, (self.width / LATENT_SIDE) as usize)
    }

    /// What the model is told of the picture's size: original height and width, crop top and left, target height and
    /// width. It is whole and not cut.
    #[must_use]
    pub fn time_ids(&self) -> [f32; SIZE_NUMBERS] {
        let (width, height) = (self.width as f32, self.height as f32);
        [height, width, 0.0, 0.0, height, width]
    }

    /// The noise that the picture begins with, standard normals `[channels, height / 8, width / 8]`, under the prompt's
    /// seed or else this one.
    #[must_use]
    pub fn noise(&self, channels: usize, seed: u64) -> Vec<f32> {
        let (height, width) = self.latent();
        noise::sampling_noise(self.seed.unwrap_or(seed), channels * height * width)
    }
}
