//! The penalty on the rates: what application costs, negative application most of all.
//!
//! `sum over r of |r| + 10 |r| [r < 0]`: a negative rate costs eleven times a positive one of the same size. The
//! search adds it once a step, times its weight (1e-4 unless told otherwise).

/// How much more a negative rate costs than a positive one of the same size, in units of the positive one's cost.
const NEGATIVE_SURCHARGE: f64 = 10.0;

/// The unweighted penalty of these rates: `sum |r| + 10 |r| [r < 0]`.
///
/// Not a number as soon as one rate is.
#[must_use]
pub fn value(rates: &[f64]) -> f64 {
    rates.iter().map(|rate| rate.abs() * slope(*rate).abs()).sum()
}

/// The gradient of `weight` times [`value`] by every rate: `weight` above zero, `-11 weight` below, 0 at zero.
///
/// Same length as `rates`.
#[must_use]
pub fn gradient(rates: &[f64], weight: f64) -> Vec<f64> {
    rates.iter().map(|rate| weight * slope(*rate)).collect()
}

/// [`value`] over the live slots alone: one without any module costs nothing, whatever its rate.
///
/// A slot beyond the end of `live` counts as dead.
#[must_use]
pub fn live_value(rates: &[f64], live: &[bool]) -> f64 {
    let of_live = rates.iter().zip(live).filter(|(_, live)| **live);
    of_live.map(|(rate, _)| rate.abs() * slope(*rate).abs()).sum()
}

/// [`gradient`] with 0 in every dead slot.
///
/// Same length as `rates`; a slot beyond the end of `live` counts as dead.
#[must_use]
pub fn live_gradient(rates: &[f64], weight: f64, live: &[bool]) -> Vec<f64> {
    let live = live.iter().copied().chain(std::iter::repeat(false));
    let slots = rates.iter().zip(live);
    slots.map(|(rate, live)| if live { weight * slope(*rate) } else { 0.0 }).collect()
}

/// The derivative of one rate's penalty; at zero, where there is none, 0 as PyTorch has it.
fn slope(rate: f64) -> f64 {
    if rate > 0.0 {
        1.0
    } else if rate < 0.0 {
        -(1.0 + NEGATIVE_SURCHARGE)
    } else {
        rate.abs() // 0, or not a number for what is none
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lora_rates_test_support::{TensorFile, fixture};

    #[test]
    fn a_negative_rate_costs_eleven_times_a_positive_one() {
        assert_eq!(value(&[0.5]), 0.5);
        assert_eq!(value(&[-0.5]), 5.5);
        assert_eq!(value(&[0.25, -1.0, 0.0]), 11.25);
        assert!(value(&[0.5, f64::NAN]).is_nan());
    }

    #[test]
    fn the_gradient_jumps_at_zero_and_is_nothing_there() {
        assert_eq!(gradient(&[2.0, -1e-9, 0.0, -0.0], 1e-4), [1e-4, -11.0 * 1e-4, 0.0, 0.0]);
    }

    #[test]
    fn dead_slots_cost_nothing_and_are_not_pushed() {
        let live = [true, false, true, false];
        assert_eq!(live_value(&[1.0, 5.0, -1.0, -7.0], &live), 12.0);
        assert_eq!(live_gradient(&[1.0, 5.0, -1.0, -7.0], 1.0, &live), [1.0, 0.0, -11.0, 0.0]);
        assert_eq!(live_gradient(&[1.0, 5.0], 1.0, &[true]), [1.0, 0.0]);
    }

    /// The reference's own penalty of the rates in `step/step.json`, and its gradient.
    #[test]
    fn value_and_gradient_are_the_reference_programs() {
        let text = std::fs::read_to_string(fixture("step/step.json")).unwrap();
        let step: serde_json::Value = serde_json::from_str(&text).unwrap();
        let tensors = TensorFile::open(&fixture("step/step.safetensors"));
        for case in step["cases"].as_array().unwrap() {
            let name = case["case"].as_str().unwrap();
            let rates: Vec<f64> = serde_json::from_value(case["rates"].clone()).unwrap();
            let expected = case["penalty"].as_f64().unwrap();
            assert!((value(&rates) / expected - 1.0).abs() < 1e-12, "{name}");

            let expected = tensors.get(&format!("{name}/penalty_grad_times_1e-4")).floats();
            assert_eq!(expected.len(), rates.len());
            for (ours, theirs) in gradient(&rates, 1e-4).into_iter().zip(expected) {
                assert!((ours - theirs).abs() < 1e-15, "{name}: {ours} {theirs}");
            }
        }
    }
}
