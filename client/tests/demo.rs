//! `lora-rates demo` from end to end.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lora-rates");

fn demo(folder: &Path, options: &[&str]) -> Output {
    let output = Command::new(PROGRAM).args(["demo", "--output_dir"]).arg(folder).args(options).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn read(folder: &Path, file: &str) -> Vec<u8> {
    fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn a_demonstration_can_be_run_twice_and_its_command_repeats_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path().join("my demo's files");
    let output = demo(&folder, &["--steps", "2"]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("disturbing") && table.contains("restoring") && table.contains("OUT08"), "{table}");
    let rates = read(&folder, "demo.safetensors");

    assert_eq!(demo(&folder, &["--steps", "2"]).stdout, output.stdout);
    assert_eq!(read(&folder, "demo.safetensors"), rates);

    let said = String::from_utf8(output.stderr).expect("text");
    let (_, command) = said.split_once("The same search on these files:\n").expect("it ends with the command");
    let command = command.trim_start().strip_prefix("lora-rates ").expect("a command of this program");
    fs::remove_file(folder.join("demo.safetensors")).expect("the result can be removed");
    let again = Command::new("sh").args(["-c", &format!("\"$0\" {command}"), PROGRAM]).output().expect("a shell");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(read(&folder, "demo.safetensors"), rates);
}

#[test]
fn files_are_kept_only_when_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let caption = "pictures/2_striped circle/0.txt";
    demo(folder.path(), &["--steps", "1"]);
    let made = read(folder.path(), caption);
    fs::write(folder.path().join(caption), "mine").expect("a caption can be written");
    demo(folder.path(), &["--steps", "1", "--keep"]);
    assert_eq!(read(folder.path(), caption), b"mine");
    demo(folder.path(), &["--steps", "1"]);
    assert_eq!(read(folder.path(), caption), made);
}

#[test]
fn loss_and_penalty_fall_and_the_restoring_module_comes_out_on_top() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    demo(folder.path(), &["--steps", "40"]);
    let json: serde_json::Value = serde_json::from_slice(&read(folder.path(), "demo.json")).expect("JSON");
    let history = json["history"].as_array().expect("a history");
    let number = |step: &serde_json::Value, what: &str| step[what].as_f64().expect("a number");
    let mean = |what: &str, from: usize| history[from..from + 10].iter().map(|step| number(step, what)).sum::<f64>();
    for what in ["loss", "penalty"] {
        let (first, last) = (mean(what, 0), mean(what, 30));
        assert!(last < 0.8 * first, "{what} went from {first} to {last}");
    }
    let rates = json["networks"][1]["rates"].as_object().expect("rates");
    let greatest = rates.iter().max_by(|a, b| a.1.as_f64().partial_cmp(&b.1.as_f64()).expect("numbers"));
    assert_eq!(greatest.map(|(block, _)| block.as_str()), Some("OUT08"), "{rates:?}");
}

#[test]
fn a_folder_that_can_not_be_written_is_an_error_of_one_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("a file");
    fs::write(&file, "").expect("a file can be written");
    let output = Command::new(PROGRAM).args(["demo", "--output_dir"]).arg(&file).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("error: ") && said.contains("a file"), "{said}");
}
