//! What a step costs the state machine.

use super::encoded;
use crate::search::{Command, Event, Search, WorkerId};
use crate::testing::spec;
use lora_rates_common::convert::Gradient;
use lora_rates_common::spec::SearchSpec;
use std::time::{Duration, Instant};

/// As many microbatches of one picture each in a step as there are workers, and 64 networks.
fn wide(workers: u32) -> SearchSpec {
    let mut spec = spec();
    spec.networks = vec![spec.networks[0].clone(); 64];
    let image = spec.images[0].clone();
    spec.images =
        (0..workers).map(|number| super::Image { sha256: format!("{number:064x}"), ..image.clone() }).collect();
    spec.images.iter_mut().for_each(|image| image.repeats = 1);
    spec.options.train_batch_size = 1;
    spec.options.gradient_accumulation_steps = workers;
    spec.options.max_train_steps = 200;
    spec
}

/// Of every step, the time from its first result until all of the next are leased, without the store's.
fn steps(workers: u32) -> Vec<Duration> {
    let mut search = Search::new(encoded(wide(workers))).unwrap();
    let mut commands = Vec::new();
    for worker in (0..workers.into()).map(WorkerId::new) {
        commands.extend(search.handle(Event::Joined(worker)));
        commands.extend(search.handle(Event::Ready(worker)));
    }
    // The first workers hold microbatches that others are leased again when they come; that ends with the first step.
    let mut times = Vec::new();
    while search.wants_workers() {
        let answer = |command: &Command| match command {
            Command::Lease(worker, lease) => {
                let (search_id, mse) = (lease.search_id.clone(), vec![0.1; lease.batch.samples.len()]);
                let (step, microbatch, gradient) = (lease.step, lease.microbatch, vec![1e-3; 64 * 20]);
                Some(Event::Computed(*worker, Gradient { search_id, step, microbatch, mse, loss: 0.1, gradient }))
            }
            Command::Commit(_) => Some(Event::Committed),
            _ => None,
        };
        let mut events: Vec<Event> = commands.iter().filter_map(answer).collect();
        assert!(!events.is_empty(), "the search is stuck");
        let begin = Instant::now();
        commands = events.drain(..).flat_map(|event| search.handle(event)).collect();
        if let [Command::Commit(_)] = &commands[..] {
            commands = search.handle(Event::Committed);
            times.push(begin.elapsed());
        }
    }
    times
}

#[test]
#[ignore = "measures; build it with optimisation"]
fn a_step_of_256_workers_costs_less_than_two_milliseconds() {
    for workers in [64, 256] {
        let mut times = steps(workers);
        times.sort_unstable();
        let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        eprintln!("{workers} workers: median {median:?}, p99 {p99:?}");
        assert!(workers < 256 || median < Duration::from_millis(2));
    }
}
