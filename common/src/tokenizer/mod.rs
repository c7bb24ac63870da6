//! Both tokenizers of SDXL: captions to the ids that CLIP-L and OpenCLIP bigG read.
//!
//! They share CLIP's vocabulary and differ in their padding. The text is treated as the `tokenizers` library treats it
//! for CLIP: NFC, white space collapsed, lower case. (The reference also repairs odd text with ftfy first, which
//! changes nothing in ordinary captions.)

mod bpe;
mod rows;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Ids in a row of a text encoder's input.
pub const ROW: usize = 77;
/// The id that every row begins with, `<|startoftext|>`.
pub const START: u32 = 49406;
/// The id that a text ends with, `<|endoftext|>`; the first encoder's padding too.
pub const END: u32 = 49407;
/// The second encoder's padding, which is also the id of `!` within a word.
pub const PAD_CLIP_G: u32 = 0;

/// Why a tokenizer can't be made, or a prompt not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The built-in vocabulary is damaged.
    #[error("the built-in vocabulary is no list of tokens and ids: {0}; this build is damaged")]
    Vocabulary(#[from] serde_json::Error),
    /// The built-in merges are damaged.
    #[error("line {0} of the built-in merges is no pair of tokens; this build is damaged")]
    Merge(usize),
    /// The tokenizer library refused the vocabulary, or failed on a text.
    #[error("the tokenizer failed: {0}")]
    Library(String),
    /// A `max_token_length` that is not one of the three.
    #[error("max_token_length is {0}; it must be 75, 150 or 225")]
    Length(String),
}

/// How many ids of a prompt are used, marks not counted: the option `max_token_length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum TokenLength {
    /// 75, one row.
    #[default]
    T75,
    /// 150, two rows.
    T150,
    /// 225, three rows.
    T225,
}

impl TokenLength {
    /// Ids of a prompt that are used at most; what [`Tokenizers::count`] finds above this is cut.
    #[must_use]
    pub fn limit(self) -> usize {
        self.rows() * rows::INNER
    }

    /// Rows of 77 that a prompt becomes.
    #[must_use]
    pub fn rows(self) -> usize {
        match self {
            Self::T75 => 1,
            Self::T150 => 2,
            Self::T225 => 3,
        }
    }
}

impl TryFrom<u32> for TokenLength {
    type Error = Error;

    fn try_from(length: u32) -> Result<Self, Error> {
        match length {
            75 => Ok(Self::T75),
            150 => Ok(Self::T150),
            225 => Ok(Self::T225),
            other => Err(Error::Length(other.to_string())),
        }
    }
}

impl From<TokenLength> for u32 {
    fn from(length: TokenLength) -> Self {
        match length {
            TokenLength::T75 => 75,
            TokenLength::T150 => 150,
            TokenLength::T225 => 225,
        }
    }
}

impl FromStr for TokenLength {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.parse::<u32>().map_err(|_| Error::Length(text.to_owned()))?;
        Self::try_from(number)
    }
}

impl fmt::Display for TokenLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limit().fmt(f)
    }
}

/// A prompt as both text encoders read it: one, two or three rows for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tokens {
    /// For CLIP-L, padded with the end mark.
    pub clip_l: Vec<[u32; ROW]>,
    /// For OpenCLIP bigG, padded with 0.
    pub clip_g: Vec<[u32; ROW]>,
}

/// Both tokenizers, with the vocabulary built in. Making one takes some tens of milliseconds; share it.
pub struct Tokenizers {
    model: bpe::Model,
}

impl Tokenizers {
    /// Reads the built-in vocabulary.
    ///
    /// # Errors
    /// Only when the build is damaged.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { model: bpe::model()? })
    }

    /// A prompt's ids for both encoders, cut after [`TokenLength::limit`] ids.
    ///
    /// # Errors
    /// When the tokenizer library fails; no text is known on which it does.
    pub fn encode(&self, prompt: &str, length: TokenLength) -> Result<Tokens, Error> {
        let ids = bpe::ids(&self.model, prompt)?;
        Ok(Tokens { clip_l: rows::clip_l(&ids, length), clip_g: rows::clip_g(&ids, length) })
    }

    /// How many ids a prompt has, marks not counted: a caption with more than [`TokenLength::limit`] is cut.
    ///
    /// # Errors
    /// As [`Tokenizers::encode`].
    pub fn count(&self, prompt: &str) -> Result<usize, Error> {
        Ok(bpe::ids(&self.model, prompt)?.len())
    }
}

impl fmt::Debug for Tokenizers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
