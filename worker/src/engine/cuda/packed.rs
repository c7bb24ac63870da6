//! Weights in eight bits: numbers of the format e4m3 (Micikevicius et al., "FP8 Formats for Deep Learning", 2022), each row
//! with a scale of its own, so that its largest number is the format's.

use rayon::prelude::*;

/// The largest number of e4m3, and the smallest whose mantissa has a leading one.
const LARGEST: f32 = 448.0;
const NORMAL: f32 = 0.015_625;

/// Columns that a row must have a multiple of: the kernel that unpacks reads four at a time.
pub const STEP: usize = 4;

/// The value of a code without its sign, 0 to 126; 127 is no number.
fn value(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3), f32::from(code & 7));
    if exponent == 0 { mantissa * 2f32.powi(-9) } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) }
}

/// All values in rising order.
fn values() -> [f32; 127] {
    std::array::from_fn(|code| value(code as u8))
}

/// The nearest code, of two that are as near the even one.
fn encode(x: f32) -> u8 {
    let size = x.abs().min(LARGEST);
    let code = if size < NORMAL {
        // Steps of 2^-9, the eighth being the smallest with a leading one.
        (size * 512.0).round_ties_even() as u32
    } else {
        // Exponent and three bits of the mantissa, what is beyond them rounded into them; the exponents begin 120 apart.
        let bits = size.to_bits();
        ((bits + 0x7_ffff + ((bits >> 20) & 1)) >> 20) - (120 << 3)
    };
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    code as u8 | sign
}

/// Bytes of so many rows and columns: codes up to a multiple of 16, then a scale for each row.
pub fn bytes(rows: usize, columns: usize) -> usize {
    scales_at(rows, columns) + 4 * rows
}

/// Where the scales begin.
pub fn scales_at(rows: usize, columns: usize) -> usize {
    (rows * columns).next_multiple_of(16)
}

/// Packs rows.
pub fn pack(weights: &[f32], rows: usize) -> Vec<u8> {
    let columns = weights.len() / rows.max(1);
    let mut packed = vec![0; bytes(rows, columns)];
    let (codes, scales) = packed.split_at_mut(scales_at(rows, columns));
    let rows = weights.par_chunks_exact(columns.max(1)).zip(codes.par_chunks_mut(columns.max(1)));
    rows.zip(scales.as_chunks_mut::<4>().0).for_each(|((row, codes), to)| {
        let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        // A row of zeros has any scale, and one below the smallest normal number would overflow its inverse.
        let scale = if largest > f32::MIN_POSITIVE * LARGEST { largest / LARGEST } else { 1.0 };
        codes.iter_mut().zip(row).for_each(|(code, x)| *code = encode(x / scale));
        *to = scale.to_le_bytes();
    });
    packed
}

/// What packed rows stand for.
pub fn unpack(packed: &[u8], rows: usize, columns: usize) -> Vec<f32> {
    let table = values();
    let scales = packed[scales_at(rows, columns)..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let number = |code: &u8| table[usize::from(code & 0x7f).min(126)] * if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let rows = packed.chunks_exact(columns.max(1)).zip(scales);
    rows.flat_map(|(row, scale)| row.iter().map(move |code| number(code) * scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lora_rates_common::sdxl::random::uniform;

    #[test]
    fn the_format_is_the_published_one() {
        // Table 1 of the paper: largest 448, smallest normal 2^-6, smallest 2^-9.
        let all = values();
        assert_eq!((all[126], all[8], all[1], all[0]), (448.0, 2f32.powi(-6), 2f32.powi(-9), 0.0));
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn every_number_becomes_the_nearest_and_numbers_of_the_format_stay() {
        let all = values();
        for (code, x) in all.iter().enumerate() {
            assert_eq!(encode(*x), code as u8);
            assert_eq!(encode(-x), code as u8 | 0x80);
        }
        for x in uniform("x", 1, 500.0, 20_000).into_iter().chain(uniform("small", 1, 0.04, 20_000)) {
            let best = all.iter().map(|y| (y - x.abs()).abs()).fold(f32::INFINITY, f32::min);
            assert_eq!((all[usize::from(encode(x) & 0x7f)] - x.abs()).abs(), best, "{x}");
        }
        // Halfway between 16 and 18, and between 18 and 20: the even code.
        assert_eq!((all[usize::from(encode(17.0))], all[usize::from(encode(19.0))]), (16.0, 20.0));
    }

    #[test]
    fn rows_keep_three_bits_whatever_their_size() {
        for (rows, columns) in [(3, 8), (5, 36), (1, 4)] {
            let weights: Vec<f32> =
                (0..rows).flat_map(|row| uniform("row", row as u64, 10f32.powi(4 * row as i32 - 8), columns)).collect();
            let packed = pack(&weights, rows);
            assert_eq!(packed.len(), bytes(rows, columns));
            let back = unpack(&packed, rows, columns);
            for (row, back) in weights.chunks(columns).zip(back.chunks(columns)) {
                let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                for (x, y) in row.iter().zip(back) {
                    // Half a step of three bits, and of the numbers near zero.
                    assert!((x - y).abs() <= x.abs() / 16.0 * 1.0001 + largest / LARGEST * 2f32.powi(-10), "{x} {y}");
                }
            }
        }
        assert_eq!(unpack(&pack(&[0.0; 8], 2), 2, 4), [0.0; 8]);
    }
}
