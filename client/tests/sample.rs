//! Sample pictures: on the way of a search, here and by a coordinator, and at given rates.
#![cfg(unix)]

mod search_support;

use lora_rates_common::picture::decode;
use lora_rates_test_support::{fixture, tiny_single};
use search_support::cluster::Cluster;
use search_support::{Bench, fail, json_lines, lora_rates, stderr, succeed, text};
use std::fs;
use std::path::Path;
use std::process::Command;

const SAMPLED: [&str; 5] = ["--sample_prompts", "prompts.txt", "--sample_at_first", "--sample_every_n_steps", "2"];

/// A bench with two prompts.
fn bench() -> Bench {
    let bench = Bench::new();
    let prompts = "# two small ones\na cat --n a dog --d 5 --s 3 --l 4\n\na house --w 96 --h 32 --s 2\n";
    fs::write(bench.path("prompts.txt"), prompts).unwrap();
    bench
}

/// Names of the sample pictures, sorted.
fn pictures(bench: &Bench) -> Vec<String> {
    let Ok(folder) = fs::read_dir(bench.path("out/sample")) else { return Vec::new() };
    let mut names: Vec<String> = folder.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn size(bench: &Bench, name: &str) -> (u32, u32) {
    decode(&bench.written(name), Path::new(name)).unwrap().dimensions()
}

#[test]
fn pictures_are_sampled_on_the_way_and_change_nothing() {
    let bench = bench();
    let said = stderr(&succeed(bench.search(&SAMPLED)));
    let names = ["000000", "000002", "000003"]
        .iter()
        .flat_map(|step| [format!("rates_{step}_00_5.png"), format!("rates_{step}_01_7.png")])
        .collect::<Vec<_>>();
    assert_eq!(pictures(&bench), names);
    assert_eq!(size(&bench, "out/sample/rates_000000_00_5.png"), (64, 64));
    assert_eq!(size(&bench, "out/sample/rates_000003_01_7.png"), (96, 32));
    let of_step = |step: &str| bench.written(&format!("out/sample/rates_{step}_00_5.png"));
    assert_ne!(of_step("000000"), of_step("000003"), "other rates make another picture");
    assert!(said.contains("step 2: sampled out/sample/rates_000002_00_5.png"), "{said}");

    let plain = Bench::new();
    succeed(plain.search(&[]));
    assert_eq!(plain.written("out/rates.safetensors"), bench.written("out/rates.safetensors"));
    assert_eq!(plain.json("out/rates.json")["history"], bench.json("out/rates.json")["history"]);
}

#[test]
fn a_coordinator_samples_the_same_pictures() {
    let (bench, elsewhere, cluster) = (bench(), bench(), Cluster::start(2));
    succeed(bench.search(&SAMPLED));
    let output = succeed(cluster.search(&elsewhere, &[&SAMPLED[..], &["--json"]].concat()));
    assert_eq!(pictures(&elsewhere), pictures(&bench));
    for name in pictures(&bench) {
        let name = format!("out/sample/{name}");
        assert_eq!(elsewhere.written(&name), bench.written(&name), "{name}");
    }
    let events = json_lines(&output);
    let sampled: Vec<_> = events.iter().filter(|event| event["event"] == "sample_picture").collect();
    assert_eq!(sampled.len(), 6);
    assert!(sampled.iter().all(|event| event["sha256"].as_str().is_some_and(|it| it.len() == 64)), "{sampled:?}");

    // Whoever watches later is told again; what belongs to a deleted search is gone.
    let all = json_lines(&succeed(cluster.command(&["list", "--json"])));
    let id = all[0]["search_id"].as_str().unwrap();
    let late = elsewhere.path("late");
    succeed(cluster.command(&["watch", id, "--output_dir", late.to_str().unwrap()]));
    assert_eq!(fs::read_dir(late.join("sample")).unwrap().count(), 6);
    let events = json_lines(&succeed(cluster.command(&["watch", id, "--json"])));
    assert_eq!(events.iter().filter(|event| event["event"] == "sample_picture").count(), 6);
    succeed(cluster.command(&["delete", id]));
}

#[test]
fn a_picture_that_can_not_be_sampled_is_said_to_be_so_and_the_search_goes_on() {
    let bench = bench();
    // Under the rates after such a step, nothing is a number any more.
    let last = ["--max_train_steps", "1", "--learning_rate", "1e20"];
    let output = succeed(bench.search(&[&SAMPLED[..], &last].concat()));
    let said = stderr(&output);
    assert_eq!(pictures(&bench), ["rates_000000_00_5.png", "rates_000000_01_7.png"]);
    for number in 1..=2 {
        assert!(said.contains(&format!("step 1: there is no picture of prompt {number}: the model's")), "{said}");
    }
    assert_eq!(bench.json("out/rates.json")["finished"], true);
}

#[test]
fn what_can_not_be_sampled_is_said_in_one_line() {
    let bench = bench();
    fs::write(bench.path("wrong.txt"), "a cat\na dog --x 3\n").unwrap();
    fs::write(bench.path("prompts.toml"), "[prompt]\n").unwrap();
    for (arguments, code, parts) in [
        (&["--sample_prompts", "wrong.txt"][..], 1, &["wrong.txt, line 2", "no option --x"][..]),
        (&["--sample_prompts", "nowhere.txt"], 1, &["nowhere.txt", "--sample_prompts"]),
        (&["--sample_prompts", "prompts.toml"], 1, &["prompts.toml", ".txt"]),
        (&["--sample_at_first"], 2, &["--sample_at_first needs --sample_prompts"]),
        (&["--sample_every_n_steps", "5"], 2, &["--sample_every_n_steps needs --sample_prompts"]),
        (&["--sample_prompts", "prompts.txt", "--sample_every_n_steps", "0"], 2, &["--sample_every_n_steps is 0"]),
        (&["--sample_prompts", "prompts.txt", "--sample_sampler", "k_euler"], 2, &["k_euler"]),
        (&["--sample_sampler", "ddim"], 2, &["--sample_sampler ddim", "more samplers come later"]),
    ] {
        let line = fail(bench.search(arguments), code);
        parts.iter().for_each(|part| assert!(line.contains(part), "{line}\nhas no {part}"));
    }
    assert!(pictures(&bench).is_empty());
}

/// `lora-rates sample` on the tiny model.
fn sample(bench: &Bench, arguments: &[&str]) -> Command {
    let mut command = lora_rates();
    command.current_dir(bench.path(".")).arg("sample");
    command.args(["--pretrained_model_name_or_path", &text(&tiny_single()), "--device", "cpu"]);
    command.args(["--network_weights", &text(&fixture("lora/L1_attention.safetensors"))]);
    command.args(["--resolution", "64", "--output_dir", "out"]).args(arguments);
    command
}

#[test]
fn pictures_at_given_rates_are_those_of_a_search() {
    let bench = bench();
    succeed(bench.search(&["--sample_prompts", "prompts.txt"]));
    let arguments = ["--sample_prompts", "prompts.txt", "--seed", "7"];
    for (name, file) in [("tensor", "out/rates.safetensors"), ("report", "out/rates.json")] {
        succeed(sample(&bench, &[&arguments[..], &["--rates", file, "--output_name", name]].concat()));
        for ending in ["00_5", "01_7"] {
            let found = bench.written(&format!("out/{name}_{ending}.png"));
            assert_eq!(found, bench.written(&format!("out/sample/rates_000003_{ending}.png")), "{name} {ending}");
        }
    }
    for rate in ["0", "1"] {
        succeed(sample(&bench, &["--prompt", "a cat --s 2", "--rate", rate, "--output_name", rate]));
    }
    assert_eq!(size(&bench, "out/0_00_0.png"), (64, 64));
    assert_ne!(bench.written("out/0_00_0.png"), bench.written("out/1_00_0.png"));
}

#[test]
fn what_sample_can_not_do_is_said_in_one_line() {
    let bench = bench();
    fs::write(bench.path("two.json"), format!("{:?}", vec![vec![0.5; 20]; 2])).unwrap();
    fs::write(bench.path("empty.json"), "{}").unwrap();
    let prompt = ["--prompt", "a cat"];
    for (arguments, code, part) in [
        (&["--rate", "1"][..], 2, "--sample_prompts"),
        (&["--prompt", "a cat"], 2, "--rate"),
        (&["--prompt", "a cat --w 10", "--rate", "1"], 2, "width is 10"),
        (&[prompt[0], prompt[1], "--rate", "inf"], 2, "--rate is inf"),
        (&[prompt[0], prompt[1], "--rates", "nowhere.json"], 1, "nowhere.json"),
        (&[prompt[0], prompt[1], "--rates", "two.json"], 1, "two.json has 2 lists"),
        (&[prompt[0], prompt[1], "--rates", "empty.json"], 1, "empty.json is no report"),
        (&[prompt[0], prompt[1], "--rate", "1", "--output_name", "a/b"], 2, "--output_name"),
    ] {
        let line = fail(sample(&bench, arguments), code);
        assert!(line.contains(part), "{line}\nhas no {part}");
    }
}
