//! Whole searches with the program, on the tiny golden model.

mod search_support;

use lora_rates_common::tensor_file::TensorFile;
use lora_rates_test_support::fixture;
use search_support::{Bench, fail, stderr, succeed, text};
use std::fs;

#[test]
fn a_search_writes_and_prints_its_rates() {
    let bench = Bench::new();
    let output = succeed(bench.search(&["--save_every_n_steps", "2"]));

    let file = TensorFile::open(&bench.path("out/rates.safetensors")).unwrap();
    let weights = file.get("weights").unwrap();
    assert_eq!((file.names().count(), &weights.shape[..]), (1, &[20][..]));
    let rates = weights.to_f32().unwrap();
    assert!(rates.iter().all(|rate| rate.is_finite()));
    assert!(rates.iter().any(|rate| *rate != 0.0 && *rate != 0.5), "nothing moved: {rates:?}");

    let report = bench.json("out/rates.json");
    assert_eq!((&report["finished"], &report["step"]), (&true.into(), &3.into()));
    assert_eq!(report["history"].as_array().unwrap().len(), 3);
    assert_eq!(report["settings"]["seed"], 7);
    assert_eq!(report["images"][0]["caption"], "the first");
    let blocks = report["networks"][0]["rates"].as_object().unwrap();
    assert_eq!(blocks.len(), 20);
    assert_eq!(blocks["IN00"], serde_json::Value::Null);
    assert_eq!(blocks["IN04"].as_f64().unwrap() as f32, rates[5]);

    assert_eq!(TensorFile::open(&bench.path("out/rates-step00000002.safetensors")).unwrap().names().count(), 1);
    assert!(!bench.path("out/rates-step00000003.safetensors").exists());
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    // Two tables of a heading and a row, the reference's line, and the preset.
    assert_eq!(lines.len(), 6, "{printed}");
    assert!(lines[0].contains("BASE") && lines[1].starts_with("L1_attention") && lines[1].contains("0.500"));
    assert!(lines[4].starts_with("Network 0 weights: "));
    assert!(lines[5].starts_with("L1_attention:"));
    assert_eq!(lines[5].split(',').count(), 12);
    let said = stderr(&output);
    assert!(said.contains("dead:") && said.contains("2 pictures") && said.contains("step 3/3: loss"), "{said}");
}

#[test]
fn two_runs_of_one_search_write_the_same_bytes() {
    let bench = Bench::new();
    let noisy = ["--train_batch_size", "2", "--noise_offset", "0.1", "--flip_aug", "--output_name"];
    for name in ["one", "two"] {
        succeed(bench.search(&[&noisy[..], &[name]].concat()));
    }
    assert_eq!(bench.written("out/one.safetensors"), bench.written("out/two.safetensors"));
    assert_eq!(bench.written("out/one.json"), bench.written("out/two.json"));
    succeed(bench.search(&[&noisy[..], &["two", "--seed", "8"]].concat()));
    assert_ne!(bench.written("out/one.safetensors"), bench.written("out/two.safetensors"));
}

#[test]
fn latents_from_the_disk_change_nothing() {
    let bench = Bench::new();
    succeed(bench.search(&["--output_name", "memory"]));
    for name in ["first", "again"] {
        succeed(bench.search(&["--output_name", name, "--cache_latents_to_disk"]));
        assert!(fs::read_dir(bench.path("out/cache")).unwrap().count() > 0);
        assert_eq!(
            bench.written("out/memory.safetensors"),
            bench.written(&format!("out/{name}.safetensors")),
            "{name}"
        );
    }
}

#[test]
fn latents_that_are_encoded_anew_are_drawn_anew_and_the_same_in_every_run() {
    let bench = Bench::new();
    for name in ["one", "two"] {
        succeed(bench.search(&["--output_name", name, "--cache_latents", "false"]));
    }
    succeed(bench.search(&["--output_name", "cached"]));
    assert_eq!(bench.written("out/one.safetensors"), bench.written("out/two.safetensors"));
    assert_ne!(bench.written("out/one.safetensors"), bench.written("out/cached.safetensors"));
}

