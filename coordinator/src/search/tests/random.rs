//! Very many random sequences of events. No microbatch is lost or counted twice, and the numbers are always the same.

use super::action::{Action, Fault};
use super::truth::{self, Truth};
use super::world::World;
use proptest::prelude::*;
use proptest::test_runner::Config;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

/// Sequences, unless `LORA_RATES_SEQUENCES` says how many: what takes some seconds without optimisation.
const SEQUENCES: u64 = 10_000;
/// Threads that share them.
const THREADS: u64 = 2;

static TRUTHS: LazyLock<Vec<Truth>> = LazyLock::new(truth::all);

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// One sequence. Returns its events.
fn sequence(number: u64) -> u64 {
    let mut random = Random(number.wrapping_mul(0xD134_2543_DE82_EF95));
    let kind = random.next() as usize % TRUTHS.len();
    let mut world = World::new(&TRUTHS[kind]);
    for _ in 0..random.next() % 150 {
        world.apply(Action::choose(random.next()));
    }
    world.finish();
    world.events
}

#[test]
fn whatever_happens_no_microbatch_is_lost_or_counted_twice() {
    let count = std::env::var("LORA_RATES_SEQUENCES").map_or(SEQUENCES, |text| text.parse().unwrap());
    LazyLock::force(&TRUTHS);
    let run = |first: u64| {
        let numbered = |number| match catch_unwind(AssertUnwindSafe(|| sequence(number))) {
            Ok(events) => events,
            Err(_) => panic!("sequence {number} went wrong"),
        };
        (first..count).step_by(THREADS as usize).map(numbered).sum::<u64>()
    };
    let events: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || run(first))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(events > 20 * count, "{events} events in {count} sequences");
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![Just(Fault::NotANumber), Just(Fault::Shape), Just(Fault::Step), Just(Fault::Foreign)]
}

fn action() -> impl Strategy<Value = Action> {
    let at = || 0..8_u8;
    prop_oneof![
        12 => at().prop_map(Action::Work),
        3 => Just(Action::Stored),
        2 => Just(Action::Join),
        2 => at().prop_map(Action::WorkLast),
        2 => (at(), fault()).prop_map(|(at, fault)| Action::Spoil(at, fault)),
        2 => at().prop_map(Action::Repeat),
        1 => at().prop_map(Action::Kill),
        1 => at().prop_map(Action::Move),
        1 => at().prop_map(Action::Return),
        1 => at().prop_map(Action::GiveUp),
        1 => Just(Action::Overdue),
        1 => Just(Action::Abandon),
        1 => Just(Action::Pause),
        1 => Just(Action::Resume),
        1 => Just(Action::NotStored),
        1 => any::<bool>().prop_map(|stored| Action::Crash { stored }),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    /// As above, with few actions, and the shortest that goes wrong is shown.
    #[test]
    fn a_few_mishaps_never_change_the_numbers(kind in 0..4_usize, actions in prop::collection::vec(action(), 0..60)) {
        let mut world = World::new(&TRUTHS[kind]);
        actions.into_iter().for_each(|action| world.apply(action));
        world.finish();
    }
}
