//! How many samples the device has room for, found out before memory runs out: burn's runtime does not survive that.

use super::Parts;
use crate::engine::{Error, Microbatch};

/// What is kept free beyond what is foreseen, as a divisor of that: a tenth.
const SPARE: u64 = 10;

/// A device on which microbatches are tried.
pub trait Trial {
    /// Computes a microbatch; the result is dropped.
    ///
    /// # Errors
    /// As the engine.
    fn compute(&mut self, batch: &Microbatch) -> Result<(), Error>;

    /// Bytes of memory in use and in all, if anyone can say. What was freed but is kept for later use counts as used, so
    /// after a computation this tells its peak.
    fn memory(&mut self) -> Option<(u64, u64)>;

    /// Gives back what is kept for later use.
    fn free(&mut self);
}

impl Parts {
    /// Makes sure that the microbatch, or parts of it, will fit: tries one sample, then twice as many each time, as long as
    /// the peak so far says that the next size has room. Sizes of a shape that is known are not tried again, nor anything on
    /// a device that can't say how much memory it has. The size to which it is limited, if it is, goes to `limited`.
    ///
    /// # Errors
    /// As [`Trial::compute`].
    pub fn feel(
        &mut self,
        batch: &Microbatch,
        trial: &mut dyn Trial,
        mut limited: impl FnMut(usize),
    ) -> Result<(), Error> {
        let shape = (batch.height, batch.width);
        let wanted = batch.timesteps.len().min(self.limit.unwrap_or(usize::MAX));
        let known = self.fits.get(&shape).copied().unwrap_or(0);
        if wanted < 2 || wanted <= known {
            return Ok(());
        }
        let mut size = known.max(1);
        loop {
            trial.free();
            let Some((base, _)) = trial.memory() else { return Ok(()) };
            trial.compute(&batch.part(0..size))?;
            let peak = trial.memory().map_or(0, |(used, _)| used.saturating_sub(base));
            trial.free();
            let Some((used, total)) = trial.memory() else { return Ok(()) };
            let room = room(size, peak, total.saturating_sub(used));
            let next = size.saturating_mul(2).min(wanted);
            if room < next {
                // Not even one more: memory in pieces does not grow in proportion.
                self.limit = Some(size);
                limited(size);
                break;
            }
            size = next;
            if size == wanted {
                break;
            }
        }
        self.fits.insert(shape, size);
        Ok(())
    }
}

/// Samples that fit into this much memory, when `size` of them took `peak`.
fn room(size: usize, peak: u64, available: u64) -> usize {
    let each = (peak + peak / SPARE).div_ceil(size as u64).max(1);
    usize::try_from(available / each).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights of 10 bytes, 7 for each sample of the device's 100; panics where memory would run out.
    struct Device {
        used: u64,
        tried: Vec<usize>,
        blind: bool,
    }

    impl Trial for Device {
        fn compute(&mut self, batch: &Microbatch) -> Result<(), Error> {
            let size = batch.timesteps.len();
            self.tried.push(size);
            self.used = self.used.max(10 + 7 * size as u64);
            assert!(self.used <= 100, "out of memory");
            Ok(())
        }

        fn memory(&mut self) -> Option<(u64, u64)> {
            (!self.blind).then_some((self.used, 100))
        }

        fn free(&mut self) {
            self.used = 10;
        }
    }

    fn device() -> Device {
        Device { used: 10, tried: Vec::new(), blind: false }
    }

    fn batch(size: usize, side: usize) -> Microbatch {
        Microbatch {
            height: side,
            width: side,
            latents: vec![0.0; 4 * side * side * size],
            noise: vec![0.0; 4 * side * side * size],
            timesteps: vec![0; size],
            time_ids: vec![[0.0; 6]; size],
            loss_weights: vec![1.0; size],
            ..Microbatch::default()
        }
    }

    #[test]
    fn what_does_not_fit_is_limited_before_it_is_tried() {
        let (mut parts, mut device, mut told) = (Parts::default(), device(), Vec::new());
        parts.feel(&batch(48, 2), &mut device, |size| told.push(size)).unwrap();
        // 8 samples took 56 bytes, with a tenth more 7.7 each: 90 bytes are no room for 16.
        assert_eq!(device.tried, [1, 2, 4, 8]);
        assert_eq!((told, parts.limit()), (vec![8], Some(8)));
        // Later ones of this shape are within the limit and not tried again.
        device.tried.clear();
        parts.feel(&batch(48, 2), &mut device, |_| panic!("said twice")).unwrap();
        assert!(device.tried.is_empty(), "{:?}", device.tried);
    }

    #[test]
    fn what_fits_is_tried_once_and_never_whole() {
        let (mut parts, mut device) = (Parts::default(), device());
        for _ in 0..2 {
            parts.feel(&batch(10, 2), &mut device, |_| panic!("limited")).unwrap();
        }
        assert_eq!(device.tried, [1, 2, 4, 8]);
        parts.feel(&batch(3, 2), &mut device, |_| panic!("limited")).unwrap();
        assert_eq!(device.tried.len(), 4);
        // Another shape is another matter.
        parts.feel(&batch(2, 4), &mut device, |_| panic!("limited")).unwrap();
        assert_eq!(device.tried, [1, 2, 4, 8, 1]);
        assert_eq!(parts.limit(), None);
    }

    #[test]
    fn single_samples_and_devices_that_cannot_say_are_left_alone() {
        let (mut parts, mut one) = (Parts::default(), device());
        parts.feel(&batch(1, 2), &mut one, |_| panic!("limited")).unwrap();
        let mut blind = Device { blind: true, ..device() };
        parts.feel(&batch(48, 2), &mut blind, |_| panic!("limited")).unwrap();
        assert!(one.tried.is_empty() && blind.tried.is_empty());
    }
}
