//! Searches that are stopped, and go on.
#![cfg(unix)]

mod search_support;

use search_support::{Bench, fail, stderr, succeed};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// Steps of these searches: enough to be stopped within.
const STEPS: &str = "12";

/// Starts it and waits until some steps are made: the rates are saved at every step.
fn start(bench: &Bench, arguments: &[&str]) -> Child {
    let mut command = bench.search(&[&["--max_train_steps", STEPS, "--save_every_n_steps", "2"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    while !bench.path("out/rates-step00000002.safetensors").exists() {
        assert!(child.try_wait().expect("its state").is_none(), "it ended before it was stopped");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

/// Asks twice at once, as `timeout` does: to the process and to its group.
fn interrupt(child: &Child) {
    signal(child, "-INT");
    signal(child, "-INT");
}

fn stopped(child: Child) -> Output {
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    output
}

#[test]
fn an_interrupted_search_goes_on_to_the_same_numbers() {
    let (whole, bench) = (Bench::new(), Bench::new());
    succeed(whole.search(&["--max_train_steps", STEPS]));
    for name in ["-INT", "-TERM"] {
        let child = start(&bench, &["--overwrite"]);
        signal(&child, name);
        let said = stderr(&stopped(child));
        assert!(said.contains("--resume goes on from there") && !said.contains("error:"), "{said}");
        let report = bench.json("out/rates.json");
        let step = report["step"].as_u64().unwrap();
        assert_eq!(report["finished"], false);
        assert!((2..12).contains(&step), "stopped at step {step}");

        let line = fail(bench.search(&["--max_train_steps", STEPS]), 2);
        assert!(line.contains(&format!("step {step} of 12")), "{line}");
        assert!(line.contains("--resume") && line.contains("--overwrite"), "{line}");

        let said = stderr(&succeed(bench.search(&["--max_train_steps", STEPS, "--resume"])));
        assert!(said.contains(&format!("going on at step {step} of 12")), "{said}");
        assert_eq!(whole.written("out/rates.safetensors"), bench.written("out/rates.safetensors"));
        assert_eq!(whole.json("out/rates.json")["history"], bench.json("out/rates.json")["history"]);
        std::fs::remove_file(bench.path("out/rates-step00000002.safetensors")).unwrap();
    }
}

#[test]
fn a_killed_search_goes_on_to_the_same_numbers() {
    let (whole, bench) = (Bench::new(), Bench::new());
    succeed(whole.search(&["--max_train_steps", STEPS]));
    let mut child = start(&bench, &[]);
    child.kill().expect("kill");
    child.wait().expect("it ends");
    succeed(bench.search(&["--max_train_steps", STEPS, "--resume"]));
    assert_eq!(whole.written("out/rates.safetensors"), bench.written("out/rates.safetensors"));
}

#[test]
fn what_differs_from_the_interrupted_search_is_named() {
    let bench = Bench::new();
    let child = start(&bench, &[]);
    // A second process can't join in.
    let line = fail(bench.search(&["--max_train_steps", STEPS, "--overwrite"]), 1);
    assert!(line.contains("rates-state"), "{line}");
    interrupt(&child);
    let said = stderr(&stopped(child));
    assert!(said.contains("--resume goes on from there"), "{said}");
    let line =
        fail(bench.search(&["--max_train_steps", STEPS, "--resume", "--learning_rate", "0.2", "--seed", "8"]), 2);
    assert!(
        line.contains("--learning_rate: 0.1 before, 0.2 now") && line.contains("--seed: 7 before, 8 now"),
        "{line}"
    );
    std::fs::write(bench.path("pictures/1_someone/first.txt"), "someone else").unwrap();
    let line = fail(bench.search(&["--max_train_steps", STEPS, "--resume"]), 2);
    assert!(line.contains("picture 1 (caption): the first before, someone else now"), "{line}");
    succeed(bench.search(&["--max_train_steps", "1", "--overwrite"]));
}

#[test]
fn a_search_is_stopped_while_it_gets_ready() {
    let bench = Bench::new();
    let mut child =
        bench.search(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // The first thing that is said comes before the model is loaded.
    let mut first = String::new();
    BufReader::new(child.stderr.take().expect("a pipe")).read_line(&mut first).expect("a line");
    signal(&child, "-INT");
    let code = child.wait().expect("it ends").code();
    assert!(code == Some(130) || code == Some(0), "{code:?}");
}
