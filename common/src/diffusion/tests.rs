use super::*;
use lora_rates_test_support::{TensorFile, fixture};
use serde_json::Value;

fn golden(table: &str) -> Vec<f32> {
    let values = TensorFile::open(&fixture("schedule/noise.safetensors")).get(table).floats();
    values.into_iter().map(|value| value as f32).collect()
}

fn close(ours: f64, theirs: f64, tolerance: f64) -> bool {
    (ours - theirs).abs() <= tolerance * theirs.abs()
}

#[test]
fn the_table_of_alphas_is_pytorchs_to_the_last_bit() {
    assert_eq!(NoiseSchedule::sdxl().alphas_cumprod(), golden("alphas_cumprod"));
}

#[test]
fn the_signal_to_noise_ratio_is_the_references() {
    let expected = golden("snr");
    assert_eq!(expected.len(), TIMESTEPS as usize);
    for (t, (ours, theirs)) in NoiseSchedule::sdxl().snr().iter().zip(expected).enumerate() {
        assert!(close((*ours).into(), theirs.into(), 1e-6), "timestep {t}: {ours} {theirs}");
    }
}

#[test]
fn single_factors_agree_with_the_references_at_every_timestep() {
    let five = LossOptions { min_snr_gamma: Some(5.0), ..LossOptions::default() };
    let cases = [
        ("min_snr5_weight_eps", five),
        ("min_snr5_weight_v", LossOptions { v_parameterization: true, ..five }),
        ("debiased_weight", LossOptions { debiased_estimation: true, ..LossOptions::default() }),
    ];
    for (table, options) in cases {
        for (t, theirs) in (0..).zip(golden(table)) {
            let ours = options.factor(t, 1.0).unwrap();
            assert!(close(ours, theirs.into(), 1e-6), "{table}, timestep {t}: {ours} {theirs}");
        }
    }
}

/// The options of a variant in `step/step.json`.
fn options_of(variant: &Value) -> LossOptions {
    LossOptions {
        v_parameterization: variant["target"] == "v",
        min_snr_gamma: variant["min_snr_gamma"].as_f64(),
        debiased_estimation: variant["debiased_estimation_loss"].as_bool().unwrap(),
        scale_v_pred_loss_like_noise_pred: variant["scale_v_pred_loss_like_noise_pred"].as_bool().unwrap(),
        v_pred_like_loss: variant["v_pred_like_loss"].as_f64(),
    }
}

#[test]
fn factors_and_loss_of_every_variant_are_the_reference_programs() {
    let step: Value = serde_json::from_str(&std::fs::read_to_string(fixture("step/step.json")).unwrap()).unwrap();
    let timesteps: Vec<u32> = serde_json::from_value(step["timesteps"].clone()).unwrap();
    let weights: Vec<f64> = serde_json::from_value(step["loss_weights"].clone()).unwrap();
    let variants = step["variants"].as_object().unwrap();
    assert_eq!(variants.len(), 10);
    for case in step["cases"].as_array().unwrap() {
        for (name, variant) in variants {
            let options = options_of(variant);
            options.validate().unwrap();
            let expected = &case["variants"][name];
            let mut loss = 0.0;
            for sample in 0..timesteps.len() {
                let weight = if variant["uses_loss_weights"] == true { weights[sample] } else { 1.0 };
                let factor = options.factor(timesteps[sample], weight).unwrap();
                let theirs = expected["sample_weight"][sample].as_f64().unwrap();
                assert!(close(factor, theirs, 1e-6), "{name}, sample {sample}: {factor} {theirs}");
                loss += factor * expected["mse_per_sample"][sample].as_f64().unwrap();
            }
            loss /= timesteps.len() as f64;
            assert!(close(loss, expected["loss"].as_f64().unwrap(), 1e-6), "{} {name}: {loss}", case["case"]);
        }
    }
}

