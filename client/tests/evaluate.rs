//! The commands that measure without a search: evaluate and variance.

mod search_support;

use search_support::{Bench, fail, json_lines, stderr, succeed};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

const UNUSED: [&str; 4] = ["--max_train_steps", "--output_dir", "--seed", "--device"];

#[test]
fn lines_of_rates_are_answered_as_a_search_measures_them() {
    let bench = Bench::new();
    let held_out = ["--validation_split", "0.5"];
    succeed(bench.search(&[&held_out[..], &["--validate_every_n_steps", "3"]].concat()));
    let report = bench.json("out/rates.json");
    let mut all = vec![0.5; 20];
    all[1] = 7.0;
    fs::write(bench.path("rates.jsonl"), format!("[0]\n\n{{\"id\": \"half\", \"rates\": {all:?}}}\n[1.0]\n")).unwrap();
    let arguments = [&held_out[..], &["--rates", "rates.jsonl", "--gradient"]].concat();
    let output = succeed(bench.command("evaluate", &arguments, &["--output_dir", "--max_train_steps"]));
    let answers = json_lines(&output);
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].to_string()).collect();
    assert_eq!(ids, ["1", "\"half\"", "4"]);
    for (answer, baseline) in answers.iter().zip(report["baselines"].as_array().unwrap()) {
        for part in ["loss", "standard_error"] {
            let (one, other) = (answer[part].as_f64().unwrap(), baseline[part].as_f64().unwrap());
            assert!((one - other).abs() < 1e-6 * other.abs(), "{part}: {one} and {other}");
        }
        assert_eq!(answer["losses"].as_array().unwrap().len(), 1);
        assert_eq!(answer["samples"], 32);
    }
    // The gradient is that of the loss: by the rates of all blocks together it is the slope between 0.49 and 0.51.
    fs::write(bench.path("rates.jsonl"), "[0.49]\n[0.51]\n").unwrap();
    let near = succeed(bench.command(
        "evaluate",
        &[&held_out[..], &["--rates", "rates.jsonl"]].concat(),
        &["--output_dir", "--max_train_steps"],
    ));
    let near: Vec<f64> = json_lines(&near).iter().map(|answer| answer["loss"].as_f64().unwrap()).collect();
    let slope = (near[1] - near[0]) / 0.02;
    let sum: f64 = answers[1]["gradient"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).sum();
    assert!((sum - slope).abs() < 0.02 * slope.abs() + 1e-6, "{sum} and {slope}");
}

#[test]
fn every_line_of_standard_input_is_answered_before_the_next_is_read() {
    let bench = Bench::new();
    let mut command = bench.command("evaluate", &["--validation_samples_per_image", "2"], &UNUSED[..3]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, mut lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    for scale in [0.25, 0.75] {
        writeln!(input, "[{scale}]").unwrap();
        let answer: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // Without held-out pictures, all.
        assert_eq!((answer["losses"].as_array().unwrap().len(), &answer["samples"]), (2, &4.into()));
        assert_eq!(answer.get("gradient"), None);
    }
    writeln!(input, "[1, 2, 3]").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard input, line 3: the list has 3 numbers; give a list of 20 rates"), "{said}");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    let evaluate = |arguments: &[&str]| fail(bench.command("evaluate", arguments, &UNUSED[..3]), 2);
    let line = evaluate(&["--validation_samples_per_image", "5000"]);
    assert!(line.contains("--validation_samples_per_image is 5000; it must be at most 4096"), "{line}");
    assert!(evaluate(&["--device", "cpu,cpu"]).contains("one device computes here"));
    let line = fail(bench.command("evaluate", &["--rates", "nowhere"], &UNUSED[..3]), 1);
    assert!(line.contains("can't read nowhere; check --rates"), "{line}");
}

#[test]
fn the_variance_is_measured_under_every_way_at_equal_cost() {
    let bench = Bench::new();
    let arguments = ["--pairs", "3", "--gradient_accumulation_steps", "2", "--json"];
    let ways = json_lines(&succeed(bench.command("variance", &arguments, &UNUSED[..2])));
    assert_eq!(ways.len(), 4);
    for way in &ways {
        assert_eq!((&way["steps"], &way["samples"]), (&6.into(), &12.into()));
        assert!(way["step"].as_f64().unwrap() > 0.0 && way["pair"].as_f64().unwrap() > 0.0, "{way}");
    }
    assert_eq!((&ways[0]["timestep_sampling"], &ways[3]["noise_sampling"]), (&"uniform".into(), &"antithetic".into()));
    let table = succeed(bench.command("variance", &["--pairs", "2"], &UNUSED[..2]));
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().nth(1).unwrap().contains("uniform") && table.contains("1.000"), "{table}");
}

#[test]
fn a_search_with_uniform_timesteps_or_antithetic_noise_takes_another_way() {
    let bench = Bench::new();
    // With one sample a step there is nothing to stratify.
    let batch = ["--train_batch_size", "2"];
    succeed(bench.search(&[&batch[..], &["--output_name", "plain"]].concat()));
    for (option, value) in [("--timestep_sampling", "uniform"), ("--noise_sampling", "antithetic")] {
        succeed(bench.search(&[&batch[..], &["--output_name", value, option, value]].concat()));
        assert_ne!(bench.written("out/plain.safetensors"), bench.written(&format!("out/{value}.safetensors")));
    }
    // What the original tool did is left out, as in searches from before there was a choice.
    let settings = |name: &str| bench.json(&format!("out/{name}.json"))["settings"].clone();
    assert_eq!(settings("plain")["timestep_sampling"], "stratified");
    assert_eq!(settings("uniform")["timestep_sampling"], serde_json::Value::Null);
    assert_eq!(settings("antithetic")["noise_sampling"], "antithetic");
    let line = fail(bench.search(&["--timestep_sampling", "even"]), 2);
    assert!(line.contains("--timestep_sampling even: it must be uniform or stratified"), "{line}");
}
