//! What a process has computed takes no memory afterwards: searches and evaluations run for days.
#![cfg(target_os = "linux")]

use lora_rates_common::diffusion::LossOptions;
use lora_rates_tests::golden::{Numbers, engine_with, json};
use lora_rates_worker::engine::{GradientEngine, Microbatch};

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
    let numbers = Numbers::open("step/step.safetensors");
    let shape = numbers.shape("batch/latents");
    let batch = Microbatch {
        height: shape[2],
        width: shape[3],
        latents: numbers.singles("batch/latents"),
        noise: numbers.singles("batch/noise"),
        timesteps: numbers.timesteps("batch/timesteps"),
        prompts: numbers.prompts("batch/ids_clip_l", "batch/ids_clip_g"),
        time_ids: numbers.time_ids("batch/time_ids"),
        loss_weights: vec![1.0; shape[0]],
    };
    let mut engine = engine_with(&files, false);
    let options = LossOptions::default();
    // burn's notes of a prediction's operations, never swept out, would be 70 MB here.
    let predicting = growth(|| drop(engine.losses(&batch.part(0..1), &rates, &options).unwrap()));
    let training = growth(|| drop(engine.gradient(&batch.part(0..1), &rates, &options).unwrap()));
    eprintln!("100 predictions: {predicting:.1} MB, 100 gradients: {training:.1} MB");
    assert!(predicting < 15.0 && training < 15.0, "{predicting} MB by predictions, {training} MB by gradients");
}
