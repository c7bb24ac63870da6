//! Scaling by area, as OpenCV's `INTER_AREA` does it: shrinking and enlarging are two different things there.
//!
//! Only the pixels inside the cut are computed, so the cost is that of the source and the bucket, however long the
//! resized picture would be.

mod enlarge;
mod shrink;

use super::{Error, MAX_SIDE, RgbImage};
use crate::dataset::buckets::Fit;
use std::ops::Range;

/// What part of one axis of the resized picture is wanted.
struct Axis {
    /// Length of the source, at least 1.
    from: u32,
    /// Length after scaling.
    to: u32,
    /// Within `to`, not empty.
    cut: Range<u32>,
}

impl Axis {
    /// `None` when the cut does not lie within the resized length, is empty or over [`MAX_SIDE`], or without a source.
    fn new(from: u32, to: u32, start: u32, count: u32) -> Option<Self> {
        let end = start.checked_add(count).filter(|&end| end <= to)?;
        (from > 0 && (1..=MAX_SIDE).contains(&count)).then_some(Self { from, to, cut: start..end })
    }
}

/// The bucket's pixels, `[height, width, 3]`.
pub(super) fn area(image: &RgbImage, fit: &Fit) -> Result<Vec<u8>, Error> {
    let axis = |from, to, start, count| {
        let invalid = Error::Fit { bucket: fit.bucket, cut: fit.cut, resized: fit.resized };
        Axis::new(from, to, start, count).ok_or(invalid)
    };
    let columns = axis(image.width(), fit.resized.0, fit.cut.0, fit.bucket.0)?;
    let rows = axis(image.height(), fit.resized.1, fit.cut.1, fit.bucket.1)?;
    let shrinks = columns.to <= columns.from && rows.to <= rows.from;
    Ok(if shrinks { shrink::pixels(image, &columns, &rows) } else { enlarge::pixels(image, &columns, &rows) })
}
