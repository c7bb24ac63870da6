//! `lora-rates bench` on the tiny model: what it prints.

use serde_json::Value;
use std::process::{Command, Output};

fn bench(more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-rates"));
    command.args(["bench", "--model", "tiny", "--resolution", "64", "--steps", "1", "--rank", "4", "--device", "cpu"]);
    command.args(more).output().unwrap()
}

#[test]
fn it_prints_figures_for_programs() {
    let output = bench(&["--json", "--networks", "2", "--train_batch_size", "3"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["engine"], &report["networks"], &report["batch_size"]), (&"auto".into(), &2.into(), &3.into()));
    let number = |key: &str| report[key].as_f64().unwrap();
    assert!((number("images_per_second") * number("step_seconds") / 3.0 - 1.0).abs() < 1e-9);
    let share = number("operations") / number("step_seconds") / number("matmul_rate");
    assert!((number("share") / share - 1.0).abs() < 1e-9);
    assert!(number("copy_rate") > 1e8 && number("peak_bytes") > 1e6 && number("loss") > 0.0);
    assert_eq!((report["gradient"].as_array().map(Vec::len), &report["repeatable"]), (Some(40), &true.into()));
    assert_eq!(report["mixed_precision"], "no");
    // Engine burn can't tell its parts.
    assert_eq!(report["device_seconds"], Value::Null);
}

#[test]
fn weights_in_eight_bits_are_refused_where_nothing_can_keep_them() {
    let output = bench(&["--fp8_base"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("fp8_base is for engine cuda"), "{said}");
    assert!(output.stdout.is_empty());
}
