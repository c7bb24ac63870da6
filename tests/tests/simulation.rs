//! The coordinator's services and synthetic workers over a simulated network and clock, with faults at random: whatever
//! happens, the trajectory is the reference's to the bit.
//!
//! `LORA_RATES_SCHEDULES=2000` runs as many schedules instead of a hundred, `LORA_RATES_SCHEDULE=17` that one alone.

#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/world.rs"]
mod world;

use schedule::Schedule;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use world::{Figures, simulate};

/// Schedules unless told otherwise.
const SCHEDULES: u64 = 100;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: it must be a number")))
}

#[test]
fn whatever_fails_the_trajectory_is_the_same() {
    let since = Instant::now();
    let seeds = match number("LORA_RATES_SCHEDULE") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LORA_RATES_SCHEDULES").unwrap_or(SCHEDULES),
    };
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let total = Mutex::new(Figures::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let schedule = Schedule::new(seed);
                    let failed = Failed(&schedule);
                    let figures = simulate(&schedule);
                    std::mem::forget(failed);
                    total.lock().expect("no other schedule failed").add(&figures);
                }
            });
        }
    });
    let total = total.into_inner().expect("no schedule failed");
    eprintln!("{total} in {:.0?}", since.elapsed());
    assert!(total.simulated > Duration::ZERO);
}

/// Says which schedule it was when one fails.
struct Failed<'a>(&'a Schedule);

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        eprintln!("schedule {} failed (run it alone with LORA_RATES_SCHEDULE): {:#?}", self.0.seed, self.0);
    }
}
