//! Which buckets there are to be.

use crate::picture::MAX_SIDE;
use serde::{Deserialize, Serialize};

/// The sides of a bucket are multiples of this many pixels: the autoencoder divides them by 8 and the UNet twice by 2.
pub const MULTIPLE: u32 = 32;

/// Smallest side of the resolution, in pixels.
const MIN_RESOLUTION: u32 = 64;

/// Why there are no such buckets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A side is out of bounds.
    #[error("resolution {0}x{1}: each side must be {MIN_RESOLUTION} to {MAX_SIDE} pixels")]
    Resolution(u32, u32),
    /// The one size is not a size the model can compute.
    #[error("resolution {0}x{1} without buckets: both sides must be multiples of {MULTIPLE}, or enable buckets")]
    FixedResolution(u32, u32),
    /// Sizes would not be sizes the model can compute.
    #[error("bucket step {0}: it must be a multiple of {MULTIPLE}, and at least that")]
    Step(u32),
    /// No bucket fits in.
    #[error("bucket step {0} is larger than the resolution's smaller side, {1}: make it smaller")]
    StepOverResolution(u32, u32),
    /// A bound that is no bucket size.
    #[error("bucket {0} size {1} must be a multiple of the step, {2}, and from that to {MAX_SIDE}")]
    Bound(&'static str, u32, u32),
    /// The bounds leave out the resolution.
    #[error(
        "bucket sizes {min} to {max} must include the resolution, {width}x{height}: set --min_bucket_reso and --max_bucket_reso"
    )]
    Range {
        /// Smallest side.
        min: u32,
        /// Largest side.
        max: u32,
        /// Width of the resolution.
        width: u32,
        /// Height of the resolution.
        height: u32,
    },
}

/// Which buckets there are. Sizes are width and height in pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketOptions {
    /// No bucket has a larger area than this; without buckets, the size of every picture.
    pub resolution: (u32, u32),
    /// Whether pictures keep about their own aspect ratio.
    pub enable: bool,
    /// Shortest side of a bucket; unused with `no_upscale`.
    pub min: u32,
    /// Longest side of a bucket; unused with `no_upscale`.
    pub max: u32,
    /// Every side is a multiple of it.
    pub step: u32,
    /// Shrink a picture only when its area is over the resolution's, and never enlarge it: buckets follow the pictures.
    pub no_upscale: bool,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self { resolution: (1024, 1024), enable: true, min: 256, max: 1024, step: 64, no_upscale: false }
    }
}

impl BucketOptions {
    /// Refuses options under which some bucket could not be computed by the model.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let (width, height) = self.resolution;
        let shorter = width.min(height);
        if shorter < MIN_RESOLUTION || width.max(height) > MAX_SIDE {
            return Err(Error::Resolution(width, height));
        }
        if !self.enable {
            let computable = width.is_multiple_of(MULTIPLE) && height.is_multiple_of(MULTIPLE);
            return if computable { Ok(()) } else { Err(Error::FixedResolution(width, height)) };
        }
        if self.step == 0 || !self.step.is_multiple_of(MULTIPLE) {
            return Err(Error::Step(self.step));
        }
        if self.step > shorter {
            return Err(Error::StepOverResolution(self.step, shorter));
        }
        if self.no_upscale {
            return Ok(());
        }
        for (name, bound) in [("min", self.min), ("max", self.max)] {
            if bound == 0 || bound > MAX_SIDE || !bound.is_multiple_of(self.step) {
                return Err(Error::Bound(name, bound, self.step));
            }
        }
        if self.min > shorter || self.max < width.max(height) {
            return Err(Error::Range { min: self.min, max: self.max, width, height });
        }
        Ok(())
    }
}
