//! Searches by a coordinator: real processes on the tiny golden model.
#![cfg(unix)]

mod search_support;

use search_support::cluster::{Cluster, wait};
use search_support::{Bench, fail, json_lines, lora_rates, stderr, succeed};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

/// Every picture is used often enough for a search that is stopped on the way.
const LONG: [&str; 2] = ["--max_train_steps", "400"];

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The only search of the coordinator.
#[track_caller]
fn only(cluster: &Cluster) -> Value {
    let mut all = json_lines(&succeed(cluster.command(&["list", "--json"])));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().expect("kill").success());
}

/// Starts the search, waits until some steps are made, and interrupts it.
fn interrupted(cluster: &Cluster, command: Command) -> Output {
    let mut command = command;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    wait("some steps are made", || {
        let all = json_lines(&succeed(cluster.command(&["list", "--json"])));
        all.first().is_some_and(|search| search["step"].as_u64() >= Some(3))
    });
    signal(child.id(), "-INT");
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    output
}

#[test]
fn a_coordinator_makes_the_same_files_as_this_machine() {
    let (bench, cluster) = (Bench::new(), Cluster::start(2));
    let options = ["--validation_split", "0.5", "--validate_every_n_steps", "2", "--output_name"];
    succeed(bench.search(&[&options[..], &["here"]].concat()));
    let output = succeed(cluster.search(&bench, &[&options[..], &["there", "--save_every_n_steps", "2"]].concat()));
    for ending in [".safetensors", "-best.safetensors"] {
        let written = |name: &str| bench.written(&format!("out/{name}{ending}"));
        assert_eq!(written("here"), written("there"), "{ending}");
    }
    let (here, there) = (bench.json("out/here.json"), bench.json("out/there.json"));
    for part in ["history", "validations", "baselines", "best", "networks", "images", "fingerprint"] {
        assert_eq!(here[part], there[part], "{part}");
    }
    assert!(bench.path("out/there-step00000002.safetensors").exists());
    let (said, printed) = (stderr(&output), stdout(&output));
    assert!(said.contains("is submitted") && said.contains("held out for validation, 1: "), "{said}");
    assert!(printed.contains("all rates 0.5") && printed.contains("Network 0 weights: "), "{printed}");

    let search = only(&cluster);
    assert_eq!((&search["state"], &search["name"], &search["step"]), (&"finished".into(), &"there".into(), &3.into()));
    let id = search["search_id"].as_str().unwrap();

    // Once more: nothing is computed, everything is written.
    std::fs::remove_file(bench.path("out/there.json")).unwrap();
    let said = stderr(&succeed(cluster.search(&bench, &[&options[..], &["there"]].concat())));
    assert!(said.contains("was finished"), "{said}");
    assert_eq!(bench.json("out/there.json"), there);

    // The rates, last, best and in between, by the beginning of the id.
    let rates = |arguments: &[&str]| {
        let line = json_lines(&succeed(cluster.command(&[&["rates", &id[..6], "--json"], arguments].concat())));
        line[0].clone()
    };
    assert_eq!(rates(&[])["networks"][0]["rates"], there["networks"][0]["rates"]);
    assert_eq!((&rates(&["--best"])["step"], &rates(&["--step", "1"])["step"]), (&there["best"]["step"], &1.into()));
    let folder = bench.path("fetched");
    let mut fetch = cluster.command(&["rates", id, "--output_dir", folder.to_str().unwrap(), "--output_name", "r"]);
    let table = stdout(&fetch.output().unwrap());
    assert!(table.contains("BASE") && table.contains("L1_attention:"), "{table}");
    assert_eq!(bench.written("fetched/r.safetensors"), bench.written("out/there.safetensors"));

    // From the record beside the results, watching writes the whole report; without it, what the coordinator knows.
    for (dir, name) in [("out", "there"), ("elsewhere", "rates")] {
        let dir = bench.path(dir);
        succeed(cluster.command(&["watch", id, "--output_dir", dir.to_str().unwrap(), "--output_name", name]));
    }
    assert_eq!(bench.json("out/there.json"), there);
    let known = bench.json("elsewhere/rates.json");
    assert_eq!((&known["history"], &known["settings"]), (&there["history"], &Value::Null));
    assert_eq!(bench.written("elsewhere/rates-best.safetensors"), bench.written("out/there-best.safetensors"));
}

#[test]
fn an_interrupted_client_leaves_the_search_running_and_comes_back_to_it() {
    let (bench, cluster) = (Bench::new(), Cluster::start(1));
    let command = || cluster.search(&bench, &[&LONG[..], &["--save_every_n_steps", "100"]].concat());
    let said = stderr(&interrupted(&cluster, command()));
    let id = only(&cluster)["search_id"].as_str().unwrap().to_owned();
    for part in [
        "goes on without this terminal",
        &format!("lora-rates watch {id} --coordinator"),
        "--output_dir out",
        "lora-rates cancel",
    ] {
        assert!(said.contains(part), "{said}\nhas no {part}");
    }
    assert!(!said.contains("error:"), "{said}");
    assert!(!bench.path("out/rates.safetensors").exists());

    // Workers are told of while they work.
    let workers = json_lines(&succeed(cluster.command(&["workers", "--json"])));
    assert_eq!(
        (workers.len(), &workers[0]["name"], &workers[0]["search_id"]),
        (1, &"worker-0".into(), &id.as_str().into())
    );
    let table = stdout(&succeed(cluster.command(&["workers"])));
    assert!(table.starts_with("WORKER") && table.contains("worker-0"), "{table}");

    let output = succeed({
        let mut command = command();
        command.arg("--json");
        command
    });
    let events = json_lines(&output);
    let steps: Vec<u64> =
        events.iter().filter(|event| event["event"] == "step").filter_map(|event| event["step"].as_u64()).collect();
    assert_eq!(steps, (1..=400).collect::<Vec<_>>());
    assert_eq!(bench.json("out/rates.json")["history"].as_array().unwrap().len(), 400);
    assert_eq!(only(&cluster)["state"], "finished");
}

