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
fn a_demonstration_gains_on_held_out_pictures_shows_it_and_its_command_repeats_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path().join("my demo's files");
    let output = demo(&folder, &["--steps", "12"]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("character1") && table.contains("useless") && table.contains("OUT08"), "{table}");
    let rates = read(&folder, "demo.safetensors");

    let json: serde_json::Value = serde_json::from_slice(&read(&folder, "demo.json")).expect("JSON");
    let validations = json["validations"].as_array().expect("the measurements");
    let loss = |place: usize| validations[place]["loss"].as_f64().expect("a number");
    assert!(loss(1) < loss(0), "{validations:?}");

    // Rows: the pictures, no network, all whole, found.
    let strip = image::load_from_memory(&read(&folder, "before-after.png")).expect("a picture").into_rgb8();
    assert_eq!(strip.dimensions(), (132 + 4 * 128, 4 * 128));
    let row = |at: u32| image::imageops::crop_imm(&strip, 132, 128 * at, 4 * 128, 128).to_image();
    for (one, other) in [(0, 1), (1, 2), (2, 3), (1, 3)] {
        let pairs = row(one).into_raw().into_iter().zip(row(other).into_raw());
        let difference = pairs.map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>() / f64::from(4 * 128 * 128 * 3);
        assert!(difference > 1.0, "rows {one} and {other} differ by {difference} of 255");
    }

    let said = String::from_utf8(output.stderr).expect("text");
    let (_, command) = said.split_once("The same search on these files:\n").expect("it ends with the command");
    let command = command.trim_start().strip_prefix("lora-rates ").expect("a command of this program");
    fs::remove_file(folder.join("demo.safetensors")).expect("the result can be removed");
    let again = Command::new("sh").args(["-c", &format!("\"$0\" {command}"), PROGRAM]).output().expect("a shell");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(read(&folder, "demo.safetensors"), rates);
}

#[test]
fn only_the_files_are_written_when_asked_and_kept_when_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let caption = "examples/character_in_style/train/00.txt";
    demo(folder.path(), &["--files_only"]);
    assert!(!folder.path().join("demo.json").exists());
    let made = read(folder.path(), caption);
    fs::write(folder.path().join(caption), "mine").expect("a caption can be written");
    demo(folder.path(), &["--files_only", "--keep"]);
    assert_eq!(read(folder.path(), caption), b"mine");
    demo(folder.path(), &["--files_only"]);
    assert_eq!(read(folder.path(), caption), made);
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
