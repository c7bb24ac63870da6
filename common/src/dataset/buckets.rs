//! Aspect-ratio buckets: the sizes at which pictures are shown to the model, and how a picture fits its own.
//!
//! Rounding follows the reference to the last digit (`tests/fixtures/golden/buckets`), in f64 where it uses floats.

mod fit;
mod options;
#[cfg(test)]
mod tests;

pub use fit::Fit;
pub use options::{BucketOptions, Error, MULTIPLE};

use crate::picture::MAX_SIDE;
use fit::{aspect, cover, round_half_up};
use std::collections::BTreeSet;

/// The buckets of a search.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Ascending by width, then height; empty when they follow the pictures.
    listed: Vec<(u32, u32)>,
    /// Largest area, in pixels.
    area: f64,
    step: u32,
}

impl Buckets {
    /// The buckets that the options describe.
    ///
    /// # Errors
    /// When the options contradict each other or allow sizes that the model cannot compute.
    pub fn new(options: &BucketOptions) -> Result<Self, Error> {
        options.validate()?;
        let (width, height) = options.resolution;
        let area = u64::from(width) * u64::from(height);
        let listed = match (options.enable, options.no_upscale) {
            (false, _) => vec![options.resolution],
            (true, true) => Vec::new(),
            (true, false) => list(options, area),
        };
        Ok(Self { listed, area: area as f64, step: options.step })
    }

    /// All of them, ascending by width, then height; none when they follow the pictures (`no_upscale`).
    pub fn all(&self) -> &[(u32, u32)] {
        &self.listed
    }

    /// The bucket of a picture of this size and how it is brought there. Any size has one; 0 counts as 1.
    pub fn fit(&self, width: u32, height: u32) -> Fit {
        let image = (width.max(1), height.max(1));
        match self.nearest(image) {
            Some(bucket) => Fit::new(image, bucket, cover(image, bucket)),
            None => self.follow(image),
        }
    }

    /// The listed bucket of the same size, else of the nearest width / height; among equals the first.
    fn nearest(&self, image: (u32, u32)) -> Option<(u32, u32)> {
        if self.listed.contains(&image) {
            return Some(image);
        }
        let distance = |bucket: &(u32, u32)| (aspect(*bucket) - aspect(image)).abs();
        self.listed.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// Shrinks to the area where the picture is larger; the bucket is what remains after flooring to the step.
    fn follow(&self, image: (u32, u32)) -> Fit {
        let resized = if f64::from(image.0) * f64::from(image.1) > self.area { self.shrink(image) } else { image };
        let longest = MAX_SIDE - MAX_SIDE % self.step;
        let side = |size: u32| (size - size % self.step).clamp(self.step, longest);
        let bucket = (side(resized.0), side(resized.1));
        // A side shorter than the step has no bucket: this once, the picture must be enlarged to cover one.
        let fits = bucket.0 <= resized.0 && bucket.1 <= resized.1;
        Fit::new(image, bucket, if fits { resized } else { cover(image, bucket) })
    }

    /// The size of about the full area where one side is a multiple of the step: width or height, whichever leaves the
    /// other side's floored ratio nearer to the picture's.
    fn shrink(&self, image: (u32, u32)) -> (u32, u32) {
        let ratio = aspect(image);
        let width = (self.area * ratio).sqrt();
        let height = self.area / width;
        let by_width = self.floor(width);
        let width_error = (by_width / self.floor(by_width / ratio) - ratio).abs();
        let by_height = self.floor(height);
        let height_error = (self.floor(by_height * ratio) / by_height - ratio).abs();
        // False for the NaN of an extreme ratio, too, which `follow` sets right.
        if width_error < height_error {
            (by_width as u32, round_half_up(by_width / ratio))
        } else {
            (round_half_up(by_height * ratio), by_height as u32)
        }
    }

    /// Rounded half up to a pixel, then down to the step.
    fn floor(&self, size: f64) -> f64 {
        let pixels = round_half_up(size);
        f64::from(pixels - pixels % self.step)
    }
}

/// For every width from min to max the greatest height within the area and max, both ways round, and the square.
fn list(options: &BucketOptions, area: u64) -> Vec<(u32, u32)> {
    let floor = |size: u64| size - size % u64::from(options.step);
    let square = floor(area.isqrt()) as u32;
    let mut buckets = BTreeSet::from([(square, square)]);
    for width in (options.min..=options.max).step_by(options.step as usize) {
        // At most `max`, so it is a u32.
        let height = floor(area / u64::from(width)).min(options.max.into()) as u32;
        if height >= options.min {
            buckets.extend([(width, height), (height, width)]);
        }
    }
    buckets.into_iter().collect()
}
