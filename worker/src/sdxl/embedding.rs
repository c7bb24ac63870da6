//! Sinusoids of timesteps and picture sizes.

/// Embeds each value in `width` numbers, cosines before sines, with the frequencies `10000^(-i / half)` for i below
/// `half = width / 2`: `[values, width]`, row by row. In f32 like the networks' training was.
pub fn sinusoids(values: &[f32], width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequencies: Vec<f32> = (0..half).map(|i| (-10000f32.ln() * i as f32 / half as f32).exp()).collect();
    let mut out = Vec::with_capacity(values.len() * width);
    for value in values {
        out.extend(frequencies.iter().map(|f| (value * f).cos()));
        out.extend(frequencies.iter().map(|f| (value * f).sin()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_before_sines_and_the_first_frequency_is_one() {
        let row = sinusoids(&[0.0, 2.0], 4);
        assert_eq!(&row[..4], &[1.0, 1.0, 0.0, 0.0]);
        let slow = 2.0f32 * (-10000f32.ln() / 2.0).exp();
        assert_eq!(&row[4..], &[2f32.cos(), slow.cos(), 2f32.sin(), slow.sin()]);
    }
}
