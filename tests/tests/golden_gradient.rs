//! Loss and gradient by the rates on the CPU in f32, against PyTorch's float64 run.

use burn::backend::Flex;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_tests::golden::{
    Numbers, batch, bf16_engine, close, cosine, engine_with, json, list, networks, unfolded_engine,
};
use lora_rates_worker::engine::burn::{BurnEngine, Tuning};
use lora_rates_worker::engine::{Gradient, GradientEngine};
use serde_json::Value;

fn options(variant: &Value) -> LossOptions {
    let flag = |name: &str| variant[name].as_bool().expect("a flag");
    LossOptions {
        v_parameterization: variant["target"] == "v",
        min_snr_gamma: variant["min_snr_gamma"].as_f64(),
        debiased_estimation: flag("debiased_estimation_loss"),
        scale_v_pred_loss_like_noise_pred: flag("scale_v_pred_loss_like_noise_pred"),
        v_pred_like_loss: variant["v_pred_like_loss"].as_f64(),
    }
}

fn compute(engine: &mut BurnEngine<Flex>, case: &Value, step: &Value, variant: &str, numbers: &Numbers) -> Gradient {
    let settings = &step["variants"][variant];
    let weights = list(&step["loss_weights"]);
    let weights = settings["uses_loss_weights"].as_bool().expect("a flag").then_some(weights.as_slice());
    let rates: Vec<f32> = list(&case["rates"]).into_iter().map(|r| r as f32).collect();
    engine.gradient(&batch(numbers, weights), &rates, &options(settings)).expect("a gradient")
}

/// Cases whose networks are all of kinds that are supported.
fn cases(step: &Value) -> Vec<&Value> {
    let plain = |case: &&Value| {
        let files = case["files"].as_array().expect("files");
        files.iter().all(|f| ["L1", "L2", "L3", "L4", "L5"].iter().any(|l| f.as_str().expect("text").starts_with(l)))
    };
    let cases: Vec<&Value> = step["cases"].as_array().expect("cases").iter().filter(plain).collect();
    assert!(cases.len() >= 6, "the golden file has lost its cases: {}", cases.len());
    cases
}

fn files(case: &Value) -> Vec<&str> {
    case["files"].as_array().expect("files").iter().map(|f| f.as_str().expect("text")).collect()
}

#[test]
fn loss_and_gradient_are_the_references_for_every_network_and_variant() {
    let (step, numbers) = (json("step/step.json"), Numbers::open("step/step.safetensors"));
    for case in cases(&step) {
        let name = case["case"].as_str().expect("a name");
        let mut engine = engine_with(&files(case), false);
        for (variant, want) in case["variants"].as_object().expect("variants") {
            let got = compute(&mut engine, case, &step, variant, &numbers);
            let what = format!("{name}/{variant}");
            close(&format!("{what} mse"), &got.mse, &list(&want["mse_per_sample"]), 1e-5);
            close(&format!("{what} loss"), &[got.loss], &[want["loss"].as_f64().expect("a number")], 1e-5);
            close(&format!("{what} gradient"), &got.grad, &numbers.floats(&format!("{what}/grad_f64")), 1e-3);
            if variant == "eps" {
                close(&format!("{what} pred"), &got.prediction, &numbers.floats(&format!("{name}/pred_f64")), 1e-4);
            }
        }
    }
}

#[test]
fn activation_checkpointing_changes_no_gradient() {
    let (step, numbers) = (json("step/step.json"), Numbers::open("step/step.safetensors"));
    for case in cases(&step) {
        let name = case["case"].as_str().expect("a name");
        let mut engine = engine_with(&files(case), true);
        let got = compute(&mut engine, case, &step, "eps", &numbers);
        close(name, &got.grad, &numbers.floats(&format!("{name}/eps/grad_f64")), 1e-3);
    }
}

#[test]
fn convolutions_as_products_give_the_same_gradient() {
    let (step, numbers) = (json("step/step.json"), Numbers::open("step/step.safetensors"));
    let mut engine = unfolded_engine();
    for case in cases(&step) {
        let name = case["case"].as_str().expect("a name");
        engine.attach(&networks(&files(case))).expect("networks attach");
        let got = compute(&mut engine, case, &step, "eps", &numbers);
        close(name, &got.prediction, &numbers.floats(&format!("{name}/pred_f64")), 1e-4);
        close(name, &got.grad, &numbers.floats(&format!("{name}/eps/grad_f64")), 1e-3);
    }
}

/// The golden model is 32 to 128 channels wide, so few roundings average out: with every activation in bfloat16 its
/// gradient is known to about a tenth. docs/performance.md has the figures of the full-size model.
#[test]
fn bfloat16_stays_within_its_rounding() {
    in_bf16(Tuning { unfold: true, small: 0 }, 0.15, 0.99);
}

#[test]
fn small_activations_kept_in_f32_make_bfloat16_good() {
    in_bf16(Tuning::GPU, 5e-2, 0.999);
}

fn in_bf16(tuning: Tuning, bound: f64, least_cosine: f64) {
    let (step, numbers) = (json("step/step.json"), Numbers::open("step/step.safetensors"));
    let mut engine = bf16_engine(tuning);
    for case in cases(&step) {
        let name = case["case"].as_str().expect("a name");
        engine.attach(&networks(&files(case))).expect("networks attach");
        let got = compute(&mut engine, case, &step, "eps", &numbers);
        let want = numbers.floats(&format!("{name}/eps/grad_f64"));
        close(name, &got.grad, &want, bound);
        close(name, &got.prediction, &numbers.floats(&format!("{name}/pred_f64")), 2e-2);
        let cosine = cosine(&got.grad, &want);
        assert!(cosine > least_cosine, "{name}: cosine similarity {cosine}");
    }
}