#[test]
fn a_search_is_paused_resumed_cancelled_and_forgotten() {
    let (bench, cluster) = (Bench::new(), Cluster::start(1));
    let command = |arguments: &[&str]| cluster.search(&bench, &[&LONG[..], arguments].concat());
    interrupted(&cluster, command(&[]));
    let id = only(&cluster)["search_id"].as_str().unwrap().to_owned();
    let order = |order: &str| json_lines(&succeed(cluster.command(&[order, &id, "--json"])))[0]["state"].clone();

    assert_eq!(order("pause"), "paused");
    let line = fail(command(&[]), 2);
    assert!(line.contains("is paused at step") && line.contains("--resume"), "{line}");
    let line = fail(cluster.command(&["watch", &id]), 1);
    assert!(line.contains("was paused at step") && line.contains(&format!("lora-rates resume {id}")), "{line}");
    assert_ne!(order("resume"), "paused");
    order("pause");
    let said = stderr(&interrupted_resumed(command(&["--resume"])));
    assert!(said.contains("going on at step"), "{said}");

    assert_eq!(order("cancel"), "cancelled");
    let line = fail(command(&["--resume"]), 2);
    assert!(line.contains("is cancelled at step") && line.contains("--overwrite"), "{line}");
    assert_eq!(json_lines(&succeed(cluster.command(&["list", "--json", "--state", "running,paused"]))).len(), 0);
    let output = succeed(cluster.search(&bench, &["--max_train_steps", "1"]));
    assert!(stderr(&output).contains("is submitted"));
    succeed(cluster.command(&["delete", &id]));
    assert_eq!(only(&cluster)["max_train_steps"], 1);
    let line = fail(cluster.command(&["cancel", &id]), 2);
    assert!(line.contains("no search has an id that begins with"), "{line}");
    // What is finished is made anew only when asked for.
    let said = stderr(&succeed(cluster.search(&bench, &["--max_train_steps", "1", "--overwrite"])));
    assert!(!said.contains("was finished"), "{said}");
}

/// Interrupts it once it says that it goes on.
fn interrupted_resumed(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // The table is printed when it is attached.
    let mut first = [0];
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut first).expect("a table");
    signal(child.id(), "-INT");
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    output
}

#[test]
fn a_killed_coordinator_is_waited_for() {
    let (bench, mut cluster) = (Bench::new(), Cluster::start(1));
    let (whole, arguments) = (Bench::new(), ["--max_train_steps", "60"]);
    let mut command = cluster.search(&bench, &arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    wait("some steps are made", || {
        let all = json_lines(&succeed(cluster.command(&["list", "--json"])));
        all.first().is_some_and(|search| search["step"].as_u64() >= Some(3))
    });
    cluster.kill_coordinator();
    cluster.start_coordinator();
    let output = child.wait_with_output().expect("its end");
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("trying again") && said.contains("the connection is back"), "{said}");
    succeed(whole.search(&arguments));
    assert_eq!(whole.json("out/rates.json")["history"], bench.json("out/rates.json")["history"]);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let (bench, cluster) = (Bench::new(), Cluster::start(1));
    let refused = |arguments: &[&str], code: i32, parts: &[&str]| {
        let line = fail(cluster.search(&bench, arguments), code);
        for part in parts {
            assert!(line.contains(part), "{line}\nhas no {part}");
        }
    };
    refused(&["--device", "cpu"], 2, &["--device cpu", "workers choose"]);
    refused(&["--cache_latents_to_disk"], 2, &["--cache_latents_to_disk", "kept by the coordinator"]);
    refused(&["--pretrained_model_name_or_path", "/etc/passwd"], 2, &["below its workers' model folder"]);
    refused(&["--pretrained_model_name_or_path", "../x"], 2, &["below its workers' model folder"]);
    refused(&["--pretrained_model_name_or_path", "nothing.safetensors"], 1, &["nothing.safetensors"]);
    refused(&["--network_weights", "nowhere"], 1, &["nowhere"]);
    assert_eq!(json_lines(&succeed(cluster.command(&["list", "--json"]))).len(), 0);

    let mut nobody = lora_rates();
    nobody.args(["list", "--coordinator", "http://127.0.0.1:1"]);
    assert!(fail(nobody, 1).contains("can't connect to http://127.0.0.1:1"));
    for arguments in [&["list"][..], &["watch", "x"], &["rates", "x"], &["pause", "x"], &["workers"]] {
        let mut nowhere = lora_rates();
        nowhere.args(arguments);
        assert!(fail(nowhere, 2).contains("--coordinator is missing"), "{arguments:?}");
    }
    let mut bad = lora_rates();
    bad.args(["list", "--coordinator", "host:50051"]);
    assert!(fail(bad, 2).contains("no address of a coordinator"));
    for arguments in [&["watch", "feed"][..], &["rates", "feed"], &["delete", "feed"]] {
        assert!(fail(cluster.command(arguments), 2).contains("no search has an id"), "{arguments:?}");
    }
}
