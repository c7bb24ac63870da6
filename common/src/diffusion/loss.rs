//! The factor of a sample's squared error: what the options of the loss make of its timestep.

use super::{Error, NoiseSchedule, entry};
use serde::{Deserialize, Serialize};

/// The signal-to-noise ratio is not taken above this in the scale and in the debiased loss.
const SNR_LIMIT: f64 = 1000.0;

/// What a user chooses about the loss. By default the plain squared error of the predicted noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossOptions {
    /// The model predicts velocity, not noise.
    pub v_parameterization: bool,
    /// Min-SNR weighting with this gamma (Hang et al., 2023); 5 is usual.
    pub min_snr_gamma: Option<f64>,
    /// Weights by `1 / sqrt(snr)`.
    #[serde(rename = "debiased_estimation_loss", alias = "debiased_estimation")]
    pub debiased_estimation: bool,
    /// Scales the loss of a velocity as if it were one of noise; needs `v_parameterization`.
    pub scale_v_pred_loss_like_noise_pred: bool,
    /// Adds, to a loss of noise, this much of the loss scaled as a velocity's.
    pub v_pred_like_loss: Option<f64>,
}

impl LossOptions {
    /// What this sample's mean squared error is multiplied by before the mean over the batch.
    ///
    /// In this order: `loss_weight`, min-SNR, the velocity's scale, the velocity-like part, debiased estimation. The
    /// signal-to-noise ratio is always that of [`NoiseSchedule::sdxl`], whatever is done to the betas elsewhere.
    ///
    /// # Errors
    /// [`Error::Timestep`] from 1000 on.
    pub fn factor(&self, timestep: u32, loss_weight: f64) -> Result<f64, Error> {
        let snr = entry(NoiseSchedule::sdxl().snr(), timestep)?;
        let limited = snr.min(SNR_LIMIT);
        let scale = limited / (limited + 1.0);
        let mut factor = loss_weight;
        if let Some(gamma) = self.min_snr_gamma {
            factor *= snr.min(gamma) / if self.v_parameterization { snr + 1.0 } else { snr };
        }
        if self.scale_v_pred_loss_like_noise_pred {
            factor *= scale;
        }
        if let Some(part) = self.v_pred_like_loss {
            factor += factor / scale * part;
        }
        if self.debiased_estimation {
            factor /= limited.sqrt();
        }
        Ok(factor)
    }

    /// Whether the options are in range and go together.
    ///
    /// # Errors
    /// For the first that is not or does not.
    pub fn validate(&self) -> Result<(), Error> {
        if let Some(value) = self.min_snr_gamma.filter(|gamma| !gamma.is_finite() || *gamma <= 0.0) {
            return Err(Error::Range { name: "min_snr_gamma", value, range: "above 0" });
        }
        if let Some(value) = self.v_pred_like_loss.filter(|part| !part.is_finite() || *part < 0.0) {
            return Err(Error::Range { name: "v_pred_like_loss", value, range: "of at least 0" });
        }
        if self.scale_v_pred_loss_like_noise_pred && !self.v_parameterization {
            return Err(Error::NeedsVelocity);
        }
        if self.v_pred_like_loss.is_some() && self.v_parameterization {
            return Err(Error::AlreadyVelocity);
        }
        Ok(())
    }
}