#[test]
fn epochs_and_a_file_of_options_decide_the_steps() {
    let bench = Bench::new();
    let networks =
        [fixture("lora/L1_attention.safetensors"), fixture("lora/L3_locon.safetensors")].map(|path| text(&path));
    let file = format!(
        "[training]\nmax_train_steps = 50\nmax_train_epochs = 2\nseed = 1\n[networks]\nnetwork_weights = {networks:?}\n"
    );
    fs::write(bench.path("search.toml"), file).unwrap();
    let [one, two] = &networks;
    let file = ["--config_file", "search.toml", "--max_train_steps", "40"];
    let output = succeed(bench.search(&[&file[..], &["--network_weights", one, two]].concat()));
    let report = bench.json("out/rates.json");
    assert_eq!((&report["step"], &report["settings"]["seed"]), (&4.into(), &7.into()));
    assert_eq!(TensorFile::open(&bench.path("out/rates.safetensors")).unwrap().get("weights").unwrap().shape, [40]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let preset = printed.lines().last().unwrap();
    assert!(preset.starts_with("L3_locon:"));
    assert_eq!(preset.split(',').count(), 20);
}

#[test]
fn a_finished_search_is_written_out_again_on_resume_and_replaced_otherwise() {
    let bench = Bench::new();
    succeed(bench.search(&[]));
    let first = (bench.written("out/rates.safetensors"), bench.written("out/rates.json"));
    fs::remove_file(bench.path("out/rates.safetensors")).unwrap();
    fs::remove_file(bench.path("out/rates.json")).unwrap();
    let said = stderr(&succeed(bench.search(&["--resume"])));
    assert!(said.contains("was finished"), "{said}");
    assert_eq!(first, (bench.written("out/rates.safetensors"), bench.written("out/rates.json")));
    succeed(bench.search(&["--seed", "8"]));
    assert_ne!(first.0, bench.written("out/rates.safetensors"));
}

#[test]
fn resuming_what_is_not_there_starts_from_the_beginning() {
    let bench = Bench::new();
    let said = stderr(&succeed(bench.search(&["--resume", "--max_train_steps", "1"])));
    assert!(said.contains("nothing to resume"), "{said}");
}

#[test]
fn a_state_folder_of_someone_else_is_left_alone() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("out/rates-state")).unwrap();
    fs::write(bench.path("out/rates-state/diary.txt"), "").unwrap();
    for option in ["--resume", "--overwrite"] {
        let line = fail(bench.search(&[option]), 1);
        assert!(line.contains("rates-state is not the state of a search"), "{line}");
    }
    assert_eq!(fs::read_dir(bench.path("out/rates-state")).unwrap().count(), 1);
}

#[test]
fn two_workers_make_the_same_steps_as_one() {
    let bench = Bench::new();
    let options = ["--train_batch_size", "1", "--gradient_accumulation_steps", "3", "--output_name"];
    succeed(bench.search(&[&options[..], &["one"]].concat()));
    for devices in [&["--device", "cpu,cpu"][..], &["--device", "cpu", "--device", "cpu"]] {
        let output = succeed(bench.search(&[&options[..], &["two"], devices].concat()));
        let said = stderr(&output);
        assert!(said.contains("on 2 workers: cpu, cpu"), "{said}");
        assert_eq!(bench.written("out/one.safetensors"), bench.written("out/two.safetensors"));
        assert_eq!(bench.json("out/one.json")["history"], bench.json("out/two.json")["history"]);
    }
}

#[test]
fn json_lines_tell_all_that_happens_and_nothing_else() {
    let bench = Bench::new();
    let output = succeed(bench.search(&["--json"]));
    let printed = String::from_utf8(output.stdout).unwrap();
    let events: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let steps: Vec<u64> = of("step").iter().filter_map(|event| event["step"].as_u64()).collect();
    assert_eq!(steps, [1, 2, 3]);
    let report = bench.json("out/rates.json");
    let last = of("step")[2];
    assert_eq!(last["loss"], report["history"][2]["loss"]);
    assert_eq!(last["rates"].as_array().unwrap().len(), 20);
    assert_eq!(of("status").last().unwrap()["state"], "finished");
    assert_eq!(events.last().unwrap()["event"], "written");
    assert!(events.last().unwrap()["files"][0].as_str().unwrap().ends_with("rates.safetensors"));
}

#[test]
fn a_search_that_gets_worse_on_held_out_pictures_ends_early_and_keeps_the_best() {
    let bench = Bench::new();
    let options = ["--validation_split", "0.5", "--validate_every_n_steps", "1", "--early_stop", "1"];
    // Steps that are far too long.
    let output = succeed(bench.search(&[&options[..], &["--learning_rate", "9", "--max_train_steps", "30"]].concat()));
    let report = bench.json("out/rates.json");
    let (step, best) = (report["step"].as_u64().unwrap(), report["best"]["step"].as_u64().unwrap());
    assert!(step < 30 && step == best + 1, "the best at {best}, the end at {step}");
    assert_eq!(report["finished"], true);
    assert!(report["stopped_early"].as_str().unwrap().contains(&format!("the best was at step {best}")));
    let held_out = report["images"].as_array().unwrap().iter().filter(|image| image["held_out"] == true).count();
    assert_eq!((held_out, report["baselines"].as_array().unwrap().len()), (1, 3));
    assert_ne!(bench.written("out/rates-best.safetensors"), bench.written("out/rates.safetensors"));
    let (said, printed) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(said.contains("held out for validation, 1: ") && said.contains("stopped early"), "{said}");
    assert!(printed.contains(&format!("best, after step {best}")) && printed.contains("all rates 0.5"), "{printed}");
}

