//! What was measured at the end of a search, both ways.

use super::check::{finite, length, rates, within};
use super::{Error, MAX_RATES};
use crate::conclusion::{Conclusion, Curvature, Trial};
use lora_rates_proto::v1;

/// Most thresholds that a search tries.
const MAX_TRIALS: usize = 64;

impl From<&Conclusion> for v1::Conclusion {
    fn from(conclusion: &Conclusion) -> Self {
        let trial = |it: &Trial| {
            let Trial { threshold, removed, loss, standard_error, rise, rise_error, saved } = *it;
            v1::PruningTrial { threshold, removed, loss, standard_error, rise, rise_error, saved }
        };
        let curvature = |it: &Curvature| {
            let Curvature { slot, curvature, standard_error, determined } = *it;
            v1::Curvature { slot, curvature, standard_error, determined }
        };
        Self {
            loss: conclusion.loss,
            standard_error: conclusion.standard_error,
            trials: conclusion.trials.iter().map(trial).collect(),
            pruned: conclusion.pruned.clone().unwrap_or_default(),
            curvatures: conclusion.curvatures.iter().map(curvature).collect(),
            curvature_bound: conclusion.curvature_bound,
        }
    }
}

impl TryFrom<v1::Conclusion> for Conclusion {
    type Error = Error;

    fn try_from(conclusion: v1::Conclusion) -> Result<Self, Error> {
        length("conclusion.trials", conclusion.trials.len(), "thresholds", 0..=MAX_TRIALS)?;
        length("conclusion.curvatures", conclusion.curvatures.len(), "numbers", 0..=MAX_RATES)?;
        let pruned = Some(conclusion.pruned).filter(|pruned| !pruned.is_empty());
        Ok(Self {
            loss: finite("conclusion.loss", conclusion.loss)?,
            standard_error: finite("conclusion.standard_error", conclusion.standard_error)?,
            trials: conclusion.trials.into_iter().map(trial).collect::<Result<_, _>>()?,
            pruned: pruned.map(|pruned| rates("conclusion.pruned", pruned)).transpose()?,
            curvatures: conclusion.curvatures.into_iter().map(curvature).collect::<Result<_, _>>()?,
            curvature_bound: finite("conclusion.curvature_bound", conclusion.curvature_bound)?,
        })
    }
}

fn trial(trial: v1::PruningTrial) -> Result<Trial, Error> {
    Ok(Trial {
        threshold: finite("conclusion.trials.threshold", trial.threshold)?,
        removed: trial.removed,
        loss: finite("conclusion.trials.loss", trial.loss)?,
        standard_error: finite("conclusion.trials.standard_error", trial.standard_error)?,
        rise: finite("conclusion.trials.rise", trial.rise)?,
        rise_error: finite("conclusion.trials.rise_error", trial.rise_error)?,
        saved: finite("conclusion.trials.saved", trial.saved)?,
    })
}

fn curvature(curvature: v1::Curvature) -> Result<Curvature, Error> {
    Ok(Curvature {
        slot: within("conclusion.curvatures.slot", curvature.slot, 0..=MAX_RATES as u32 - 1)?,
        curvature: finite("conclusion.curvatures.curvature", curvature.curvature)?,
        standard_error: finite("conclusion.curvatures.standard_error", curvature.standard_error)?,
        determined: curvature.determined,
    })
}
