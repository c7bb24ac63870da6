//! What a step costs besides its microbatches: rates and leases out, gradients in, reduction, AdamW, commit. The workers
//! answer at once; all of them, the coordinator and the network between (the loopback) are on this machine.
//!
//! `cargo bench -p lora-rates-tests --no-default-features --bench overhead`; arguments that are numbers are numbers of
//! workers to measure instead of 64 and 256.
#![allow(clippy::print_stdout)]

use lora_rates_coordinator::{Coordinator, Options};
use lora_rates_tests::cluster::{Client, Watch};
use lora_rates_tests::connecting::to;
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use lora_rates_tests::synthetic;
use std::future::pending;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Networks of the search: 1280 rates.
const NETWORKS: usize = 64;
/// Steps measured, and steps before them.
const STEPS: usize = 400;
const WARM: usize = 50;
/// Numbers of workers, and the median in milliseconds that is to be reached with each.
const GOALS: [(usize, f64); 2] = [(64, 10.0), (256, 30.0)];
/// How often the median the 99th percentile may be.
const TAIL: f64 = 4.0;

fn main() {
    let asked: Vec<usize> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    let counts = if asked.is_empty() { GOALS.map(|(count, _)| count).to_vec() } else { asked };
    for count in counts {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let mut times = runtime.block_on(measure(count));
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
        let (median, p99) = (at(0.5), at(0.99));
        println!(
            "{count} workers, {NETWORKS} networks, {count} microbatches a step: median {median:.2} ms, p90 {:.2} ms, \
             p99 {p99:.2} ms, max {:.2} ms",
            at(0.9),
            at(1.0)
        );
        if let Some((_, goal)) = GOALS.into_iter().find(|(workers, _)| *workers == count) {
            println!("    median / goal of {goal} ms: {:.2} {}", median / goal, reached(median < goal));
        }
        println!("    p99 / median: {:.2} {}", p99 / median, reached(p99 < TAIL * median));
        runtime.shutdown_background();
    }
}

fn reached(reached: bool) -> &'static str {
    if reached { "(reached)" } else { "(MISSED)" }
}

/// Milliseconds of every step with so many workers.
async fn measure(workers: usize) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data_dir = Some(folder.path().to_owned());
    let options = Options { data_dir, trusted: false, ..Options::default() };
    let coordinator = Coordinator::open(options).expect("a coordinator");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(coordinator.serve(listener, async { drop(stopped.await) }));
    for number in 0..workers {
        let (url, name) = (url.clone(), format!("worker {number}"));
        tokio::spawn(async move {
            let options = synthetic::Options { name, ..Default::default() };
            synthetic::run(&url, options, pending()).await;
        });
    }
    // Three pictures are six samples, so an epoch has whole steps only.
    let size = Size {
        networks: NETWORKS,
        images: u32::try_from(workers * 3).expect("few pictures"),
        steps: (WARM + STEPS) as u64,
        batch: 1,
        microbatches: u32::try_from(workers).expect("few workers"),
        ..Size::default()
    };
    let mut client = Client::connect(&url).await;
    while client.workers().await.len() < workers {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = client.create(&size).await;
    let mut watch = Watch::start(to(&url), &id);
    watch.finishes_as(&trajectory(&size.spec())).await;
    let times: Vec<Duration> = watch.steps.iter().map(|(at, _)| *at).collect();
    drop((stop, watch));
    // The workers' streams are cut, which is no matter any more.
    let _ = serving.await;
    let gaps = times.windows(2).skip(WARM - 1).map(|pair| pair[1].saturating_sub(pair[0]).as_secs_f64() * 1e3);
    gaps.collect()
}