#[test]
fn pictures_of_a_folder_of_their_own_are_measured_and_not_trained_on() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("held")).unwrap();
    for (name, shade) in [("a", 40), ("b", 200)] {
        image::RgbImage::from_pixel(64, 64, [shade, 90, 70].into())
            .save(bench.path(&format!("held/{name}.png")))
            .unwrap();
        fs::write(bench.path(&format!("held/{name}.txt")), "a shade").unwrap();
    }
    let options = ["--validation_data_dir", "held", "--validate_every_n_steps", "3", "--validation_samples_per_image"];
    let output = succeed(bench.search(&[&options[..], &["6"]].concat()));
    let report = bench.json("out/rates.json");
    let images = report["images"].as_array().unwrap();
    let held_out: Vec<_> = images.iter().filter(|image| image["held_out"] == true).collect();
    assert_eq!((images.len(), held_out.len(), &held_out[0]["caption"]), (4, 2, &"a shade".into()));
    let validations = report["validations"].as_array().unwrap();
    assert_eq!((validations.len(), &validations[0]["samples"]), (2, &12.into()));
    assert!(validations[0]["standard_error"].as_f64().unwrap() > 0.0);
    let said = stderr(&output);
    assert!(said.contains("2 pictures, 2 with repeats") && said.contains("held out for validation, 2: a.png, b.png"));

    // What is trained on doesn't change.
    succeed(bench.search(&["--output_name", "plain"]));
    assert_eq!(bench.written("out/rates.safetensors"), bench.written("out/plain.safetensors"));

    fs::copy(bench.path("pictures/1_someone/first.png"), bench.path("held/c.png")).unwrap();
    let line = fail(bench.search(&[&options[..], &["6", "--output_name", "other"]].concat()), 1);
    assert!(line.contains("held/c.png has the same content as"), "{line}");
    let line = fail(bench.search(&["--validation_data_dir", "held", "--validation_split", "0.5"]), 2);
    assert!(line.contains("--validation_split and --validation_data_dir exclude each other"), "{line}");
}

#[test]
fn a_search_ends_with_pruned_rates_and_with_what_the_data_determine() {
    let bench = Bench::new();
    let measured = ["--validation_split", "0.5", "--validate_every_n_steps", "3"];
    let output = succeed(bench.search(&[&measured[..], &["--prune", "100", "--curvature"]].concat()));
    let report = bench.json("out/rates.json");
    let conclusion = &report["conclusion"];
    assert_eq!(conclusion["loss"], report["validations"][1]["loss"]);
    let live = report["networks"][0]["rates"].as_object().unwrap().values().filter(|rate| !rate.is_null()).count();
    let curvature = conclusion["curvature"].as_array().unwrap();
    assert_eq!(curvature.len(), live);
    assert!(curvature.iter().all(|it| it["curvature"].is_f64() && it["network"] == "L1_attention"), "{curvature:?}");
    let named = conclusion["not_determined"]["L1_attention"].as_array().map_or(0, Vec::len);
    assert_eq!(named, curvature.iter().filter(|it| it["determined"] == false).count());
    // A threshold of 100 leaves nothing, and so do all after it but those that leave everything.
    let trials = conclusion["prune"].as_array().unwrap();
    assert_eq!((trials.len(), &trials[0]["removed"]), (1, &live.into()));
    let number = |name: &str| trials[0][name].as_f64().unwrap();
    let harmless = number("rise") <= number("rise_error").max(number("saved"));
    assert_eq!(bench.path("out/rates-pruned.safetensors").exists(), harmless);
    assert_eq!(conclusion["pruned"].is_array(), harmless);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("the data determine") && printed.contains(" below 100 to 0: "), "{printed}");
    succeed(bench.search(&["--output_name", "plain"].into_iter().chain(measured).collect::<Vec<_>>()));
    assert_eq!(bench.written("out/rates.safetensors"), bench.written("out/plain.safetensors"));
    assert!(bench.json("out/plain.json").get("conclusion").is_none());

    for (arguments, part) in [
        (&["--prune", "0.1"][..], "--prune needs --validation_split"),
        (&["--curvature"], "--curvature needs --validation_split"),
        (&["--validation_split", "0.5", "--curvature_bound", "1"], "--curvature_bound needs --curvature"),
        (&["--validation_split", "0.5", "--prune", "-1"], "--prune is -1"),
    ] {
        let line = fail(bench.search(&[arguments, &["--output_name", "refused"]].concat()), 2);
        assert!(line.contains(part), "{line}");
    }
}
