//! `lora-rates trajectory` against the reference's trajectories, and its answers to bad input.

mod gradient_support;

use gradient_support::{Ended, close, copied, run, save, text};
use lora_rates_test_support::{TensorFile, fixture};
use std::path::Path;

const NETWORKS: [&str; 2] = ["L1_attention.safetensors", "L2_unet_te.safetensors"];
const STEPS: &str = "traj/trajectories.safetensors";

fn follow(steps: &Path, output: &Path, options: &[&str]) -> Ended {
    run("trajectory", &NETWORKS, &[&["--steps", text(steps), "--output", text(output)], options].concat())
}

/// Follows a golden run and compares the rates after every update and the loss of every micro step.
fn check(run: &str, options: &[&str]) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("out.safetensors");
    follow(&fixture(STEPS), &output, &[&["--run", run, "--penalize_dead_slots"], options].concat()).well();

    let (golden, output) = (TensorFile::open(&fixture(STEPS)), TensorFile::open(&output));
    let want = golden.get(&format!("{run}/rates_f64"));
    assert_eq!(output.get("rates").shape(), want.shape());
    let (got, want) = (output.get("rates").floats(), want.floats());
    for (place, (got, want)) in got.iter().zip(&want).enumerate() {
        let (update, rate) = (place / 40, place % 40);
        assert!((got - want).abs() < 1e-4, "{run}: rate {rate} after update {update} is {got} instead of {want}");
    }
    let json = std::fs::read(fixture("traj/trajectories.json")).expect("a fixture");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let losses = json["runs"][run]["data_loss_per_micro_step"].as_array().expect("a list");
    let losses: Vec<f64> = losses.iter().map(|loss| loss.as_f64().expect("a number")).collect();
    close("loss", &output.get("loss").floats(), &losses, 1e-4);
    got
}

#[test]
fn a_constant_learning_rate_gives_the_references_trajectory_and_its_file() {
    let rates = check("constant", &[]);
    let saved = TensorFile::open(&fixture("traj/expected_output_constant.safetensors")).get("weights").floats();
    let last = &rates[rates.len() - saved.len()..];
    assert!(last.iter().zip(&saved).all(|(got, want)| (got - want).abs() < 1e-4));
}

#[test]
fn accumulation_gives_the_references_trajectory() {
    check("accumulate2", &["--gradient_accumulation_steps", "2"]);
}

#[test]
fn a_cosine_schedule_with_warm_up_gives_the_references_trajectory() {
    check("cosine_warmup5", &["--lr_scheduler", "cosine", "--lr_warmup_steps", "5"]);
}

/// Four micro steps of the golden file, without a prefix.
fn short(folder: &Path) -> std::path::PathBuf {
    let golden = TensorFile::open(&fixture(STEPS));
    let cut = |from: &str, to: &str| {
        let mut tensor = copied(&golden, from, to);
        let step = tensor.data.len() / tensor.shape[0];
        tensor.shape[0] = 4;
        tensor.data = tensor.data[..4 * step].to_vec().into();
        tensor
    };
    let mut tensors =
        vec![cut("index", "index"), cut("constant/noise", "noise"), cut("constant/timesteps", "timesteps")];
    for name in ["latents", "ids_clip_l", "ids_clip_g", "time_ids"] {
        let name = format!("data/{name}");
        tensors.push(copied(&golden, &name, &name));
    }
    let path = folder.join("steps.safetensors");
    save(&path, &tensors);
    path
}

#[test]
fn dead_slots_stay_at_zero_unless_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (steps, output) = (short(folder.path()), folder.path().join("out.safetensors"));
    follow(&steps, &output, &[]).well();
    let (output, golden) = (TensorFile::open(&output), TensorFile::open(&fixture(STEPS)));
    assert_eq!(output.get("rates").shape(), [4, 40]);
    assert_eq!(output.get("loss").shape(), [4]);
    let (got, want) = (output.get("rates").floats(), golden.get("constant/rates_f64").floats());
    // BASE and IN00 of the first network have no module; its IN04 has, and moves as the reference's.
    assert_eq!((got[120], got[121]), (0.0, 0.0));
    assert!((got[125] - want[125]).abs() < 1e-4);
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (steps, output) = (short(folder.path()), folder.path().join("out.safetensors"));
    let refused = |options: &[&str], code: i32, says: &[&str]| follow(&steps, &output, options).badly(code, says);
    refused(&["--run", "constant"], 1, &["steps.safetensors", "constant/timesteps", "[4, 2]"]);
    refused(&["--gradient_accumulation_steps", "3"], 2, &["gradient_accumulation_steps", "4"]);
    refused(&["--gradient_accumulation_steps", "0"], 2, &["gradient_accumulation_steps"]);
    refused(&["--learning_rate", "-1"], 2, &["learning_rate"]);
    refused(&["--lr_scheduler", "steep"], 2, &["lr_scheduler"]);
    refused(&["--lr_scheduler", "cosine", "--lr_warmup_steps", "4"], 2, &["lr_warmup_steps"]);
    refused(&["--optimizer_args", "decay=1"], 2, &["optimizer_args"]);
}
