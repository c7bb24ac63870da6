//! Two hosts with a slow and lossy link between them that is cut in the middle of a search. tests/network/run.sh lends the
//! hosts and the link: network namespaces, and `link.py` between them.

use lora_rates_tests::cluster::Cluster;
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn variable(name: &str) -> String {
    let name = format!("LORA_RATES_NETWORK_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: run tests/network/run.sh"))
}

#[tokio::test]
#[ignore = "needs root: run tests/network/run.sh"]
async fn a_search_over_a_bad_link_that_is_cut_comes_to_the_same_numbers() {
    let (host, workers) = (variable("HOST"), variable("WORKERS"));
    let (cut, lasting) = (PathBuf::from(variable("CUT")), variable("CUT_S"));
    let lasting = Duration::from_secs(lasting.parse().expect("seconds"));
    let size = Size { steps: 120, networks: 16, validate_every: 30, ..Size::default() };
    let mut cluster = Cluster::on(&host, &["--insecure"], None).await;
    let mut client = cluster.client().await;
    let id = client.create(&size).await;
    let mut watch = cluster.watch(&id);
    let _workers: Vec<_> = (0..3).map(|_| cluster.worker_in(&workers, &["--delay-ms", "20"])).collect();
    let since = Instant::now();
    watch.until_step(40).await;
    let before = since.elapsed();

    fs::write(&cut, "").expect("the link can be cut");
    sleep(lasting).await;
    fs::remove_file(&cut).expect("the link can be mended");
    let (mended, at) = (Instant::now(), watch.step());
    watch.until_step(at + 1).await;
    let first = mended.elapsed();
    watch.finishes_as(&trajectory(&size.spec())).await;
    assert!(first < Duration::from_secs(15), "no step for {first:?} after the link was mended");
    eprintln!(
        "{} steps, same trajectory: 40 steps in {before:.1?}, then cut for {lasting:?}; the next step {first:.1?} after \
         the link was mended; all in {:.1?}",
        size.steps,
        since.elapsed()
    );
}
