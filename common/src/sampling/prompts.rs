//! Files of prompts, in the syntax of sd-scripts: a prompt a line, options after it.

use super::{MAX_PROMPTS, Prompt};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Largest file of prompts, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// What a line may say after its prompt.
const KNOWN: &str = "--n (negative prompt), --w (width), --h (height), --d (seed), --l (scale) and --s (steps)";

/// What is wrong with a file of prompts.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refuses.
    #[error("can't read the prompts {}: {source}; check the path of --sample_prompts", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{} is a .{kind} file of prompts, which is not read: write a prompt a line into a .txt file", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// Its extension.
        kind: String,
    },
    /// Something that is no text, or too much of it.
    #[error("{} is no text file of prompts of at most 4 MiB", .0.display())]
    NoText(PathBuf),
    /// There is nothing to sample.
    #[error("{} has no prompt: write one a line", .0.display())]
    Empty(PathBuf),
    /// Too many prompts.
    #[error("{} has {found} prompts; at most {MAX_PROMPTS} are sampled", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many it has.
        found: usize,
    },
    /// A line that makes no sense.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it, and what it must be.
        what: String,
    },
}

/// What a line that says nothing of it gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The guidance's scale.
    pub scale: f64,
    /// Steps of the sampler.
    pub steps: u32,
}

impl Defaults {
    /// Pictures of this width and height, with the scale and steps of sd-scripts.
    #[must_use]
    pub fn of_size(width: u32, height: u32) -> Self {
        Self { width, height, scale: 7.5, steps: 30 }
    }
}

/// The prompts of a file.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path, defaults: Defaults) -> Result<Vec<Prompt>, FileError> {
    let kind = path.extension().map(|kind| kind.to_string_lossy().to_lowercase()).unwrap_or_default();
    if ["toml", "json"].contains(&kind.as_str()) {
        return Err(FileError::Kind { path: path.to_owned(), kind });
    }
    let unreadable = |source| FileError::Read { path: path.to_owned(), source };
    let facts = fs::metadata(path).map_err(unreadable)?;
    if facts.is_file() && facts.len() > MAX_BYTES {
        return Err(FileError::NoText(path.to_owned()));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| FileError::NoText(path.to_owned()))?;
    let mut prompts = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what| FileError::Line { path: path.to_owned(), line: number + 1, what };
        prompts.push(parse(line, defaults).map_err(wrong)?);
    }
    match prompts.len() {
        0 => Err(FileError::Empty(path.to_owned())),
        found if found > MAX_PROMPTS => Err(FileError::TooMany { path: path.to_owned(), found }),
        _ => Ok(prompts),
    }
}

/// One line: a prompt, and what follows each ` --` after it.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(line: &str, defaults: Defaults) -> Result<Prompt, String> {
    let mut parts = line.split(" --");
    let text = parts.next().unwrap_or_default().trim();
    if text.is_empty() || text.starts_with("--") {
        return Err("there is no prompt before the options".to_owned());
    }
    let Defaults { width, height, scale, steps } = defaults;
    let (prompt, negative_prompt) = (text.to_owned(), String::new());
    let mut found = Prompt { prompt, negative_prompt, width, height, seed: None, scale, steps };
    for part in parts {
        let (option, value) = part.trim().split_once(char::is_whitespace).unwrap_or((part.trim(), ""));
        let value = value.trim();
        match option.to_lowercase().as_str() {
            "n" => found.negative_prompt = value.to_owned(),
            "w" => found.width = number(option, value)?,
            "h" => found.height = number(option, value)?,
            "d" => found.seed = Some(number(option, value)?),
            "l" => found.scale = number(option, value)?,
            "s" => found.steps = number(option, value)?,
            "ss" => return Err("--ss: the sampler is Euler; more samplers come later".to_owned()),
            _ => return Err(format!("there is no option --{option}; there are {KNOWN}")),
        }
    }
    found.validate().map_err(|error| error.to_string())?;
    Ok(found)
}

fn number<N: FromStr>(option: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("--{option} {value:?} is no number that it takes"))
}
