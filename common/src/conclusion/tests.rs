use super::*;
use crate::noise::{self, Key};
use crate::plan::{Microbatch, PlanSample};

/// Four pictures of four samples: `sum of bends * (rate - best)^2`, and what differs between samples.
fn losses(rates: &[f64], bends: &[f64], best: &[f64]) -> Losses {
    let key = |image: u32, repeat: u32| Key { seed: 1, step: 0, sample: u64::from(image) << 32 | u64::from(repeat) };
    let pairs = (0..4).flat_map(|image| (0..4).map(move |repeat| (image, repeat)));
    let samples: Vec<PlanSample> = pairs
        .map(|(image, repeat)| PlanSample {
            image,
            repeat,
            flip: false,
            timestep: 0,
            noise_key: key(image, repeat),
            negated: false,
        })
        .collect();
    let value = |sample: &PlanSample| {
        let normals = noise::latent_noise(sample.noise_key, 1 + rates.len());
        let slots = rates.iter().zip(bends).zip(best).zip(&normals[1..]);
        // Every sample bends a little otherwise, and has a level of its own.
        let of_slot = |(((rate, bend), best), normal): (((&f64, &f64), &f64), &f32)| {
            bend * (1.0 + 0.05 * f64::from(*normal)) * (rate - best).powi(2)
        };
        f64::from(normals[0]) + slots.map(of_slot).sum::<f64>()
    };
    let values: Vec<f64> = samples.iter().map(value).collect();
    Losses::new(&[Microbatch { bucket: (64, 64), samples }], &values)
}

fn options(prune: f64, curvature: bool, bound: Option<f64>) -> SearchOptions {
    serde_json::from_value(serde_json::json!({
        "seed": 5, "max_train_steps": 25, "train_batch_size": 3, "gradient_accumulation_steps": 1, "flip_aug": true,
        "min_timestep": 0, "max_timestep": 1000, "max_token_length": crate::tokenizer::TokenLength::T75,
        "noise_offset": 0.0, "application_loss_weight": 1e-4, "loss": crate::diffusion::LossOptions::default(),
        "optimizer": crate::optimizer::AdamW::default(), "learning_rate": crate::schedule::Options::default(),
        "mixed_precision": "no", "gradient_checkpointing": false, "cache_latents": true, "cache_dir": null,
        "skip_unmatched_keys": false, "penalize_dead_slots": false,
        "prune": prune, "curvature": curvature, "curvature_bound": bound,
    }))
    .unwrap()
}

fn conclusion(options: &SearchOptions, rates: &[f64], bends: &[f64], best: &[f64]) -> Conclusion {
    let changes = changes(options, rates, &[true, true, false, true]);
    let losses: Vec<Losses> = changes.iter().map(|change| losses(&change.of(rates), bends, best)).collect();
    conclude(options, rates, &changes, &losses)
}

#[test]
fn nothing_is_measured_unless_it_is_asked_for() {
    assert_eq!(changes(&options(0.0, false, None), &[0.1, 0.2], &[true, true]), []);
}

#[test]
fn the_largest_harmless_threshold_prunes() {
    // The second rate is wanted where it is; the others are not worth anything.
    let (rates, bends, best) = ([0.01, 0.04, 0.0, -0.002], [0.0, 50.0, 0.0, 0.0], [0.0, 0.04, 0.0, 0.0]);
    let found = conclusion(&options(0.1, false, None), &rates, &bends, &best);
    let tried: Vec<_> = found.trials.iter().map(|it| (it.threshold, it.removed, it.is_harmless())).collect();
    // A quarter leaves out what the half does not; smaller ones less.
    assert_eq!(tried, [(0.1, 3, false), (0.025, 2, true), (0.00625, 1, true)]);
    assert_eq!(found.pruned, Some(vec![0.0, 0.04, 0.0, 0.0]));
    assert!(found.curvatures.is_empty());
    let harmful = conclusion(&options(0.1, false, None), &[0.01, 0.04, 0.0, 0.09], &[9.0; 4], &[0.01, 0.04, 0.0, 0.09]);
    assert!(harmful.trials.iter().all(|trial| !trial.is_harmless()) && harmful.pruned.is_none());
    let none = conclusion(&options(0.1, false, None), &[1.0; 4], &bends, &best);
    assert!(none.trials.is_empty() && none.pruned.is_none());
}

#[test]
fn a_rise_below_what_the_penalty_falls_by_is_no_harm() {
    // Leaving out 0.01 costs 5e-7 to 6e-7 on every picture: above its error, below the 1e-6 that it costs to keep.
    let (rates, bends, best) = ([0.01, 1.0, 0.0, 1.0], [5e-3, 0.0, 0.0, 0.0], [0.01, 1.0, 0.0, 1.0]);
    let found = conclusion(&options(0.1, false, None), &rates, &bends, &best);
    let trial = found.trials[0];
    assert!(trial.rise > trial.rise_error && trial.rise < trial.saved, "{trial:?}");
    assert!((trial.saved - 1e-6).abs() < 1e-12, "{trial:?}");
    assert_eq!(found.pruned, Some(vec![0.0, 1.0, 0.0, 1.0]));
    let dear = conclusion(&options(0.1, false, None), &rates, &[5e-2, 0.0, 0.0, 0.0], &best);
    assert!(dear.pruned.is_none(), "{dear:?}");
}

#[test]
fn the_curvature_is_the_second_derivative_and_says_what_is_determined() {
    let (rates, bends, best) = ([0.5, 0.3, 0.0, 0.9], [2.0, 1e-5, 1.0, 0.0], [0.1, 0.2, 0.0, 0.3]);
    let found = conclusion(&options(0.0, true, None), &rates, &bends, &best);
    assert_eq!(found.curvature_bound, 1e-3);
    let slots: Vec<_> = found.curvatures.iter().map(|it| (it.slot, it.determined)).collect();
    assert_eq!(slots, [(0, true), (1, false), (3, false)]);
    let first = found.curvatures[0];
    assert!((first.curvature - 4.0).abs() < 3.0 * first.standard_error + 1e-9 && first.standard_error > 0.0);
    // 5 percent of each sample, 4 by 4.
    assert!((0.01..0.15).contains(&first.standard_error), "{}", first.standard_error);
    assert!((found.curvatures[1].curvature - 2e-5).abs() < 1e-5);
    let strict = conclusion(&options(0.0, true, Some(5.0)), &rates, &bends, &best);
    assert!(strict.curvatures.iter().all(|it| !it.determined));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |options: SearchOptions, held_out| validate(&options, held_out).unwrap_err().to_string();
    assert!(validate(&options(0.1, true, Some(0.0)), true).is_ok());
    assert!(refused(options(-0.1, false, None), true).starts_with("prune is -0.1"));
    assert!(refused(options(0.1, false, None), false).contains("without held-out pictures"));
    assert!(refused(options(0.0, true, None), false).starts_with("curvature is true"));
    assert!(refused(options(0.0, false, Some(1.0)), true).starts_with("curvature_bound is 1"));
    assert!(refused(options(0.0, true, Some(-1.0)), true).starts_with("curvature_bound is -1"));
}
