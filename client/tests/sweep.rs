//! Sweeps: many searches, one table.
#![cfg(unix)]

mod search_support;

use lora_rates_test_support::fixture;
use search_support::cluster::{Cluster, wait};
use search_support::{Bench, fail, json_lines, stderr, succeed, text};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

/// What every sweep here has.
const GRID: [&str; 7] =
    ["--validation_split", "0.5", "--validate_every_n_steps", "100", "--application_loss_weights", "0", "0.5"];

fn sweep(bench: &Bench, arguments: &[&str]) -> Command {
    bench.command("sweep", &[&GRID[..], arguments].concat(), &["--seed"])
}

fn two_networks() -> [String; 2] {
    [fixture("lora/L1_attention.safetensors"), fixture("lora/L3_locon.safetensors")].map(|path| text(&path))
}

fn rows(bench: &Bench) -> Vec<Value> {
    bench.json("out/rates-sweep.json").as_array().expect("rows").clone()
}

#[test]
fn a_sweep_compares_all_searches_of_its_grid() {
    let bench = Bench::new();
    let [one, two] = two_networks();
    let arguments = ["--network_weights", &one, &two, "--subsets", "all", "singles", "--device", "cpu,cpu"];
    let output = succeed(sweep(&bench, &arguments));
    let rows = rows(&bench);
    let labels: Vec<&str> = rows.iter().filter_map(|row| row["label"].as_str()).collect();
    assert_eq!(
        labels,
        [
            "all,w0,lr0.1,seed0",
            "all,w0.5,lr0.1,seed0",
            "L1_attention,w0,lr0.1,seed0",
            "L1_attention,w0.5,lr0.1,seed0",
            "L3_locon,w0,lr0.1,seed0",
            "L3_locon,w0.5,lr0.1,seed0"
        ]
    );
    assert!(rows.iter().all(|row| row["state"] == "finished" && row["step"] == 3 && row["held_out_loss"].is_f64()));
    assert!(rows.iter().any(|row| row["pareto"] == true));
    // No row on the front is beaten.
    let of = |row: &Value| (row["held_out_loss"].as_f64().unwrap(), row["total_rate"].as_f64().unwrap());
    for row in rows.iter().filter(|row| row["pareto"] == true) {
        let (loss, total) = of(row);
        assert!(!rows.iter().map(of).any(|(l, t)| l < loss && t < total));
    }
    assert_eq!(rows[2]["networks"].as_array().unwrap().len(), 1);
    let (printed, said) = (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output));
    assert_eq!(printed.lines().count(), 7, "{printed}");
    assert!(printed.contains("TOTAL RATE") && printed.lines().any(|line| line.starts_with('*')), "{printed}");
    assert!(said.contains("6 searches, on 2 workers") && said.contains("6/6: "), "{said}");
    let csv = String::from_utf8(bench.written("out/rates-sweep.csv")).unwrap();
    assert_eq!(csv.lines().count(), 7);

    // One of them alone comes to the same.
    let alone =
        ["--network_weights", &one, "--application_loss_weight", "0.5", "--seed", "0", "--output_name", "alone"];
    succeed(bench.search(&[&GRID[..4], &alone].concat()));
    assert_eq!(bench.json("out/alone.json")["best"]["networks"][0]["rates"], rows[3]["best"][0]["rates"]);
    assert_eq!(bench.json("out/alone.json")["best"]["loss"], rows[3]["held_out_loss"]);
}

#[test]
fn a_sweep_that_is_stopped_goes_on_where_it_was() {
    let bench = Bench::new();
    let steps = ["--max_train_steps", "20"];
    let child = sweep(&bench, &steps).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let state = bench.path("out/rates-sweep-state");
    wait("the store is made", || std::fs::read_dir(&state).is_ok_and(|mut files| files.next().is_some()));
    std::thread::sleep(std::time::Duration::from_secs(2));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output: Output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("the same command goes on from there"), "{}", stderr(&output));

    succeed(sweep(&bench, &steps));
    let whole = Bench::new();
    succeed(sweep(&whole, &steps));
    let numbers = |bench: &Bench| -> Vec<(Value, Value)> {
        rows(bench).iter().map(|row| (row["held_out_loss"].clone(), row["best"][0]["rates"].clone())).collect()
    };
    assert_eq!(numbers(&bench), numbers(&whole));
    // Finished: the table at once.
    let output = succeed({
        let mut again = sweep(&bench, &steps);
        again.arg("--json");
        again
    });
    assert_eq!(json_lines(&output).len(), 2);
}

#[test]
fn a_coordinator_sweeps_as_this_machine_does() {
    let (bench, cluster) = (Bench::new(), Cluster::start(2));
    succeed(sweep(&bench, &[]));
    let here = rows(&bench);
    let url = cluster.url();
    let there = ["--coordinator", &url, "--pretrained_model_name_or_path", "tiny_sdxl.safetensors"];
    succeed(bench.command("sweep", &[&GRID[..], &there].concat(), &["--seed", "--device"]));
    let there = rows(&bench);
    for (here, there) in here.iter().zip(&there) {
        for part in ["label", "held_out_loss", "total_rate", "pareto", "step"] {
            assert_eq!(here[part], there[part], "{part}");
        }
    }
    let names: Vec<Value> = json_lines(&succeed(cluster.command(&["list", "--json"])))
        .iter()
        .map(|search| search["name"].clone())
        .collect();
    assert_eq!(names, ["rates/all,w0,lr0.1,seed0", "rates/all,w0.5,lr0.1,seed0"]);
}

#[test]
fn a_sweep_that_makes_no_sense_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    let refused = |arguments: &[&str], part: &str| {
        let line = fail(bench.command("sweep", arguments, &["--seed"]), 2);
        assert!(line.contains(part), "{line}\nhas no {part}");
        assert!(!bench.path("out").exists());
    };
    refused(&[], "--validation_split is missing");
    let split = ["--validation_split", "0.5"];
    let seeds: Vec<String> = (0..1001).map(|seed| seed.to_string()).collect();
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    refused(&[&split[..], &["--seeds"], &seeds].concat(), "the sweep has 1001 searches; at most 1000");
    refused(&[&split[..], &["--subsets", "leave_one_out"]].concat(), "--subsets is missing");
    refused(&[&split[..], &["--subsets", "some"]].concat(), "leave_one_out");
    refused(&[&split[..], &["--learning_rates", "0.1", "-1"]].concat(), "learning_rate is -1");
    refused(&[&split[..], &["--seeds", "1", "--seed", "2"]].concat(), "--seed");
}