#[test]
fn the_order_of_the_factors_matters_not_to_their_product() {
    let options = LossOptions { min_snr_gamma: Some(5.0), v_pred_like_loss: Some(0.3), ..LossOptions::default() };
    let alone = |part: LossOptions| part.factor(50, 1.0).unwrap();
    let product = alone(LossOptions { min_snr_gamma: None, ..options })
        * alone(LossOptions { v_pred_like_loss: None, ..options });
    assert!(close(options.factor(50, 0.5).unwrap(), 0.5 * product, 1e-14));
}

#[test]
fn noisy_latents_and_velocity_are_a_rotation() {
    for t in [0, 50, 478, 999] {
        let mix = NoiseSchedule::sdxl().mix(t).unwrap();
        let (latent, eps) = (0.75, -1.5);
        let (noisy, velocity) = (mix.noisy(latent, eps), mix.velocity(latent, eps));
        assert!(close(mix.signal * noisy - mix.noise * velocity, latent, 1e-12), "timestep {t}");
        assert!(close(mix.noise * noisy + mix.signal * velocity, eps, 1e-12), "timestep {t}");
        assert!(close(mix.signal.powi(2), golden("alphas_cumprod")[t as usize].into(), 1e-12), "timestep {t}");
    }
}

/// The target itself is not stored; its squared distance from a stored prediction is.
#[test]
fn the_velocity_target_gives_the_references_squared_errors() {
    let step: Value = serde_json::from_str(&std::fs::read_to_string(fixture("step/step.json")).unwrap()).unwrap();
    let tensors = TensorFile::open(&fixture("step/step.safetensors"));
    let (latents, noise) = (tensors.get("batch/latents").floats(), tensors.get("batch/noise").floats());
    let prediction = tensors.get("L1/half/pred_f64").floats();
    let size = latents.len() / 3;
    for (sample, t) in [50, 478, 876].into_iter().enumerate() {
        let mix = NoiseSchedule::sdxl().mix(t).unwrap();
        let elements = sample * size..(sample + 1) * size;
        let squares = elements.map(|i| (prediction[i] - mix.velocity(latents[i], noise[i])).powi(2));
        let ours = squares.sum::<f64>() / size as f64;
        let theirs = step["cases"][0]["variants"]["v"]["mse_per_sample"][sample].as_f64().unwrap();
        assert!(close(ours, theirs, 1e-6), "sample {sample}: {ours} {theirs}");
    }
}

#[test]
fn timesteps_and_options_out_of_range_are_refused() {
    assert_eq!(NoiseSchedule::sdxl().mix(1000), Err(Error::Timestep(1000)));
    assert_eq!(LossOptions::default().factor(u32::MAX, 1.0), Err(Error::Timestep(u32::MAX)));
    let refused = |options: LossOptions| options.validate().unwrap_err();
    for gamma in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        let options = LossOptions { min_snr_gamma: Some(gamma), ..LossOptions::default() };
        assert!(matches!(refused(options), Error::Range { name: "min_snr_gamma", .. }));
    }
    let like = LossOptions { v_pred_like_loss: Some(-0.5), ..LossOptions::default() };
    assert!(matches!(refused(like), Error::Range { name: "v_pred_like_loss", .. }));
    let scaled = LossOptions { scale_v_pred_loss_like_noise_pred: true, ..LossOptions::default() };
    assert_eq!(refused(scaled), Error::NeedsVelocity);
    assert_eq!(LossOptions { v_parameterization: true, ..scaled }.validate(), Ok(()));
    let both = LossOptions { v_parameterization: true, v_pred_like_loss: Some(0.5), ..LossOptions::default() };
    assert_eq!(refused(both), Error::AlreadyVelocity);
}

#[test]
fn options_are_read_by_the_references_names() {
    let text = r#"{"v_parameterization": true, "debiased_estimation_loss": true, "min_snr_gamma": 5}"#;
    let options: LossOptions = serde_json::from_str(text).unwrap();
    assert_eq!(options.min_snr_gamma, Some(5.0));
    assert!(options.debiased_estimation && options.v_parameterization);
    assert!(serde_json::from_str::<LossOptions>(r#"{"gamma": 5}"#).is_err());
}
