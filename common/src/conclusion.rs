//! What is measured at the end of a search: which small rates can be left out, and which rates the data determine.
//!
//! All of it compares held-out losses of the same samples with the same noise, picture by picture, so that what is common
//! to both cancels.

use crate::penalty;
use crate::spec::{Error, SearchOptions};
use crate::validation::Losses;
use serde::{Deserialize, Serialize};

/// How far rates are moved to measure the curvature.
pub const SHIFT: f64 = 0.25;
/// Thresholds that are tried: the one asked for, and each half of the one before.
const THRESHOLDS: usize = 6;
/// How far the penalty may move a rate that counts as determined, unless the user gives the bound itself.
const MOVED: f64 = 0.1;
/// Standard errors that a curvature must exceed to count as determined.
const ERRORS: f64 = 2.0;

/// What is found at the end of a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// Held-out loss of the rates that the search ended with.
    pub loss: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The thresholds that were tried, the largest first; none if no rate is below any.
    pub trials: Vec<Trial>,
    /// The 20 N rates with those set to 0 that are below the first threshold that does no harm.
    pub pruned: Option<Vec<f64>>,
    /// Of every live rate, in their order; none unless they were asked for.
    pub curvatures: Vec<Curvature>,
    /// Curvature below which a rate counts as not determined by the data.
    pub curvature_bound: f64,
}

/// Rates of a size below a threshold set to 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Rates of a smaller size are set to 0.
    pub threshold: f64,
    /// How many that changes.
    pub removed: u32,
    /// Held-out loss then.
    pub loss: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// By how much the loss has risen.
    pub rise: f64,
    /// Standard error of the rise, over the pictures' differences.
    pub rise_error: f64,
    /// What the penalty falls by, times its weight.
    #[serde(default)]
    pub saved: f64,
}

impl Trial {
    /// Whether the loss has not risen by more than the error of that, or than the search was told that these rates cost:
    /// compared picture by picture, even a rise of a millionth shows, which is no reason to keep a layer.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        self.rise <= self.rise_error.max(self.saved)
    }
}

/// How the held-out loss bends with one rate: `(L(r + h) + L(r - h) - 2 L(r)) / h^2`, with `h` of [`SHIFT`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curvature {
    /// Which of the 20 N rates.
    pub slot: u32,
    /// Per square of the rate.
    pub curvature: f64,
    /// Over the pictures.
    pub standard_error: f64,
    /// Whether it is at least the bound and two standard errors.
    pub determined: bool,
}

/// What is done to the rates that the search ended with before they are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    Kept,
    /// Those of a smaller size are set to 0.
    Below(f64),
    /// One is moved.
    Moved {
        /// Which.
        slot: usize,
        /// How far.
        by: f64,
    },
}

impl Change {
    /// The rates with the change made.
    #[must_use]
    pub fn of(self, rates: &[f64]) -> Vec<f64> {
        let mut rates = rates.to_vec();
        match self {
            Self::Kept => {}
            Self::Below(threshold) => {
                rates.iter_mut().filter(|rate| rate.abs() < threshold).for_each(|rate| *rate = 0.0);
            }
            Self::Moved { slot, by } => rates.get_mut(slot).into_iter().for_each(|rate| *rate += by),
        }
        rates
    }
}

/// Checks what a search wants at its end. `held_out`: there are pictures to measure.
pub(crate) fn validate(options: &SearchOptions, held_out: bool) -> Result<(), Error> {
    let range = |name, value: String, range| Err(Error::Range { name, value, range });
    if !(0.0..=1e6).contains(&options.prune) {
        return range("prune", options.prune.to_string(), "a size of rates, from 0 (none) to 1000000");
    }
    if options.prune > 0.0 && !held_out {
        return range("prune", options.prune.to_string(), "0 without held-out pictures");
    }
    if options.curvature && !held_out {
        return range("curvature", "true".to_owned(), "false without held-out pictures");
    }
    match options.curvature_bound {
        Some(bound) if !options.curvature => range("curvature_bound", bound.to_string(), "left out without curvature"),
        Some(bound) if !(0.0..=1e30).contains(&bound) => {
            range("curvature_bound", bound.to_string(), "a number of at least 0")
        }
        _ => Ok(()),
    }
}

