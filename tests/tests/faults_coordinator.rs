//! The coordinator killed at any point: it goes on by itself, to the same numbers, and repeats at most one step.

use lora_rates_common::convert::SearchState;
use lora_rates_tests::cluster::Cluster;
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use lora_rates_tests::synthetic::{Note, read_notes};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::sleep;

/// Steps that were leased under each run of the coordinator, which all workers joined as often as it ran.
fn steps_by_run(files: &[PathBuf]) -> BTreeMap<u32, BTreeSet<u64>> {
    let mut steps: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    let leases = |file: &PathBuf| read_notes(file).into_iter().filter(|note: &Note| note.what == "lease");
    for note in files.iter().flat_map(leases) {
        steps.entry(note.join).or_default().insert(note.first);
    }
    steps
}

#[tokio::test]
async fn a_coordinator_that_is_killed_repeats_at_most_one_step() {
    const KILLS: u32 = 12;
    let size = Size { steps: 600, validate_every: 50, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let files: Vec<PathBuf> = (0..2).map(|at| cluster.path(&format!("notes-{at}"))).collect();
    let arguments: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let _workers: Vec<_> =
        arguments.iter().map(|file| cluster.worker(&["--delay-ms", "5", "--record", file])).collect();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..KILLS {
        watch.catch_up();
        let step = watch.step() + random.random_range(2..12);
        watch.until_step(step).await;
        sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        cluster.kill_coordinator().await;
        cluster.start_coordinator().await;
    }
    watch.finishes_as(&trajectory(&size.spec())).await;

    let runs = steps_by_run(&files);
    assert_eq!(runs.len() as u32, KILLS + 1, "the workers joined every run");
    let pairs = runs.values().zip(runs.values().skip(1));
    let repeated: Vec<usize> = pairs.map(|(before, after)| before.intersection(after).count()).collect();
    assert!(repeated.iter().all(|count| *count <= 1), "steps repeated after each kill: {repeated:?}");
    eprintln!("{KILLS} kills, steps repeated after each: {repeated:?}; longest gap {:?}", watch.longest_gap(1));
}

#[tokio::test]
async fn a_coordinator_that_is_killed_before_the_first_step_goes_on() {
    let size = Size { images: 30, steps: 5, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let file = cluster.path("notes");
    let _worker = cluster.worker(&["--delay-ms", "30", "--record", &file.display().to_string()]);
    let encoded = || read_notes(&file).iter().filter(|note| note.what == "encode").count();
    while encoded() < 10 {
        sleep(Duration::from_millis(10)).await;
    }
    cluster.kill_coordinator().await;
    cluster.start_coordinator().await;
    watch.finishes_as(&trajectory(&size.spec())).await;
    let (needed, leased) = (size.spec().encodings().len(), encoded());
    assert!(leased <= needed + 2, "what is encoded stays so: {leased} leases for {needed} pictures");
}

#[tokio::test]
async fn a_stopped_coordinator_lets_its_workers_come_back() {
    let size = Size { steps: 300, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let _workers = [cluster.worker(&["--delay-ms", "5"]), cluster.worker(&["--delay-ms", "5"])];
    watch.until_step(20).await;
    cluster.coordinator().signal("STOP").await;
    sleep(Duration::from_secs(20)).await;
    cluster.coordinator().signal("CONT").await;
    watch.finishes_as(&trajectory(&size.spec())).await;
}

#[tokio::test]
async fn a_coordinator_told_to_stop_ends_well_and_goes_on_later() {
    let size = Size { steps: 200, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let _worker = cluster.worker(&["--delay-ms", "5"]);
    watch.until_step(20).await;
    cluster.coordinator().signal("TERM").await;
    assert!(cluster.coordinator().ended().await, "{}", cluster.coordinator().log());
    cluster.start_coordinator().await;
    watch.finishes_as(&trajectory(&size.spec())).await;
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_a_watch_disturbs_nobody() {
    let size = Size { steps: 100, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let _worker = cluster.worker(&["--delay-ms", "2"]);
    for at in 1..10 {
        let mut gone = cluster.watch(&id);
        gone.until_step(at * 5).await;
    }
    drop(client);
    let mut watch = cluster.watch(&id);
    watch.finishes_as(&trajectory(&size.spec())).await;
    assert_eq!(cluster.client().await.get(&id).await.state, SearchState::Finished);
}
