//! Running the program on the tiny golden model. No test file needs all of it.
#![allow(dead_code, unreachable_pub)]

pub mod cluster;

use lora_rates_test_support::{fixture, tiny_single};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder with pictures, and the program run in it.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    /// Two pictures with captions.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pictures = folder.path().join("pictures").join("1_someone");
        fs::create_dir_all(&pictures).expect("a folder");
        for name in ["first", "second"] {
            fs::copy(fixture("image/astronaut_64x64.png"), pictures.join(name).with_extension("png"))
                .expect("a picture");
            fs::write(pictures.join(name).with_extension("txt"), format!("the {name}")).expect("a caption");
        }
        Self { folder }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `lora-rates search` with what every search needs, and these arguments; a later option replaces an earlier one.
    pub fn search(&self, arguments: &[&str]) -> Command {
        self.command("search", arguments, &[])
    }

    /// Such a command with what every search needs but these options, and these arguments.
    pub fn command(&self, name: &str, arguments: &[&str], without: &[&str]) -> Command {
        let mut command = lora_rates();
        command.current_dir(self.folder.path());
        let mut defaults = vec![
            ("--pretrained_model_name_or_path", text(&tiny_single())),
            ("--network_weights", text(&fixture("lora/L1_attention.safetensors"))),
            ("--train_data_dir", "pictures".to_owned()),
            ("--caption_extension", ".txt".to_owned()),
            ("--resolution", "64".to_owned()),
            ("--device", "cpu".to_owned()),
            ("--seed", "7".to_owned()),
            ("--max_train_steps", "3".to_owned()),
            ("--output_dir", "out".to_owned()),
        ];
        defaults.retain(|(option, _)| !arguments.contains(option) && !without.contains(option));
        command.arg(name).args(arguments);
        defaults.into_iter().for_each(|(option, value)| {
            command.arg(option).arg(value);
        });
        command
    }

    /// The bytes of a file that a search wrote.
    pub fn written(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A JSON file that a search wrote.
    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.written(name)).expect("JSON")
    }
}

/// The program, whatever the environment says.
pub fn lora_rates() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-rates"));
    command.env_remove("LORA_RATES_LOG").env_remove("LORA_RATES_COORDINATOR").stdin(Stdio::null());
    command
}

/// The objects that it printed, a line each.
pub fn json_lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Runs it to its end and asserts that it went well.
#[track_caller]
pub fn succeed(mut command: Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{:?}\n{}", output.status, stderr(&output));
    output
}

/// Runs it to its end, asserts this exit code and one line of error, and returns that line.
#[track_caller]
pub fn fail(mut command: Command, code: i32) -> String {
    let output = command.output().expect("the program starts");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("error: "), "the last line is no error:\n{said}");
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "more than one error:\n{said}");
    last
}

/// What it said to people.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