/// What is measured at the end of a search that ends with these rates, unchanged rates first; nothing if the options want
/// nothing. `live` says which of them are searched.
#[must_use]
pub fn changes(options: &SearchOptions, rates: &[f64], live: &[bool]) -> Vec<Change> {
    if options.prune == 0.0 && !options.curvature {
        return Vec::new();
    }
    let mut changes = vec![Change::Kept];
    let thresholds = std::iter::successors(Some(options.prune), |threshold| Some(threshold / 2.0)).take(THRESHOLDS);
    let mut tried: Vec<(f64, Vec<f64>)> = Vec::new();
    for threshold in thresholds.filter(|threshold| *threshold > 0.0) {
        let pruned = Change::Below(threshold).of(rates);
        // Half a threshold may leave out the same rates.
        if pruned != rates && tried.last().is_none_or(|(_, last)| *last != pruned) {
            tried.push((threshold, pruned));
        }
    }
    changes.extend(tried.iter().map(|(threshold, _)| Change::Below(*threshold)));
    if options.curvature {
        let slots = (0..).zip(live).filter(|(_, live)| **live).map(|(slot, _)| slot);
        changes.extend(slots.flat_map(|slot| [SHIFT, -SHIFT].map(|by| Change::Moved { slot, by })));
    }
    changes
}

/// What the losses under these changes say. They are in the order of [`changes`].
#[must_use]
pub fn conclude(options: &SearchOptions, rates: &[f64], changes: &[Change], losses: &[Losses]) -> Conclusion {
    let Some(kept) = losses.first() else { return Conclusion::default() };
    let (loss, standard_error) = kept.mean();
    let curvature_bound = options.curvature_bound.unwrap_or(options.application_loss_weight / MOVED);
    let mut conclusion = Conclusion { loss, standard_error, curvature_bound, ..Conclusion::default() };
    let mut measured = changes.iter().zip(losses);
    while let Some((change, with)) = measured.next() {
        match *change {
            Change::Kept => {}
            Change::Below(threshold) => {
                let pruned = change.of(rates);
                let mut trial = trial(threshold, rates, &pruned, kept, with);
                trial.saved = options.application_loss_weight * (penalty::value(rates) - penalty::value(&pruned));
                if trial.is_harmless() && conclusion.pruned.is_none() {
                    conclusion.pruned = Some(pruned);
                }
                conclusion.trials.push(trial);
            }
            Change::Moved { slot, .. } => {
                let Some((_, down)) = measured.next() else { break };
                let factor = 1.0 / (SHIFT * SHIFT);
                let parts = [(factor, with), (factor, down), (-2.0 * factor, kept)];
                let (curvature, standard_error) = Losses::sum(&parts).mean();
                let determined = curvature >= curvature_bound && curvature > ERRORS * standard_error;
                let slot = u32::try_from(slot).unwrap_or(u32::MAX);
                conclusion.curvatures.push(Curvature { slot, curvature, standard_error, determined });
            }
        }
    }
    conclusion
}

fn trial(threshold: f64, rates: &[f64], pruned: &[f64], kept: &Losses, with: &Losses) -> Trial {
    let (loss, standard_error) = with.mean();
    let (rise, rise_error) = Losses::sum(&[(1.0, with), (-1.0, kept)]).mean();
    let removed = rates.iter().zip(pruned).filter(|(before, after)| before != after).count();
    let removed = u32::try_from(removed).unwrap_or(u32::MAX);
    Trial { threshold, removed, loss, standard_error, rise, rise_error, saved: 0.0 }
}

#[cfg(test)]
mod tests;
