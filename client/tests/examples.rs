//! The worked examples of docs/examples.md, made small: each search must beat what people set by hand, on pictures that it
//! never saw. The figures of the documentation are of longer ones, over five seeds (tests/world/experiments).

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lora-rates");
const ALL: [&str; 8] = ["character1", "character2", "character3", "style1", "style2", "texture", "pose1", "useless"];
/// Samples of a step, and so the least that an epoch has.
const BATCH: usize = 4;
/// Held-out pictures of a test.
const HELD_OUT: usize = 8;

/// The small world's files, written once.
fn world() -> &'static Path {
    static FILES: OnceLock<TempDir> = OnceLock::new();
    let folder = FILES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let done = run(Command::new(PROGRAM).args(["demo", "--files_only", "--output_dir"]).arg(folder.path()));
        assert!(done.is_empty(), "{done}");
        folder
    });
    folder.path()
}

/// Standard output of a command that succeeds.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The first pictures of a part of an example, as a folder of which an epoch fills a step.
fn pictures(to: &Path, example: &str, part: &str, most: usize) -> PathBuf {
    let from = world().join("examples").join(example).join(part);
    let numbers = (0..most).take_while(|number| from.join(format!("{number:02}.png")).exists()).count();
    let inner = to.join(part).join(format!("{}_picture", BATCH.div_ceil(numbers)));
    fs::create_dir_all(&inner).expect("a folder");
    for file in (0..numbers).flat_map(|number| [format!("{number:02}.png"), format!("{number:02}.txt")]) {
        fs::copy(from.join(&file), inner.join(&file)).expect("a picture or caption of the example");
    }
    to.join(part)
}

/// The report of a short search on an example with these networks.
fn search(example: &str, networks: &[&str], options: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path();
    let network = |name: &&str| world().join("networks").join(format!("{name}.safetensors"));
    let mut command = Command::new(PROGRAM);
    command.args(["search", "--device", "cpu", "--resolution", "128", "--caption_extension", ".txt", "--seed", "1"]);
    command.arg("--pretrained_model_name_or_path").arg(world().join("world.safetensors"));
    command.arg("--network_weights").args(networks.iter().map(network));
    command.arg("--train_data_dir").arg(pictures(place, example, "train", 16));
    command.arg("--validation_data_dir").arg(pictures(place, example, "heldout", HELD_OUT));
    command.args(["--train_batch_size", &BATCH.to_string(), "--lr_scheduler", "cosine"]);
    command.args(["--validation_samples_per_image", "4", "--validate_every_n_steps", "1000"]);
    command.arg("--output_dir").arg(place).args(options);
    run(&mut command);
    let text = fs::read_to_string(place.join("rates.json"));
    Report(serde_json::from_str(&text.expect("a report")).expect("JSON"))
}

struct Report(Value);

impl Report {
    /// The held-out loss at the end.
    fn loss(&self) -> f64 {
        let last = self.0["validations"].as_array().and_then(|all| all.last());
        last.and_then(|it| it["loss"].as_f64()).expect("a measurement at the end")
    }

    /// The held-out losses of all rates at 0, 0.5 and 1.
    fn baselines(&self) -> Vec<f64> {
        let all = self.0["baselines"].as_array().expect("baselines");
        all.iter().map(|it| it["loss"].as_f64().expect("a loss")).collect()
    }

    /// The rates of a network where it has modules, of `networks` or of what pruning left of them.
    fn rates(&self, networks: &Value, name: &str) -> Vec<f64> {
        let all = networks.as_array().expect("networks");
        let network = all.iter().find(|it| it["name"] == name).expect("the network");
        network["rates"].as_object().expect("rates").values().filter_map(Value::as_f64).collect()
    }

    /// Sum of a network's rates.
    fn total(&self, name: &str) -> f64 {
        self.rates(&self.0["networks"], name).iter().sum()
    }

    fn beats_what_is_set_by_hand(&self) {
        let (loss, others) = (self.loss(), self.baselines());
        assert_eq!(others.len(), 3);
        assert!(others.iter().all(|other| loss < *other), "{loss} against all 0, 0.5 and 1: {others:?}");
    }
}

#[test]
fn a_character_in_another_networks_style_needs_these_two_networks() {
    let options = ["--max_train_steps", "24", "--learning_rate", "0.1", "--application_loss_weight", "0.002"];
    let report = search("character_in_style", &ALL, &options);
    report.beats_what_is_set_by_hand();
    let right = report.total("character1").min(report.total("style2"));
    let wrong = ALL.iter().filter(|name| !["character1", "style2"].contains(name)).map(|name| report.total(name));
    let wrong: Vec<f64> = wrong.collect();
    assert!(wrong.iter().all(|total| *total < right), "{right} against {wrong:?}");
}

#[test]
fn layers_that_a_network_does_not_need_are_set_to_zero_at_no_loss() {
    let options = ["--max_train_steps", "24", "--learning_rate", "0.1", "--prune", "0.3"];
    let report = search("layers_needed", &["character1"], &options);
    report.beats_what_is_set_by_hand();
    let zeros = |networks: &Value| report.rates(networks, "character1").iter().filter(|rate| **rate == 0.0).count();
    let pruned = &report.0["conclusion"]["pruned"];
    assert!(zeros(pruned) > zeros(&report.0["networks"]), "{pruned:?}");
}

#[test]
fn one_picture_is_enough_to_change_a_characters_style() {
    let report = search("style_changed", &["character1", "style1"], &["--max_train_steps", "12"]);
    report.beats_what_is_set_by_hand();
}

#[test]
fn one_picture_is_enough_to_change_a_characters_pose() {
    let report = search("pose_changed", &["character1", "pose1"], &["--max_train_steps", "12"]);
    report.beats_what_is_set_by_hand();
}

#[test]
fn layers_that_carry_a_character_are_found_in_a_picture_of_another_style() {
    let report = search("layers_of_a_character", &["character2"], &["--max_train_steps", "24"]);
    report.beats_what_is_set_by_hand();
}

#[test]
fn all_networks_are_brought_towards_one_picture() {
    let report = search("all_networks", &ALL, &["--max_train_steps", "12", "--application_loss_weight", "0.001"]);
    report.beats_what_is_set_by_hand();
}
