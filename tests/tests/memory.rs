//! What a process has computed takes no memory afterwards: searches and evaluations run for days.
#![cfg(target_os = "linux")]

use lora_rates_common::diffusion::LossOptions;
use lora_rates_tests::golden::{Numbers, batch, engine_with, json};
use lora_rates_worker::engine::GradientEngine;

/// Megabytes of this process in memory.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// Megabytes by which so many runs make the process grow, after some that warm it up.
fn growth(mut run: impl FnMut()) -> f64 {
    (0..10).for_each(|_| run());
    let before = resident();
    (0..100).for_each(|_| run());
    resident() - before
}

#[test]
fn neither_predictions_nor_gradients_leave_anything_behind() {
    let step = json("step/step.json");
    let case = &step["cases"][0];
    let files: Vec<&str> = case["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let rates: Vec<f32> = case["rates"].as_array().unwrap().iter().map(|rate| rate.as_f64().unwrap() as f32).collect();
    let one = batch(&Numbers::open("step/step.safetensors"), None).part(0..1);
    let mut engine = engine_with(&files, false);
    let options = LossOptions::default();
    // burn's notes of a prediction's operations, never swept out, would be 70 MB here.
    let predicting = growth(|| drop(engine.losses(&one, &rates, &options).unwrap()));
    let training = growth(|| drop(engine.gradient(&one, &rates, &options).unwrap()));
    eprintln!("100 predictions: {predicting:.1} MB, 100 gradients: {training:.1} MB");
    assert!(predicting < 15.0 && training < 15.0, "{predicting} MB by predictions, {training} MB by gradients");
}
