//! `lora-rates gradient` against PyTorch's float64 run, and its answers to bad input.

mod gradient_support;

use gradient_support::{close, copied, integers, run, run_on, save, text};
use lora_rates_common::tensor_file::NewTensor;
use lora_rates_test_support::{TensorFile, fixture, tiny_single};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const L1: &str = "L1_attention.safetensors";

fn golden() -> TensorFile {
    TensorFile::open(&fixture("step/step.safetensors"))
}

/// The golden batch, `loss_weights` left out.
fn batch() -> Vec<NewTensor<'static>> {
    let names = ["latents", "noise", "timesteps", "ids_clip_l", "ids_clip_g", "time_ids"];
    let golden = golden();
    names.iter().map(|name| copied(&golden, &format!("batch/{name}"), name)).collect()
}

/// The golden batch with one tensor instead of that of the same name.
fn batch_with(tensor: NewTensor<'static>) -> Vec<NewTensor<'static>> {
    let mut batch = batch();
    batch.retain(|other| other.name != tensor.name);
    batch.push(tensor);
    batch
}

/// A folder with a batch and rates, and the options that name them.
struct Input {
    folder: tempfile::TempDir,
}

impl Input {
    fn new(batch: &[NewTensor<'_>], rates: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        save(&folder.path().join("batch.safetensors"), batch);
        fs::write(folder.path().join("rates.json"), rates).expect("a file can be written");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, networks: &[&str], more: &[&str]) -> gradient_support::Ended {
        let (batch, rates, output) = self.paths();
        let files = ["--batch", text(&batch), "--rates", text(&rates), "--output", text(&output)];
        run("gradient", networks, &[&files, more].concat())
    }

    fn paths(&self) -> (PathBuf, PathBuf, PathBuf) {
        (self.path("batch.safetensors"), self.path("rates.json"), self.path("out.safetensors"))
    }

    fn output(&self) -> TensorFile {
        TensorFile::open(&self.path("out.safetensors"))
    }
}

fn half() -> String {
    serde_json::to_string(&[[0.5; 20]]).expect("JSON")
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn step() -> Value {
    serde_json::from_slice(&fs::read(fixture("step/step.json")).expect("a fixture")).expect("JSON")
}

/// Runs a golden case and compares every tensor of its output.
fn check(name: &str, variant: &str, batch: &[NewTensor<'_>], options: &[&str]) {
    let (step, golden) = (step(), golden());
    let cases = step["cases"].as_array().expect("cases");
    let case = cases.iter().find(|case| case["case"] == name).expect("the golden file has the case");
    let files: Vec<&str> = case["files"].as_array().expect("files").iter().map(|f| f.as_str().expect("text")).collect();
    let rates = list(&case["rates"]);
    let lists: Vec<&[f64]> = rates.chunks(20).collect();
    let input = Input::new(batch, &serde_json::to_string(&lists).expect("JSON"));
    input.run(&files, &[&["--penalize_dead_slots"], options].concat()).well();

    let (output, want) = (input.output(), &case["variants"][variant]);
    let got = |name: &str| output.get(name).floats();
    assert_eq!(output.get("pred").shape(), [3, 4, 8, 8]);
    assert_eq!(output.get("grad").shape(), [rates.len()]);
    close("pred", &got("pred"), &golden.get(&format!("{name}/pred_f64")).floats(), 1e-4);
    close("mse", &got("mse"), &list(&want["mse_per_sample"]), 1e-5);
    close("loss", &got("loss"), &[want["loss"].as_f64().expect("a number")], 1e-5);
    let grad = golden.get(&format!("{name}/{variant}/grad_f64")).floats();
    close("grad", &got("grad"), &grad, 1e-3);
    assert!(got("grad").iter().zip(&grad).all(|(got, want)| *want != 0.0 || *got == 0.0), "dead slots have gradient 0");
    close("penalty", &got("penalty"), &[case["penalty"].as_f64().expect("a number")], 1e-6);
    let penalty = golden.get(&format!("{name}/penalty_grad_times_1e-4")).floats();
    close("penalty_grad", &got("penalty_grad"), &penalty, 1e-6);
}

#[test]
fn the_step_is_the_references_for_several_networks_at_random_rates() {
    check("L1+L2+L3/random", "eps", &batch(), &[]);
}

#[test]
fn loss_weights_and_loss_options_reach_the_loss() {
    let weights = list(&step()["loss_weights"]);
    let weights: Vec<f32> = weights.into_iter().map(|weight| weight as f32).collect();
    let weighted = batch_with(NewTensor::from_f32("loss_weights", &[3], &weights));
    check("L1/random", "eps_loss_weights", &weighted, &["--gradient_checkpointing"]);
    check("L1/random", "eps_min_snr5", &batch(), &["--min_snr_gamma", "5"]);
    check("L1/random", "v", &batch(), &["--v_parameterization"]);
}

#[test]
fn dead_slots_cost_nothing_unless_asked() {
    let input = Input::new(&batch(), &half());
    input.run(&[L1], &["--application_loss_weight", "0.5"]).well();
    let (output, grad) = (input.output(), golden().get("L1/half/eps/grad_f64").floats());
    let live = grad.iter().filter(|grad| **grad != 0.0).count();
    assert_eq!(output.get("penalty").floats(), [0.5 * live as f64]);
    let penalty: Vec<f64> = grad.iter().map(|grad| if *grad != 0.0 { 0.5 } else { 0.0 }).collect();
    assert_eq!(output.get("penalty_grad").floats(), penalty);
}

/// The batch with a changed tensor is refused by a line that names the file, the tensor and the fault.
fn refused(tensor: NewTensor<'static>, says: &str) {
    let name = tensor.name.clone();
    let input = Input::new(&batch_with(tensor), &half());
    input.run(&[L1], &[]).badly(1, &["batch.safetensors", &name, says]);
    assert!(!input.path("out.safetensors").exists());
}

#[test]
fn a_bad_tensor_is_refused_by_name() {
    refused(integers("timesteps", &[3], &[0, 1000, 5]), "1000");
    refused(integers("timesteps", &[3], &[0, -1, 5]), "-1");
    refused(integers("timesteps", &[2], &[0, 1]), "[3]");
    refused(NewTensor::from_f32("timesteps", &[3], &[1.0; 3]), "I64");
    refused(integers("time_ids", &[3, 6], &[64; 18]), "F32");
    refused(NewTensor::from_f32("time_ids", &[3, 5], &[64.0; 15]), "[3, 6]");
    refused(NewTensor::from_f32("loss_weights", &[3], &[1.0, f32::NAN, 1.0]), "element 1");
    refused(NewTensor::from_f32("latents", &[3, 4, 8, 6], &[0.0; 576]), "multiples of 4");
    refused(NewTensor::from_f32("latents", &[3, 3, 8, 8], &[0.0; 576]), "[B, 4, h, w]");
    refused(NewTensor::from_f32("latents", &[0, 4, 8, 8], &[]), "[B, 4, h, w]");
    refused(NewTensor::from_f32("noise", &[3, 4, 8, 8], &[f32::INFINITY; 768]), "infinite");
    refused(NewTensor::from_f32("noise", &[3, 4, 8, 4], &[0.0; 384]), "[3, 4, 8, 8]");
    refused(integers("ids_clip_l", &[3, 1, 77], &[49408; 231]), "49408");
    refused(integers("ids_clip_g", &[3, 2, 77], &[0; 462]), "[3, 1, 77]");
    refused(integers("ids_clip_l", &[3, 4, 77], &[0; 924]), "rows");
}

#[test]
fn a_missing_tensor_is_named_with_the_shape_it_must_have() {
    let mut without = batch();
    without.retain(|tensor| tensor.name != "ids_clip_g");
    let input = Input::new(&without, &half());
    input.run(&[L1], &[]).badly(1, &["batch.safetensors", "ids_clip_g", "[3, 1, 77]"]);
}

#[test]
fn bad_rates_are_refused() {
    let cases =
        [("{}", "JSON"), ("[[0.5]]", "20"), ("[]", "1"), ("[[1e300,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]]", "1e300")];
    for (rates, says) in cases {
        Input::new(&batch(), rates).run(&[L1], &[]).badly(1, &["rates.json", says]);
    }
}

#[test]
fn bad_options_are_usage_errors() {
    let input = Input::new(&batch(), &half());
    input.run(&[L1], &["--min_snr_gamma", "-1"]).badly(2, &["min_snr_gamma"]);
    input.run(&[L1], &["--application_loss_weight", "-1"]).badly(2, &["application_loss_weight"]);
    input.run(&[L1], &["--mixed_precision", "fp16"]).badly(2, &["bf16"]);
    input.run(&[L1], &["--device", "gpu"]).badly(2, &["--device"]);
    input.run(&[L1, L1], &[]).badly(1, &["rates.json", "2"]);
}

#[test]
fn what_is_missing_is_said_with_its_path() {
    let input = Input::new(&batch(), &half());
    let (batch, rates, output) = input.paths();
    let files = ["--batch", text(&batch), "--rates", text(&rates), "--output", text(&output)];
    let network = fixture(&format!("lora/{L1}"));
    let missing = Path::new("nowhere.safetensors");
    run_on("gradient", missing, std::slice::from_ref(&network), &files).badly(1, &["nowhere.safetensors"]);
    run_on("gradient", &tiny_single(), &[missing.into()], &files).badly(1, &["nowhere.safetensors"]);

    let nowhere = ["--batch", text(&batch), "--rates", text(&rates), "--output", "no/such/folder/out.safetensors"];
    run_on("gradient", &tiny_single(), &[network], &nowhere).badly(1, &["no/such/folder"]);
}
