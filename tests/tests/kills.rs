//! A hundred random kills of workers in one search.

use lora_rates_tests::cluster::Cluster;
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use tokio::time::sleep;

/// Kills of workers.
const KILLS: usize = 100;
/// How long a kill may hold the search up.
const LIMIT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_hundred_killed_workers_cost_no_sample() {
    let size = Size { steps: 3000, images: 15, microbatches: 6, validate_every: 100, ..Size::default() };
    let mut cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let mut workers: Vec<_> = (0..4).map(|_| cluster.worker(&["--delay-ms", "3"])).collect();
    watch.until_step(1).await;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for killed in 0..KILLS {
        sleep(Duration::from_millis(random.random_range(1..150))).await;
        let which = random.random_range(0..workers.len());
        workers[which].kill().await;
        workers[which] = cluster.worker(&["--delay-ms", "3"]);
        // So that the last kill still meets a search that runs.
        watch.catch_up();
        assert!(watch.step() < size.steps, "the search ended after {killed} kills");
    }
    let (at, during) = (watch.step(), watch.longest_gap(1));
    watch.finishes_as(&trajectory(&size.spec())).await;
    assert!(during < LIMIT, "no step for {during:?}");
    let plan = size.spec().plan().expect("a plan");
    let planned: usize = (0..size.steps).map(|step| plan.step(step).len()).sum();
    let accepted = cluster.metric("lora_rates_microbatches_total", &["accepted"]).await;
    assert_eq!(accepted, planned as f64, "every microbatch counts once");
    eprintln!(
        "{KILLS} kills within {at} of {} steps: same trajectory; longest time between two steps {during:.2?}; \
         microbatches accepted {accepted}, repeated {}, leased {}",
        size.steps,
        cluster.metric("lora_rates_microbatches_total", &["repeated"]).await,
        cluster.metric("lora_rates_microbatches_total", &["leased"]).await,
    );
}
