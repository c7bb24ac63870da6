//! `--optimizer_args`: AdamW's options as a list of `key=value`.

use super::{AdamW, Error};

/// The keys there are.
const KEYS: &str = "betas, eps, weight_decay";

/// What is wrong with an entry of `--optimizer_args`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ArgumentError {
    /// An entry without an equals sign.
    #[error("optimizer_args: {0:?} is not of the form key=value")]
    NoValue(String),
    /// A key that AdamW has not.
    #[error("optimizer_args: AdamW has no option {0:?}; it has {KEYS}")]
    UnknownKey(String),
    /// A key given twice.
    #[error("optimizer_args: {0} is given twice")]
    Repeated(&'static str),
    /// A value that is no number.
    #[error("optimizer_args: {value:?} is no number for {key}")]
    NotANumber {
        /// The option.
        key: &'static str,
        /// What it was given.
        value: String,
    },
    /// Betas that are not two.
    #[error("optimizer_args: betas takes two numbers, as in betas=0.9,0.999, not {0:?}")]
    NotTwoBetas(String),
    /// A number outside the option's range.
    #[error("optimizer_args: {0}")]
    Range(#[from] Error),
}

impl AdamW {
    /// Reads `weight_decay=0.01 betas=0.9,0.999 eps=1e-8`, one entry per `key=value`.
    ///
    /// What is not named keeps its default. The two betas may stand in parentheses.
    ///
    /// # Errors
    /// On an entry that is not of that form, names no option or one twice, or gives a number out of range.
    pub fn parse<S: AsRef<str>>(args: &[S]) -> Result<Self, ArgumentError> {
        let (mut betas, mut eps, mut weight_decay) = (None, None, None);
        for arg in args.iter().map(AsRef::as_ref) {
            let (key, value) = arg.split_once('=').ok_or_else(|| ArgumentError::NoValue(arg.to_owned()))?;
            match key.trim() {
                "betas" => set("betas", &mut betas, two_betas(value)?)?,
                "eps" => set("eps", &mut eps, number("eps", value)?)?,
                "weight_decay" => set("weight_decay", &mut weight_decay, number("weight_decay", value)?)?,
                other => return Err(ArgumentError::UnknownKey(other.to_owned())),
            }
        }
        let default = Self::default();
        let options = Self {
            betas: betas.unwrap_or(default.betas),
            eps: eps.unwrap_or(default.eps),
            weight_decay: weight_decay.unwrap_or(default.weight_decay),
        };
        options.validate()?;
        Ok(options)
    }
}

/// Fills a slot that must be empty.
fn set<T>(key: &'static str, slot: &mut Option<T>, value: T) -> Result<(), ArgumentError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ArgumentError::Repeated(key)),
    }
}

fn number(key: &'static str, value: &str) -> Result<f64, ArgumentError> {
    let parsed = value.trim().parse::<f64>().ok().filter(|number| !number.is_nan());
    parsed.ok_or_else(|| ArgumentError::NotANumber { key, value: value.to_owned() })
}

fn two_betas(value: &str) -> Result<(f64, f64), ArgumentError> {
    let trimmed = value.trim();
    let inner = trimmed.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(trimmed);
    let betas: Vec<f64> = inner.split(',').map(|beta| number("betas", beta)).collect::<Result<_, _>>()?;
    match betas[..] {
        [first, second] => Ok((first, second)),
        _ => Err(ArgumentError::NotTwoBetas(value.to_owned())),
    }
}
