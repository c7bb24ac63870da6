//! What workers do wrong over real processes: the trajectory stays the same to the bit, and work goes on.

use lora_rates_common::convert::SearchState;
use lora_rates_tests::cluster::{Client, Cluster, PATIENCE, Program, Watch};
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use lora_rates_tests::synthetic::read_notes;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a fault may hold a search up.
const LIMIT: Duration = Duration::from_secs(15);
/// Workers take a few milliseconds for an answer, so that faults meet them at work.
const STEADY: [&str; 2] = ["--delay-ms", "5"];

/// Starts a search over two good workers and the one with these arguments, and waits for its third step.
async fn begin(size: &Size, third: &[&str]) -> (Cluster, Client, Watch, [Program; 3]) {
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let workers = [cluster.worker(third), cluster.worker(&STEADY), cluster.worker(&STEADY)];
    // A search fails if every connected worker fails, so a faulty one must not be the only one there.
    let since = Instant::now();
    while client.workers().await.len() < workers.len() {
        assert!(since.elapsed() < LIMIT, "not all workers have come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = client.create(size).await;
    let mut watch = cluster.watch(&id);
    watch.until_step(3).await;
    (cluster, client, watch, workers)
}

/// Asserts that the search ends as if nothing had been, and was never held up for long.
async fn ends_well(size: &Size, mut watch: Watch) -> Duration {
    watch.finishes_as(&trajectory(&size.spec())).await;
    let gap = watch.longest_gap(1);
    assert!(gap < LIMIT, "no step for {gap:?}");
    gap
}

#[tokio::test]
async fn a_killed_worker_costs_no_sample() {
    let size = Size { validate_every: 10, ..Size::default() };
    let (_cluster, _client, watch, mut workers) = begin(&size, &STEADY).await;
    workers[0].kill().await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn a_stopped_worker_holds_up_nobody_and_may_come_back() {
    let size = Size { steps: 200, ..Size::default() };
    let (_cluster, mut client, mut watch, workers) = begin(&size, &STEADY).await;
    workers[0].signal("STOP").await;
    watch.until_step(120).await;
    workers[0].signal("CONT").await;
    ends_well(&size, watch).await;
    let since = Instant::now();
    while client.workers().await.len() < 3 {
        assert!(since.elapsed() < PATIENCE, "the worker does not come back");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_worker_that_is_ten_times_slower_holds_the_others_up_by_little() {
    let size = Size { steps: 40, microbatches: 12, images: 24, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let notes = ["slow", "fast"].map(|name| cluster.path(name));
    let [slow, fast] = [0, 1].map(|at: usize| notes[at].display().to_string());
    let watch = cluster.watch(&id);
    let _slow = cluster.worker(&["--delay-ms", "200", "--record", &slow]);
    let _fast = cluster.worker(&["--delay-ms", "20", "--record", &fast]);
    ends_well(&size, watch).await;
    // At one each they would have as many; the slow one is leased two in advance, and answers one of them or none.
    let leases = |at: usize| read_notes(&notes[at]).iter().filter(|note| note.what == "lease").count();
    assert!(leases(0) * 3 < leases(1), "the slow worker was leased {}, the fast one {}", leases(0), leases(1));
}

#[tokio::test]
async fn evaluations_that_are_none_are_refused_and_their_worker_is_left_out() {
    let size = Size { validate_every: 10, ..Size::default() };
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "nan", "--fault-every", "2"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn numbers_that_are_none_are_refused_and_their_worker_is_left_out() {
    let size = Size::default();
    let (cluster, _client, watch, _workers) = begin(&size, &["--fault", "nan", "--fault-every", "2"]).await;
    ends_well(&size, watch).await;
    assert!(cluster.metric("lora_rates_microbatches_total", &["refused"]).await >= 1.0);
}

#[tokio::test]
async fn wrong_shapes_are_refused() {
    let size = Size::default();
    let (cluster, _client, watch, _workers) = begin(&size, &["--fault", "shapes", "--fault-every", "2"]).await;
    ends_well(&size, watch).await;
    assert!(cluster.metric("lora_rates_microbatches_total", &["refused"]).await >= 1.0);
}

#[tokio::test]
async fn a_message_without_sense_ends_its_workers_stream_alone() {
    let size = Size::default();
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "garbled", "--fault-every", "3"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn results_under_the_rates_of_another_step_are_refused() {
    let size = Size::default();
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "stale", "--fault-every", "5"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn results_that_come_twice_count_once() {
    let size = Size::default();
    let (cluster, _client, watch, _workers) = begin(&size, &["--fault", "duplicate"]).await;
    ends_well(&size, watch).await;
    assert!(cluster.metric("lora_rates_microbatches_total", &["repeated"]).await >= 1.0);
}

#[tokio::test]
async fn results_for_another_search_do_not_count() {
    let size = Size::default();
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "foreign"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn a_worker_that_falls_silent_holds_up_nobody() {
    let size = Size::default();
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "silent", "--fault-every", "20"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn a_device_that_hangs_holds_up_nobody() {
    let size = Size::default();
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "hang", "--fault-every", "20"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_costs_no_sample() {
    let size = Size { validate_every: 10, ..Size::default() };
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "disconnect", "--fault-every", "7"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn a_worker_that_can_not_work_for_a_search_does_not_fail_it() {
    let size = Size::default();
    let (_cluster, _client, watch, _workers) = begin(&size, &["--fault", "fail"]).await;
    ends_well(&size, watch).await;
}

#[tokio::test]
async fn when_no_worker_can_work_for_a_search_it_fails_with_their_reason() {
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&Size::default()).await;
    let mut watch = cluster.watch(&id);
    let _workers = [cluster.worker(&["--fault", "fail"]), cluster.worker(&["--fault", "fail"])];
    let status = watch.until_state(SearchState::Failed).await;
    assert!(status.failure.is_some_and(|it| it.contains("this worker can't work for any search")));
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_gives_its_leases_back_first() {
    let size = Size { steps: 80, ..Size::default() };
    let (_cluster, mut client, mut watch, mut workers) = begin(&size, &["--delay-ms", "30000"]).await;
    // It holds leases that it will never answer; the others have gone on meanwhile without it.
    workers[0].signal("TERM").await;
    let since = Instant::now();
    assert!(workers[0].ended().await, "it ends well");
    assert!(since.elapsed() < Duration::from_secs(4), "the coordinator ends the stream: {:?}", since.elapsed());
    assert_eq!(client.workers().await.len(), 2);
    watch.catch_up();
    let after = watch.step();
    watch.finishes_as(&trajectory(&size.spec())).await;
    let gap = watch.longest_gap(after + 1);
    assert!(gap < Duration::from_secs(2), "nobody waits for a worker that has left: {gap:?}");
}

#[tokio::test]
async fn without_workers_a_search_waits_says_so_and_goes_on() {
    let size = Size::default();
    let (mut cluster, _client, mut watch, mut workers) = begin(&size, &STEADY).await;
    for worker in &mut workers {
        worker.kill().await;
    }
    let says = |watch: &Watch| watch.progress.iter().any(|it| it.activity.contains("waiting for a worker"));
    watch.until("until it says that it waits", says).await;
    watch.catch_up();
    let step = watch.step();
    let _worker = cluster.worker(&STEADY);
    let since = Instant::now();
    watch.until_step(step + 1).await;
    assert!(since.elapsed() < LIMIT, "{:?}", since.elapsed());
    watch.finishes_as(&trajectory(&size.spec())).await;
}

#[tokio::test]
async fn without_workers_a_search_fails_after_the_time_that_was_given_and_can_be_resumed() {
    let size = Size::default();
    let mut cluster = Cluster::with(&["--worker-timeout", "2"], None).await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let mut worker = cluster.worker(&STEADY);
    watch.until_step(3).await;
    worker.kill().await;
    let since = Instant::now();
    let status = watch.until_state(SearchState::Failed).await;
    assert!(status.failure.is_some_and(|it| it.contains("worker")), "it says why");
    assert!((1.5..10.0).contains(&since.elapsed().as_secs_f64()), "{:?}", since.elapsed());

    let _worker = cluster.worker(&STEADY);
    client.resume(&id).await;
    watch.until("until it goes on", |watch| watch.state() != Some(SearchState::Failed)).await;
    watch.finishes_as(&trajectory(&size.spec())).await;
}
