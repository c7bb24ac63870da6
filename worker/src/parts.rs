//! Microbatches that are too large for the device's memory, computed in parts.
//!
//! The loss is a mean over the samples, so those of the parts, weighted by their samples, add up to it, and so do the
//! gradients.

mod room;

pub use room::Trial;

use crate::engine::{Error, Gradient, Microbatch};
use std::collections::HashMap;

/// How many samples the device's memory has room for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    limit: Option<usize>,
    /// Samples that are known to fit, by height and width of the latents.
    fits: HashMap<(usize, usize), usize>,
}

impl Parts {
    /// The most samples at once that were found to fit, once some did not.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Loss and gradient of a microbatch. `compute` does it for a part; when that is out of memory, the part is halved,
    /// and the size that is tried from then on goes to `halved`.
    ///
    /// # Errors
    /// As `compute`; [`Error::OutOfMemory`] only when one sample is too much.
    pub fn gradient(
        &mut self,
        batch: &Microbatch,
        compute: impl FnMut(&Microbatch) -> Result<Gradient, Error>,
        halved: impl FnMut(usize),
    ) -> Result<Gradient, Error> {
        Ok(join(self.each(batch, compute, halved)?))
    }

    /// The loss of each sample, likewise.
    ///
    /// # Errors
    /// As [`Self::gradient`].
    pub fn losses(
        &mut self,
        batch: &Microbatch,
        compute: impl FnMut(&Microbatch) -> Result<Vec<f64>, Error>,
        halved: impl FnMut(usize),
    ) -> Result<Vec<f64>, Error> {
        Ok(self.each(batch, compute, halved)?.into_iter().flat_map(|(_, losses)| losses).collect())
    }

    /// Every part's size and result, in order.
    fn each<T>(
        &mut self,
        batch: &Microbatch,
        mut compute: impl FnMut(&Microbatch) -> Result<T, Error>,
        mut halved: impl FnMut(usize),
    ) -> Result<Vec<(usize, T)>, Error> {
        let total = batch.timesteps.len();
        let mut parts = Vec::new();
        let mut done = 0;
        while done < total {
            let size = (total - done).min(self.limit.unwrap_or(total));
            let result = match size == total {
                true => compute(batch),
                false => compute(&batch.part(done..done + size)),
            };
            match result {
                Ok(result) => {
                    parts.push((size, result));
                    done += size;
                }
                Err(Error::OutOfMemory(_)) if size > 1 => {
                    let half = size.div_ceil(2);
                    self.limit = Some(half);
                    halved(half);
                }
                Err(Error::NotFinite { sample, timestep }) => {
                    return Err(Error::NotFinite { sample: done + sample, timestep });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(parts)
    }
}

/// One part is returned as it is, so that undivided microbatches keep their bits.
fn join(mut parts: Vec<(usize, Gradient)>) -> Gradient {
    if parts.len() == 1 {
        return parts.swap_remove(0).1;
    }
    let total: usize = parts.iter().map(|(size, _)| size).sum();
    let mut whole = Gradient { prediction: Vec::new(), mse: Vec::new(), loss: 0.0, grad: Vec::new() };
    for (size, part) in parts {
        let share = size as f64 / total as f64;
        whole.prediction.extend(part.prediction);
        whole.mse.extend(part.mse);
        whole.loss += share * part.loss;
        whole.grad.resize(part.grad.len().max(whole.grad.len()), 0.0);
        whole.grad.iter_mut().zip(part.grad).for_each(|(sum, by_rate)| *sum += share * by_rate);
    }
    whole
}

#[cfg(test)]
mod tests;
