//! Real workers on the CPU with the tiny model: how many there are, and that one is killed, changes nothing.
#![cfg(unix)]

use lora_rates_test_support::{fixture, tiny_single};
use lora_rates_tests::cluster::{Cluster, PATIENCE, Program, binary};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const PICTURES: usize = 7;

/// A folder of pictures with captions; no two are the same file.
fn pictures(folder: &Path) {
    let folder = folder.join("1_someone");
    fs::create_dir_all(&folder).expect("a folder");
    let picture = fs::read(fixture("image/astronaut_64x64.png")).expect("a picture");
    for number in 0..PICTURES {
        // Bytes after its end change a PNG's digest and nothing else.
        let bytes = [&picture[..], &[number as u8]].concat();
        fs::write(folder.join(format!("{number}.png")), bytes).expect("a picture");
        fs::write(folder.join(format!("{number}.txt")), format!("picture {number}")).expect("a caption");
    }
}

/// `lora-rates search` by this coordinator, in this folder.
fn search(cluster: &Cluster, folder: &Path) -> Child {
    let mut command = Command::new(binary("lora-rates"));
    let model = tiny_single();
    let arguments = [
        ["--coordinator", &cluster.url],
        ["--pretrained_model_name_or_path", model.file_name().and_then(|it| it.to_str()).expect("a name")],
        ["--network_weights", &fixture("lora/L1_attention.safetensors").display().to_string()],
        ["--train_data_dir", "pictures"],
        ["--caption_extension", ".txt"],
        ["--resolution", "64"],
        ["--seed", "7"],
        ["--max_train_steps", "12"],
        ["--gradient_accumulation_steps", "3"],
        ["--output_dir", "out"],
        ["--output_name", "result"],
    ];
    let log = fs::File::create(folder.join("search.log")).expect("a log");
    command.current_dir(folder).arg("search").args(arguments.as_flattened()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().expect("the program starts")
}

/// Runs the search with so many workers, one of which may be killed on the way. Returns its result, and what the workers
/// logged.
async fn run(workers: usize, kill_one: bool) -> (Vec<u8>, Vec<String>) {
    let mut cluster = Cluster::start().await;
    let folder = cluster.path("client");
    pictures(&folder.join("pictures"));
    let model = tiny_single();
    let models = model.parent().expect("a folder");
    let mut workers: Vec<Program> = (0..workers).map(|_| cluster.real_worker(models)).collect();
    let since = Instant::now();
    while cluster.metric("lora_rates_workers", &[]).await < workers.len() as f64 {
        assert!(since.elapsed() < PATIENCE, "the workers do not join");
        sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut client = search(&cluster, &folder);
    if kill_one {
        while cluster.metric("lora_rates_search_step", &[]).await < 3.0 {
            assert!(since.elapsed() < 3 * PATIENCE, "no steps");
            sleep(std::time::Duration::from_millis(5)).await;
        }
        workers[0].kill().await;
    }
    let ended = client.wait().await.expect("its end");
    assert!(ended.success(), "{}", fs::read_to_string(folder.join("search.log")).unwrap_or_default());
    let result = fs::read(folder.join("out").join("result.safetensors")).expect("a result");
    (result, workers.iter().map(Program::log).collect())
}

/// Pictures that a worker encoded, from its log.
fn encoded(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.split_once("encoded picture ")).map(|(_, which)| which).collect()
}

#[tokio::test]
async fn one_worker_and_three_of_which_one_is_killed_come_to_the_same_bytes() {
    let (one, _) = run(1, false).await;
    let (three, logs) = run(3, true).await;
    assert!(one == three, "the results differ");
    let mut all: Vec<&str> = logs.iter().flat_map(|log| encoded(log)).collect();
    all.sort_unstable();
    let expected: Vec<String> = (0..PICTURES).map(|number| format!("{number} (mirrored: false)")).collect();
    assert_eq!(all, expected, "every picture is encoded by one worker");
    assert!(logs.iter().filter(|log| !encoded(log).is_empty()).count() > 1, "several workers encode");
}
