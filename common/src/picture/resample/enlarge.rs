//! Enlarging (of at least one side): each pixel of the result is mixed of the two source pixels that it covers, per
//! axis, in OpenCV's fixed-point arithmetic.
//!
//! Where a border of a result pixel falls on one of the source, rounding in OpenCV's f64 may take the source pixel
//! before it, whole: a column is shown twice. Pictures that the reference prepared are so, hence ours are, too.

use super::{Axis, RgbImage};

/// Weights are multiples of 1 / 2048.
const ONE: f32 = 2048.0;

/// The two sources of one row or column of the result, and their weights in units of 1 / 2048.
struct Pair {
    sources: [usize; 2],
    weights: [i32; 2],
}

/// `[rows, columns, 3]`.
pub(super) fn pixels(image: &RgbImage, columns: &Axis, rows: &Axis) -> Vec<u8> {
    let (columns, rows) = (pairs(columns), pairs(rows));
    let source_stride = 3 * image.width() as usize;
    let mut result = Vec::with_capacity(3 * columns.len() * rows.len());
    // The two scaled source rows in use, with their numbers.
    let mut upper = (usize::MAX, Vec::new());
    let mut lower = (usize::MAX, Vec::new());
    for row in &rows {
        let [first, second] = row.sources;
        if lower.0 == first {
            std::mem::swap(&mut upper, &mut lower);
        }
        for (number, line) in [(first, &mut upper), (second, &mut lower)] {
            if line.0 != number {
                let source = image.as_raw().chunks_exact(source_stride).nth(number).unwrap_or_default();
                *line = (number, widen(source, &columns));
            }
        }
        let [a, b] = row.weights;
        // Two bits are kept beyond those of a byte until the sum is rounded.
        let mix =
            |(x, y): (&i32, &i32)| ((((a * (x >> 4)) >> 16) + ((b * (y >> 4)) >> 16) + 2) >> 2).clamp(0, 255) as u8;
        result.extend(upper.1.iter().zip(&lower.1).map(mix));
    }
    result
}

/// One source row, scaled horizontally, in units of 1 / 2048.
fn widen(line: &[u8], columns: &[Pair]) -> Vec<i32> {
    let mut result = Vec::with_capacity(3 * columns.len());
    for column in columns {
        let [first, second] = column.sources.map(|source| line.get(3 * source..3 * source + 3).unwrap_or_default());
        let [a, b] = column.weights;
        result.extend(first.iter().zip(second).map(|(&x, &y)| a * i32::from(x) + b * i32::from(y)));
    }
    result
}

/// Result pixel i covers the source from `i * from / to`; what of it lies beyond that source pixel's end belongs to the
/// next one. The order of the operations decides where borders coincide.
fn pairs(axis: &Axis) -> Vec<Pair> {
    let enlargement = f64::from(axis.to) / f64::from(axis.from);
    let reduction = 1.0 / enlargement;
    let last = axis.from as usize - 1;
    let pair = |index: u32| {
        let source = (f64::from(index) * reduction).floor();
        let beyond = ((f64::from(index) + 1.0) - (source + 1.0) * enlargement) as f32;
        let source = source as usize;
        let share = if beyond <= 0.0 || source >= last { 0.0 } else { beyond - beyond.floor() };
        let weights = [1.0 - share, share].map(|weight| (weight * ONE).round_ties_even() as i32);
        Pair { sources: [source.min(last), (source + 1).min(last)], weights }
    };
    axis.cut.clone().map(pair).collect()
}
