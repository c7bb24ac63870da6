//! What goes wrong when: all of it a function of the seed.

use lora_rates_tests::searches::Size;
use lora_rates_tests::synthetic::Fault;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Faults come within this time of the start; a search without any takes about as long.
const FAULTY: u64 = 6_000;
/// The longest that one lasts, in milliseconds.
const LASTING: u64 = 20_000;

/// What happens to a host or its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The host loses its memory, and starts again at the end.
    Crash,
    /// Everything between the host and the coordinator is lost.
    Partition,
    /// Everything between them waits.
    Hold,
}

/// Who it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Coordinator,
    Client,
    Worker(usize),
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    pub(crate) host: Host,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

/// A worker's own behaviour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub(crate) delay: Duration,
    pub(crate) fault: Fault,
    pub(crate) every: u32,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) size: Size,
    pub(crate) workers: Vec<Behaviour>,
    pub(crate) troubles: Vec<Trouble>,
    /// Longest time that a packet takes.
    pub(crate) latency: Duration,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let workers = random.random_range(1..=4);
        let size = Size {
            seed,
            networks: random.random_range(1..=3),
            images: random.random_range(2..=8),
            steps: random.random_range(4..=12),
            batch: random.random_range(1..=3),
            microbatches: random.random_range(1..=6),
            validate_every: *[0, 0, 3].choose(&mut random).expect("a number"),
        };
        let troubles = (0..random.random_range(0..=6)).map(|_| trouble(&mut random, workers)).collect();
        Self {
            seed,
            size,
            // The first is well behaved, or nothing could be expected.
            workers: (0..workers).map(|at| behaviour(&mut random, at == 0)).collect(),
            troubles,
            latency: Duration::from_millis(random.random_range(10..=60)),
        }
    }
}

fn behaviour(random: &mut impl Rng, is_good: bool) -> Behaviour {
    const FAULTS: [Fault; 9] = [
        Fault::Nan,
        Fault::Shapes,
        Fault::Garbled,
        Fault::Stale,
        Fault::Duplicate,
        Fault::Foreign,
        Fault::Silent,
        Fault::Hang,
        Fault::Disconnect,
    ];
    let is_good = is_good || random.random_bool(0.5);
    let fault = if is_good { Fault::None } else { *FAULTS.choose(random).expect("a fault") };
    let delay = Duration::from_millis(*[0, 5, 50, 300].choose(random).expect("a delay"));
    Behaviour { delay, fault, every: random.random_range(2..=12) }
}

fn trouble(random: &mut impl Rng, workers: usize) -> Trouble {
    let host = match random.random_range(0..10) {
        0..3 => Host::Coordinator,
        3 => Host::Client,
        _ => Host::Worker(random.random_range(0..workers)),
    };
    let kind = match (host, random.random_range(0..3)) {
        // The client itself remembers what it saw.
        (Host::Client, 0) | (_, 1) => Kind::Partition,
        (_, 0) => Kind::Crash,
        _ => Kind::Hold,
    };
    // The coordinator's own link is everybody's.
    let kind = if host == Host::Coordinator { Kind::Crash } else { kind };
    let from = random.random_range(0..FAULTY);
    let lasting = if random.random_bool(0.5) { LASTING } else { LASTING / 10 };
    let until = from + random.random_range(50..lasting);
    Trouble { kind, host, from: Duration::from_millis(from), until: Duration::from_millis(until) }
}
