//! How a picture is brought to its bucket, in numbers of pixels.

use serde::{Deserialize, Serialize};

/// How a picture is brought to its bucket. Sizes are width and height in pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fit {
    /// Size that the model sees.
    pub bucket: (u32, u32),
    /// Size to which the whole picture is scaled; no side is shorter than the bucket's.
    pub resized: (u32, u32),
    /// Left and top edge of the bucket within the resized picture.
    pub cut: (u32, u32),
    /// Top and left of the crop conditioning.
    ///
    /// As in the reference these are not the pixels that were cut: they are half of the room left when the whole
    /// picture is fitted *inside* the bucket.
    pub crop: (i32, i32),
    /// Top and left of the crop conditioning when the picture is mirrored.
    pub crop_flipped: (i32, i32),
}

impl Fit {
    pub(super) fn new(image: (u32, u32), bucket: (u32, u32), resized: (u32, u32)) -> Self {
        let ratio = aspect(image);
        let (width, height) = (f64::from(bucket.0), f64::from(bucket.1));
        let inside = if aspect(bucket) > ratio { (height * ratio, height) } else { (width, width / ratio) };
        let left = ((width - inside.0) / 2.0).floor();
        let top = ((height - inside.1) / 2.0).floor();
        let left_flipped = width - (left + inside.0);
        Self {
            bucket,
            resized,
            cut: (resized.0.saturating_sub(bucket.0) / 2, resized.1.saturating_sub(bucket.1) / 2),
            crop: (top as i32, left as i32),
            crop_flipped: (top as i32, left_flipped as i32),
        }
    }

    /// The six numbers of the size conditioning: original height and width, crop top and left, bucket height and
    /// width. `original` is the picture's own width and height.
    pub fn time_ids(&self, original: (u32, u32), flipped: bool) -> [f32; 6] {
        let (top, left) = if flipped { self.crop_flipped } else { self.crop };
        let (width, height) = self.bucket;
        [original.1 as f32, original.0 as f32, top as f32, left as f32, height as f32, width as f32]
    }
}

/// Width / height.
pub(super) fn aspect((width, height): (u32, u32)) -> f64 {
    f64::from(width) / f64::from(height)
}

/// The smallest size of the picture's ratio that leaves no part of the bucket bare.
pub(super) fn cover(image: (u32, u32), bucket: (u32, u32)) -> (u32, u32) {
    let (width, height) = (f64::from(image.0), f64::from(image.1));
    let wider = aspect(image) > aspect(bucket);
    let scale = if wider { f64::from(bucket.1) / height } else { f64::from(bucket.0) / width };
    (round_half_up(width * scale).max(bucket.0), round_half_up(height * scale).max(bucket.1))
}

/// To the nearest whole number of pixels; saturates.
pub(super) fn round_half_up(size: f64) -> u32 {
    (size + 0.5) as u32
}
