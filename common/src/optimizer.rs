//! The update of the rates: AdamW with decoupled weight decay, in f64, exactly as PyTorch computes it.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).

mod args;

use serde::{Deserialize, Serialize};

pub use args::ArgumentError;

/// The rate that every slot starts from.
pub const INITIAL_RATE: f64 = 0.5;

/// Why an update can't be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// An option of AdamW outside its range.
    #[error("the optimizer's {name} is {value}; it must be {range}")]
    Range {
        /// Name of the option.
        name: &'static str,
        /// What it was given.
        value: f64,
        /// What it may be, in words.
        range: &'static str,
    },
    /// Rates, moments, gradient or live slots of different lengths.
    #[error("{what} has {found} slots where the search has {expected} rates")]
    Length {
        /// What has the wrong length.
        what: &'static str,
        /// Its length.
        found: usize,
        /// Number of rates.
        expected: usize,
    },
    /// A gradient that would spoil the rates for good.
    #[error("the gradient of rate {slot} is {value}; the update was not made")]
    Gradient {
        /// Which of the rates.
        slot: usize,
        /// Its gradient.
        value: f64,
    },
    /// A learning rate that is negative, infinite or not a number.
    #[error("the learning rate of update {update} is {value}; the update was not made")]
    LearningRate {
        /// The update, counted from 0.
        update: u64,
        /// Its learning rate.
        value: f64,
    },
}

/// The options of AdamW; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the running means of the gradient and of its square. Default 0.9, 0.999.
    pub betas: (f64, f64),
    /// Added to the denominator. Default 1e-8.
    pub eps: f64,
    /// Part of a rate that one update takes away, times the learning rate. Default 0.01.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 }
    }
}

/// All that an update depends on besides its gradient: what a checkpoint must keep, to the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Updates made so far.
    pub step: u64,
    /// The rates, network by network, twenty each.
    pub rates: Vec<f64>,
    /// Running mean of the gradient, one per rate.
    pub m: Vec<f64>,
    /// Running mean of the gradient's square, one per rate.
    pub v: Vec<f64>,
}

impl State {
    /// The state before the first update: `count` rates of 0.5.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { step: 0, rates: vec![INITIAL_RATE; count], m: vec![0.0; count], v: vec![0.0; count] }
    }

    /// Whether this gradient and this mask fit the state, and nothing spoils a live rate.
    fn check(&self, gradient: &[f64], lr: f64, live: &[bool]) -> Result<(), Error> {
        let expected = self.rates.len();
        let lengths = [
            ("the gradient", gradient.len()),
            ("the mask of live slots", live.len()),
            ("the optimizer's first moment", self.m.len()),
            ("the optimizer's second moment", self.v.len()),
        ];
        if let Some(&(what, found)) = lengths.iter().find(|(_, found)| *found != expected) {
            return Err(Error::Length { what, found, expected });
        }
        if !lr.is_finite() || lr < 0.0 {
            return Err(Error::LearningRate { update: self.step, value: lr });
        }
        let mut slots = gradient.iter().zip(live).enumerate();
        match slots.find(|(_, (value, live))| **live && !value.is_finite()) {
            Some((slot, (&value, _))) => Err(Error::Gradient { slot, value }),
            None => Ok(()),
        }
    }
}

impl AdamW {
    /// Makes one update with the gradient of the whole loss, penalty included.
    ///
    /// `gradient` and `live` have one entry per rate. Dead slots (`live` false) keep their rate and both moments.
    ///
    /// # Errors
    /// On lengths that differ, and on a gradient of a live slot or a learning rate that is no number: the state is then
    /// unchanged.
    pub fn step(&self, state: &mut State, gradient: &[f64], lr: f64, live: &[bool]) -> Result<(), Error> {
        state.check(gradient, lr, live)?;
        state.step = state.step.saturating_add(1);
        let (beta1, beta2) = self.betas;
        let correction1 = 1.0 - beta1.powf(state.step as f64);
        let correction2 = (1.0 - beta2.powf(state.step as f64)).sqrt();
        let moments = state.m.iter_mut().zip(&mut state.v);
        let slots = state.rates.iter_mut().zip(moments).zip(gradient).zip(live);
        // The order of operations is that of torch.optim.AdamW, so that even roundings agree.
        for (((rate, (m, v)), g), _) in slots.filter(|(_, live)| **live) {
            *rate *= 1.0 - lr * self.weight_decay;
            *m += (g - *m) * (1.0 - beta1);
            *v = *v * beta2 + (1.0 - beta2) * g * g;
            let denominator = v.sqrt() / correction2 + self.eps;
            *rate -= lr / correction1 * (*m / denominator);
        }
        Ok(())
    }

    /// Whether every option is in PyTorch's range.
    ///
    /// # Errors
    /// [`Error::Range`] for the first that is not. `eps` must be above 0 here: without it a rate that has had no
    /// gradient yet would become 0/0.
    pub fn validate(&self) -> Result<(), Error> {
        let unit = "from 0 to below 1";
        let (eps, decay) = (self.eps, self.weight_decay);
        let options = [
            ("first beta", self.betas.0, unit, (0.0..1.0).contains(&self.betas.0)),
            ("second beta", self.betas.1, unit, (0.0..1.0).contains(&self.betas.1)),
            ("eps", eps, "a number above 0", eps.is_finite() && eps > 0.0),
            ("weight_decay", decay, "a number of at least 0", decay.is_finite() && decay >= 0.0),
        ];
        match options.into_iter().find(|(.., fine)| !fine) {
            Some((name, value, range, _)) => Err(Error::Range { name, value, range }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
