//! The learning rate of every update: the usual schedules, by the names and formulas of diffusers.
//!
//! Updates count from 0, so a warm-up starts with a learning rate of 0.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

/// Where the polynomial schedule ends, as an absolute learning rate.
const POLYNOMIAL_END: f64 = 1e-7;

/// Why a schedule can't be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A name that none of the schedules has.
    #[error("{0:?} is no learning-rate schedule; there are {names}", names = LrScheduler::names())]
    UnknownScheduler(String),
    /// A learning rate that is negative, zero, infinite or not a number.
    #[error("learning_rate is {0}; it must be a number above 0")]
    LearningRate(f64),
    /// A polynomial schedule that would have to rise to its end.
    #[error("learning_rate is {0}; the polynomial schedule ends at {POLYNOMIAL_END:e}, so it must be above that")]
    BelowPolynomialEnd(f64),
    /// A power that is negative, infinite or not a number.
    #[error("lr_scheduler_power is {0}; it must be a number of at least 0")]
    Power(f64),
    /// A cosine schedule restarted no times.
    #[error("lr_scheduler_num_cycles is 0; it must be at least 1")]
    NoCycles,
    /// A search without updates.
    #[error("there are no updates to schedule: the search must make at least one")]
    NoUpdates,
    /// A warm-up given to the schedule that has none.
    #[error("lr_scheduler constant has no warm-up, yet lr_warmup_steps is {0}; use constant_with_warmup, or 0 steps")]
    NeedlessWarmup(u64),
    /// A warm-up that would never end.
    #[error("lr_warmup_steps is {warmup}, which leaves none of the {total} updates at the full learning rate")]
    EndlessWarmup {
        /// Updates of the warm-up.
        warmup: u64,
        /// Updates of the search.
        total: u64,
    },
}

/// The shape of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// The learning rate itself, always.
    #[default]
    Constant,
    /// A linear rise from 0, then the learning rate itself.
    ConstantWithWarmup,
    /// After the warm-up a straight line to 0.
    Linear,
    /// After the warm-up half a cosine to 0.
    Cosine,
    /// After the warm-up several half cosines, each from the full learning rate.
    CosineWithRestarts,
    /// After the warm-up a power of the part that is left, down to 1e-7.
    Polynomial,
}

impl LrScheduler {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Constant,
        Self::ConstantWithWarmup,
        Self::Linear,
        Self::Cosine,
        Self::CosineWithRestarts,
        Self::Polynomial,
    ];

    /// The name that `--lr_scheduler` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::ConstantWithWarmup => "constant_with_warmup",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::CosineWithRestarts => "cosine_with_restarts",
            Self::Polynomial => "polynomial",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for LrScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LrScheduler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|scheduler| scheduler.name() == name);
        found.ok_or_else(|| Error::UnknownScheduler(name.to_owned()))
    }
}

/// What a user chooses about the learning rate, by the reference's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Full learning rate. Default 0.1.
    pub learning_rate: f64,
    /// Shape of the schedule. Default constant.
    pub lr_scheduler: LrScheduler,
    /// Updates over which the learning rate rises from 0. Default 0.
    pub lr_warmup_steps: u64,
    /// Half cosines of `cosine_with_restarts`; no other schedule has any. Default 1.
    pub lr_scheduler_num_cycles: u32,
    /// Power of `polynomial`; no other schedule has one. Default 1.
    pub lr_scheduler_power: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            learning_rate: 0.1,
            lr_scheduler: LrScheduler::Constant,
            lr_warmup_steps: 0,
            lr_scheduler_num_cycles: 1,
            lr_scheduler_power: 1.0,
        }
    }
}

/// The learning rate of every update of one search.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    options: Options,
    total: u64,
}

impl Schedule {
    /// The schedule of a search of `total` updates.
    ///
    /// # Errors
    /// When the options contradict each other, or are out of range for so many updates.
    pub fn new(options: &Options, total: u64) -> Result<Self, Error> {
        let Options { learning_rate, lr_scheduler, lr_warmup_steps: warmup, lr_scheduler_power: power, .. } = *options;
        if !learning_rate.is_finite() || learning_rate <= 0.0 {
            return Err(Error::LearningRate(learning_rate));
        }
        if total == 0 {
            return Err(Error::NoUpdates);
        }
        if lr_scheduler == LrScheduler::Constant && warmup > 0 {
            return Err(Error::NeedlessWarmup(warmup));
        }
        if warmup >= total {
            return Err(Error::EndlessWarmup { warmup, total });
        }
        if !power.is_finite() || power < 0.0 {
            return Err(Error::Power(power));
        }
        if options.lr_scheduler_num_cycles == 0 {
            return Err(Error::NoCycles);
        }
        if lr_scheduler == LrScheduler::Polynomial && learning_rate <= POLYNOMIAL_END {
            return Err(Error::BelowPolynomialEnd(learning_rate));
        }
        Ok(Self { options: options.clone(), total })
    }

    /// The learning rate of an update, counted from 0.
    ///
    /// Defined past the last update too, as diffusers defines it: constant ones stay, cosine rises again, the others
    /// stay at their end.
    #[must_use]
    pub fn rate(&self, update: u64) -> f64 {
        let warmup = self.options.lr_warmup_steps;
        if update < warmup {
            return self.options.learning_rate * (update as f64 / warmup as f64);
        }
        self.options.learning_rate * self.factor_after_warmup(update)
    }

    /// What the full learning rate is multiplied by once the warm-up is over (`diffusers.optimization`).
    fn factor_after_warmup(&self, update: u64) -> f64 {
        let span = (self.total - self.options.lr_warmup_steps) as f64; // `new` saw to it that this is positive
        let progress = (update - self.options.lr_warmup_steps) as f64 / span;
        match self.options.lr_scheduler {
            LrScheduler::Constant | LrScheduler::ConstantWithWarmup => 1.0,
            LrScheduler::Linear => self.total.saturating_sub(update) as f64 / span,
            LrScheduler::Cosine => half_cosine(progress),
            LrScheduler::CosineWithRestarts if progress >= 1.0 => 0.0,
            LrScheduler::CosineWithRestarts => {
                half_cosine((f64::from(self.options.lr_scheduler_num_cycles) * progress) % 1.0)
            }
            LrScheduler::Polynomial => {
                let full = self.options.learning_rate;
                let left = (1.0 - progress).max(0.0);
                // At power 0 the part that is left stays 1 to the last update, and ends all the same.
                let decayed = if left > 0.0 { left.powf(self.options.lr_scheduler_power) } else { 0.0 };
                ((full - POLYNOMIAL_END) * decayed + POLYNOMIAL_END) / full
            }
        }
    }
}

/// From 1 at `progress` 0 to 0 at 1.
fn half_cosine(progress: f64) -> f64 {
    (0.5 * (1.0 + (PI * progress).cos())).max(0.0)
}

#[cfg(test)]
mod tests;
