use super::*;
use lora_rates_test_support::{TensorFile, fixture};
use serde_json::Value;

/// Gradients in, rates out, against every update of the reference's three runs.
#[test]
fn rates_follow_pytorchs_adamw_through_every_trajectory() {
    let text = std::fs::read_to_string(fixture("traj/trajectories.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let tensors = TensorFile::open(&fixture("traj/trajectories.safetensors"));
    let runs = golden["runs"].as_object().unwrap();
    assert_eq!(runs.len(), 3);
    for (run, facts) in runs {
        let gradients = tensors.get(&format!("{run}/grad_f64")).floats();
        let rates = tensors.get(&format!("{run}/rates_f64")).floats();
        let lrs = facts["lr_of_update"].as_array().unwrap();
        assert_eq!(gradients.len(), lrs.len() * 40);
        let mut state = State::new(40);
        for ((gradient, expected), lr) in gradients.chunks(40).zip(rates.chunks(40)).zip(lrs) {
            AdamW::default().step(&mut state, gradient, lr.as_f64().unwrap(), &[true; 40]).unwrap();
            for (slot, (ours, theirs)) in state.rates.iter().zip(expected).enumerate() {
                assert!((ours - theirs).abs() < 1e-13, "{run}, update {}, rate {slot}: {ours} {theirs}", state.step);
            }
        }
        assert_eq!(state.step, lrs.len() as u64);
    }
}

#[test]
fn dead_slots_keep_rate_and_moments_and_do_not_touch_their_neighbours() {
    let mut masked = State { step: 0, rates: vec![0.5; 3], m: vec![0.125; 3], v: vec![0.25; 3] };
    let mut alone = State { step: 0, rates: vec![0.5; 2], m: vec![0.125; 2], v: vec![0.25; 2] };
    for _ in 0..5 {
        AdamW::default().step(&mut masked, &[1.0, f64::NAN, -2.0], 0.1, &[true, false, true]).unwrap();
        AdamW::default().step(&mut alone, &[1.0, -2.0], 0.1, &[true, true]).unwrap();
    }
    assert_eq!((masked.rates[1], masked.m[1], masked.v[1]), (0.5, 0.125, 0.25));
    assert_eq!([masked.rates[0], masked.rates[2]], alone.rates[..]);
    assert_ne!(masked.rates[0], 0.5);
}

#[test]
fn the_first_update_moves_every_rate_by_about_the_learning_rate() {
    let mut state = State::new(2);
    let options = AdamW { weight_decay: 0.0, ..AdamW::default() };
    options.step(&mut state, &[3.0, -1e-3], 0.1, &[true; 2]).unwrap();
    assert!((state.rates[0] - 0.4).abs() < 1e-8 && (state.rates[1] - 0.6).abs() < 2e-6, "{:?}", state.rates);
}

#[test]
fn a_refused_update_leaves_the_state_as_it_was() {
    let mut state = State::new(2);
    let mut refused = |gradient: &[f64], lr, live: &[bool]| {
        let error = AdamW::default().step(&mut state, gradient, lr, live).unwrap_err();
        assert_eq!(state, State::new(2));
        error
    };
    assert!(matches!(refused(&[1.0, f64::NAN], 0.1, &[true; 2]), Error::Gradient { slot: 1, .. }));
    assert!(matches!(refused(&[1.0, f64::INFINITY], 0.1, &[true; 2]), Error::Gradient { slot: 1, .. }));
    assert!(matches!(refused(&[1.0], 0.1, &[true; 2]), Error::Length { found: 1, expected: 2, .. }));
    assert!(matches!(refused(&[1.0; 2], 0.1, &[true; 3]), Error::Length { found: 3, expected: 2, .. }));
    assert!(matches!(refused(&[1.0; 2], f64::NAN, &[true; 2]), Error::LearningRate { .. }));
    state.v.pop();
    assert!(matches!(AdamW::default().step(&mut state, &[1.0; 2], 0.1, &[true; 2]), Err(Error::Length { .. })));
}

/// Fails unless serde_json is built with `float_roundtrip`.
#[test]
fn a_state_written_as_text_comes_back_to_the_last_bit() {
    let mut state = State::new(2000);
    let mut value = 0.1_f64;
    for rate in state.rates.iter_mut().chain(&mut state.m).chain(&mut state.v) {
        value = (value * 3.9) * (1.0 - value); // the logistic map: every bit of the fraction in use
        *rate = value * 1e-7;
    }
    let text = serde_json::to_string(&state).unwrap();
    assert!(serde_json::from_str::<State>(&text).unwrap() == state, "a float was rounded on its way");
}

#[test]
fn optimizer_args_are_read_as_the_reference_reads_them() {
    let parsed = AdamW::parse(&["weight_decay=0.1", "betas=0.8,0.99", "eps=1e-6"]).unwrap();
    assert_eq!(parsed, AdamW { betas: (0.8, 0.99), eps: 1e-6, weight_decay: 0.1 });
    assert_eq!(AdamW::parse::<&str>(&[]).unwrap(), AdamW::default());
    assert_eq!(AdamW::parse(&["betas = (0.5, 0.6)"]).unwrap().betas, (0.5, 0.6));
    let refused = |arg: &str| AdamW::parse(&[arg]).unwrap_err();
    assert_eq!(refused("amsgrad=True"), ArgumentError::UnknownKey("amsgrad".into()));
    assert_eq!(refused("eps"), ArgumentError::NoValue("eps".into()));
    assert_eq!(refused("eps=small"), ArgumentError::NotANumber { key: "eps", value: "small".into() });
    assert_eq!(refused("eps=nan"), ArgumentError::NotANumber { key: "eps", value: "nan".into() });
    assert_eq!(refused("betas=0.9"), ArgumentError::NotTwoBetas("0.9".into()));
    assert_eq!(AdamW::parse(&["eps=1", "eps=2"]), Err(ArgumentError::Repeated("eps")));
    for out_of_range in ["betas=1,0.9", "betas=0.9,-0.1", "eps=0", "eps=inf", "weight_decay=-1", "weight_decay=inf"] {
        assert!(matches!(refused(out_of_range), ArgumentError::Range(_)), "{out_of_range}");
    }
}
