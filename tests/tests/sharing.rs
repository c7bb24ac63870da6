//! Who works for what: any number of workers comes to the same numbers, and searches share them evenly.

use lora_rates_common::convert::SearchState;
use lora_rates_tests::cluster::{Client, Cluster, PATIENCE};
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use lora_rates_tests::synthetic::read_notes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn one_two_four_and_seven_workers_come_to_the_same_numbers() {
    let size = Size { microbatches: 10, images: 21, validate_every: 7, ..Size::default() };
    let expected = trajectory(&size.spec());
    for count in [1, 2, 4, 7] {
        let mut cluster = Cluster::start().await;
        let mut client = cluster.client().await;
        let id = client.create(&size).await;
        let mut watch = cluster.watch(&id);
        let _workers: Vec<_> = (0..count).map(|_| cluster.worker(&["--delay-ms", "1"])).collect();
        watch.finishes_as(&expected).await;
    }
}

#[tokio::test]
async fn every_picture_is_encoded_once() {
    let size = Size { images: 40, steps: 3, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let files: Vec<_> = (0..3).map(|at| cluster.path(&format!("notes-{at}"))).collect();
    let workers: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let workers: Vec<_> = workers.iter().map(|file| cluster.worker(&["--delay-ms", "20", "--record", file])).collect();
    cluster.watch(&id).finishes_as(&trajectory(&size.spec())).await;
    drop(workers);
    let notes: Vec<Vec<_>> = files.iter().map(|file| read_notes(file)).collect();
    let mut encoded = BTreeMap::new();
    for note in notes.iter().flatten().filter(|note| note.what == "encode") {
        *encoded.entry((note.first as u32, note.second == 1)).or_insert(0) += 1;
    }
    let expected: BTreeMap<_, _> = size.spec().encodings().into_iter().map(|key| (key, 1)).collect();
    assert_eq!(encoded, expected);
    let shares: Vec<usize> = notes.iter().map(|it| it.iter().filter(|note| note.what == "encode").count()).collect();
    assert!(shares.iter().all(|share| *share >= 10), "the pictures are shared: {shares:?}");

    // Another search over the same pictures has nothing left to encode.
    let other = Size { seed: 99, ..size };
    let file = cluster.path("notes-other");
    let _worker = cluster.worker(&["--record", &file.display().to_string()]);
    let id = client.create(&other).await;
    cluster.watch(&id).finishes_as(&trajectory(&other.spec())).await;
    assert!(read_notes(&file).iter().all(|note| note.what != "encode"));
}

#[tokio::test]
async fn a_worker_that_joins_later_takes_work_within_two_steps() {
    let size = Size { steps: 400, microbatches: 8, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let _first = cluster.worker(&["--delay-ms", "10"]);
    watch.until_step(10).await;
    let file = cluster.path("notes");
    let _second = cluster.worker(&["--delay-ms", "10", "--record", &file.display().to_string()]);
    watch.until_step(60).await;
    let notes = read_notes(&file);
    let first = |what: &str| notes.iter().find(|note| note.what == what).unwrap_or_else(|| panic!("no {what}"));
    let (joined, leased) = (watch.step_at(first("ready").at), first("lease").first);
    assert!(leased <= joined + 2, "it joined at step {joined} and was first leased something of step {leased}");
    watch.finishes_as(&trajectory(&size.spec())).await;
}

/// How many workers each of the searches has, when all workers have one; waits until that is `expected`.
async fn wait_for_shares(client: &mut Client, ids: &[&str], expected: &[usize]) {
    let since = Instant::now();
    loop {
        let workers = client.workers().await;
        let of = |id: &&str| workers.iter().filter(|it| it.search_id.as_deref() == Some(*id)).count();
        let shares: Vec<usize> = ids.iter().map(of).collect();
        if shares == expected {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "the searches have {shares:?} workers instead of {expected:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn two_searches_at_once_share_the_workers_evenly() {
    let long = Size { steps: 4000, ..Size::default() };
    let short = Size { seed: 4, steps: 150, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let _workers: Vec<_> = (0..4).map(|_| cluster.worker(&["--delay-ms", "5"])).collect();
    let first = client.create(&long).await;
    wait_for_shares(&mut client, &[&first], &[4]).await;
    let second = client.create(&short).await;
    let mut watch = cluster.watch(&second);
    wait_for_shares(&mut client, &[&first, &second], &[2, 2]).await;
    watch.finishes_as(&trajectory(&short.spec())).await;
    wait_for_shares(&mut client, &[&first, &second], &[4, 0]).await;

    // What was taken away and given back cost no sample.
    client.pause(&first).await;
    let mut watch = cluster.watch(&first);
    let done = watch.until_state(SearchState::Paused).await.step;
    watch.until_step(done).await;
    assert!(done > 10, "it goes on meanwhile: {done}");
    let expected = trajectory(&Size { steps: long.steps, ..long }.spec());
    let steps: Vec<_> = watch.steps.iter().map(|(_, record)| record.clone()).collect();
    assert_eq!(steps, expected.steps[..steps.len()]);
}

#[tokio::test]
async fn searches_without_workers_wait_for_their_turn() {
    let sizes = [1, 2, 3].map(|seed| Size { seed, steps: 30, ..Size::default() });
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let mut watches = Vec::new();
    for size in &sizes {
        let id = client.create(size).await;
        watches.push(cluster.watch(&id));
    }
    let _worker = cluster.worker(&["--delay-ms", "2"]);
    let mut ends = Vec::new();
    for (watch, size) in watches.iter_mut().zip(&sizes) {
        watch.finishes_as(&trajectory(&size.spec())).await;
        ends.push(watch.steps.last().expect("steps").0);
    }
    assert!(ends.is_sorted(), "one after the other, in the order of their creation");
}
