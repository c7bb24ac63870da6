//! Shrinking: each pixel of the result is the mean of the source under it, where pixels covered in part count in part.

use super::{Axis, RgbImage};

/// The sources of one row or column of the result: where they begin, and their shares, which sum to 1.
struct Window {
    first: usize,
    shares: Vec<f32>,
}

/// `[rows, columns, 3]`, rounded half up as OpenCV does where it halves a picture.
pub(super) fn pixels(image: &RgbImage, columns: &Axis, rows: &Axis) -> Vec<u8> {
    let (columns, rows) = (windows(columns), windows(rows));
    let source = image.as_raw();
    let source_stride = 3 * image.width() as usize;
    let stride = 3 * columns.len();

    let mut result = Vec::with_capacity(stride * rows.len());
    let mut narrowed = vec![0.0_f32; stride];
    let mut narrowed_row = None;
    let mut sum = vec![0.0_f32; stride];
    for row in &rows {
        sum.fill(0.0);
        let lines = source.chunks_exact(source_stride).enumerate().skip(row.first);
        for ((index, line), &share) in lines.zip(&row.shares) {
            // Neighbouring results share the source row on their border.
            if narrowed_row != Some(index) {
                narrow(line, &columns, &mut narrowed);
                narrowed_row = Some(index);
            }
            sum.iter_mut().zip(&narrowed).for_each(|(sum, value)| *sum += share * value);
        }
        // `as` saturates: a sum of shares a hair over 1 stays 255.
        result.extend(sum.iter().map(|value| (value + 0.5) as u8));
    }
    result
}

/// One source row, scaled horizontally.
fn narrow(line: &[u8], columns: &[Window], to: &mut [f32]) {
    for (to, column) in to.chunks_exact_mut(3).zip(columns) {
        to.fill(0.0);
        for (pixel, &share) in line.chunks_exact(3).skip(column.first).zip(&column.shares) {
            to.iter_mut().zip(pixel).for_each(|(to, &value)| *to += share * f32::from(value));
        }
    }
}

/// Exact: lengths are counted in units of a source pixel divided by `axis.to`, of which a result has `axis.from`.
fn windows(axis: &Axis) -> Vec<Window> {
    // Products of two u32 fit into u64.
    let (pixel, result) = (u64::from(axis.to), u64::from(axis.from));
    let window = |index: u32| {
        let (begin, end) = (u64::from(index) * result, (u64::from(index) + 1) * result);
        let first = begin / pixel;
        let shares = (first..end.div_ceil(pixel)).map(|source| {
            let covered = end.min((source + 1) * pixel) - begin.max(source * pixel);
            (covered as f64 / result as f64) as f32
        });
        Window { first: first as usize, shares: shares.collect() }
    };
    axis.cut.clone().map(window).collect()
}
