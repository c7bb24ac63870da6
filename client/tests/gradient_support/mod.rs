//! What the tests of `gradient` and `trajectory` share: the program, and golden tensors as its input.
#![allow(dead_code, missing_docs, unreachable_pub)]

use lora_rates_common::tensor_file::{Dtype, NewTensor, write};
use lora_rates_test_support::{TensorFile, fixture, tiny_single};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How the program ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

/// Runs a command on the golden model, on the CPU.
pub fn run(command: &str, networks: &[&str], options: &[&str]) -> Ended {
    let networks: Vec<PathBuf> = networks.iter().map(|file| fixture(&format!("lora/{file}"))).collect();
    run_on(command, &tiny_single(), &networks, options)
}

/// Runs a command on a model, on the CPU.
pub fn run_on(command: &str, model: &Path, networks: &[PathBuf], options: &[&str]) -> Ended {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lora-rates"));
    program.arg(command).arg("--pretrained_model_name_or_path").arg(model).arg("--network_weights").args(networks);
    if !options.contains(&"--device") {
        program.args(["--device", "cpu"]);
    }
    let Output { status, stderr, stdout } = program.args(options).output().expect("the program starts");
    assert!(stdout.is_empty(), "nothing belongs on standard output: {}", String::from_utf8_lossy(&stdout));
    Ended { code: status.code(), stderr: String::from_utf8_lossy(&stderr).into_owned() }
}

impl Ended {
    #[track_caller]
    pub fn well(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
    }

    /// Ended with this code and one line that says all of these.
    #[track_caller]
    pub fn badly(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let lines: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((lines.len(), self.stderr.lines().count()), (1, 1), "one line: {}", self.stderr);
        for word in says {
            assert!(lines[0].contains(word), "{word:?} is not in {:?}", lines[0]);
        }
    }
}

/// A golden tensor under another name.
pub fn copied(file: &TensorFile, from: &str, to: &str) -> NewTensor<'static> {
    let tensor = file.get(from);
    let dtype = match tensor.dtype {
        "F32" => Dtype::F32,
        "I64" => Dtype::I64,
        other => panic!("{from} has type {other}"),
    };
    NewTensor { name: to.to_owned(), dtype, shape: tensor.shape(), data: tensor.bytes.to_vec().into() }
}

/// A tensor of type I64.
pub fn integers(name: &str, shape: &[usize], values: &[i64]) -> NewTensor<'static> {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    NewTensor { name: name.to_owned(), dtype: Dtype::I64, shape: shape.to_vec(), data: data.into() }
}

pub fn save(path: &Path, tensors: &[NewTensor<'_>]) {
    write(path, tensors, &BTreeMap::new()).expect("a file can be written");
}

/// Norm of the difference over the norm of the truth.
#[track_caller]
pub fn close(what: &str, got: &[f64], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let difference: f64 = got.iter().zip(want).map(|(got, want)| (got - want).powi(2)).sum();
    let norm: f64 = want.iter().map(|want| want * want).sum();
    let error = (difference / norm).sqrt();
    assert!(error < bound, "{what}: relative error {error:.2e} is not below {bound:.0e}");
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
