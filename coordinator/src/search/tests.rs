mod action;
mod checks;
mod cluster;
mod phases;
mod random;
mod sampling;
mod simulation;
mod speed;
mod truth;
mod world;

use super::*;
use crate::testing::{compute, spec, trajectory};
use cluster::Cluster;
use lora_rates_common::convert::{Gradient, Lease, PrepareProgress, Rates, StepRecord};
use lora_rates_common::dataset::Image;
use std::collections::VecDeque;

const A: WorkerId = WorkerId::new(1);
const B: WorkerId = WorkerId::new(2);

/// A new search whose pictures are all encoded.
fn encoded(spec: SearchSpec) -> Beginning {
    Beginning { missing: Vec::new(), ..Beginning::new("s".into(), Arc::new(spec)) }
}

fn search() -> Search {
    Search::new(encoded(spec())).unwrap()
}

/// A search with these workers ready, and what the last of them was told when it became so.
fn running(workers: &[WorkerId]) -> (Search, Vec<Command>) {
    let mut search = search();
    let mut told = Vec::new();
    for &worker in workers {
        assert_eq!(search.handle(Event::Joined(worker)), [Command::Prepare(worker)]);
    }
    for &worker in workers {
        told = search.handle(Event::Ready(worker));
    }
    (search, told)
}

/// Answers all leases among the commands as their worker would.
fn answers(commands: &[Command]) -> Vec<(WorkerId, Gradient)> {
    let rates = commands.iter().find_map(|command| match command {
        Command::Rates(_, rates) => Some(rates),
        _ => None,
    });
    let answer = |command: &Command| match command {
        Command::Lease(worker, lease) => Some((*worker, compute(rates?, lease))),
        _ => None,
    };
    commands.iter().filter_map(answer).collect()
}

fn refusal(commands: &[Command]) -> Option<&Refusal> {
    commands.iter().find_map(|command| match command {
        Command::Refused(_, refusal) => Some(refusal),
        _ => None,
    })
}

fn progress(activity: &str, done: u32, total: u32) -> PrepareProgress {
    PrepareProgress { worker: String::new(), activity: activity.into(), done, total }
}

fn failure(commands: &[Command]) -> Option<&str> {
    commands.iter().find_map(|command| match command {
        Command::State(SearchState::Failed, message) => message.as_deref(),
        _ => None,
    })
}

#[test]
fn the_first_ready_worker_starts_the_search_and_gets_two_microbatches() {
    let (search, told) = running(&[A]);
    assert_eq!(search.state(), SearchState::Running);
    assert!(matches!(
        told[..],
        [
            Command::State(SearchState::Running, None),
            Command::Rates(A, Rates { step: 0, .. }),
            Command::Lease(A, Lease { microbatch: 0, .. }),
            Command::Lease(A, Lease { microbatch: 1, .. }),
        ]
    ));
}

/// Lets a worker answer all that it is leased until nothing is left to do. Returns the last commands.
fn answer_all(search: &mut Search, mut told: Vec<Command>) -> Vec<Command> {
    let rates = told.iter().position(|it| matches!(it, Command::Rates(..))).map(|at| told.remove(at)).unwrap();
    let mut open: VecDeque<Command> = told.into();
    let mut last = Vec::new();
    while let Some(command) = open.pop_front() {
        for (worker, gradient) in answers(&[rates.clone(), command]) {
            last = search.handle(Event::Computed(worker, gradient));
            open.extend(last.clone());
        }
    }
    last
}

#[test]
fn no_rates_are_told_before_their_step_is_committed() {
    let (mut search, told) = running(&[A]);
    let last = answer_all(&mut search, told);
    let [Command::Commit(commit)] = &last[..] else { panic!("{last:?}") };
    assert_eq!(search.status().step, 0);
    let after = search.handle(Event::Committed);
    assert_eq!(after[0], Command::Publish(commit.record.clone()));
    assert!(matches!(&after[1], Command::Rates(A, rates) if rates.step == 1));
    assert_eq!(search.status().rates, commit.state.rates);
}

#[test]
fn a_step_that_could_not_be_stored_pauses_the_search_and_is_made_again() {
    let mut cluster = Cluster::new(search(), 2, 1);
    cluster.fail_commit_of = Some(5);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Paused);
    assert_eq!(cluster.search.status().failure.as_deref(), Some("the disk is full"));
    assert_eq!(cluster.search.status().step, 4);
    cluster.order(Order::Resume);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    assert_eq!(cluster.search.status().failure, None);
    assert_eq!(cluster.records, trajectory(&spec()));
}

#[test]
fn a_result_that_is_late_or_not_asked_for_is_refused_and_counted() {
    let (mut search, told) = running(&[A, B]);
    let first = running(&[A]).1;
    let (_, gradient) = answers(&first).remove(0);
    let taken = search.handle(Event::Computed(A, gradient.clone()));
    assert_eq!(refusal(&taken), None);
    for (worker, change) in [(A, 0), (B, 0), (WorkerId::new(9), 1), (A, 77)] {
        let gradient = Gradient { microbatch: change, ..gradient.clone() };
        let refused = search.handle(Event::Computed(worker, gradient));
        assert_eq!(refusal(&refused), Some(&Refusal::Lease(crate::ledger::Error::NotLeased)));
    }
    let refused = search.handle(Event::Computed(A, Gradient { step: 1, ..gradient }));
    assert_eq!(refusal(&refused), Some(&Refusal::Step { found: 1, current: 0 }));
    assert_eq!(search.refused(), 5);
    assert_eq!(search.state(), SearchState::Running, "{told:?}");
}

#[test]
fn a_gradient_of_the_wrong_shape_is_refused_and_computed_again() {
    let (mut search, told) = running(&[A]);
    let (_, gradient) = answers(&told).remove(0);
    let wrong = Gradient { gradient: vec![0.0; 20], ..gradient.clone() };
    let refused = search.handle(Event::Computed(A, wrong));
    assert_eq!(refusal(&refused), Some(&Refusal::Shape { what: "gradient", found: 20, expected: 40 }));
    let again = refused.iter().any(|it| matches!(it, Command::Lease(A, lease) if lease.microbatch == 0));
    assert!(again || refused.len() == 2, "{refused:?}");
    let wrong = Gradient { mse: vec![], microbatch: 1, ..gradient };
    let refused = search.handle(Event::Computed(A, wrong));
    assert!(matches!(refusal(&refused), Some(Refusal::Shape { what: "mse", found: 0, .. })));
}

#[test]
fn what_one_worker_spoiled_goes_to_an_idle_one_at_once() {
    let (mut search, told) = running(&[A]);
    let (_, first) = answers(&told).remove(0);
    let _ = search.handle(Event::Joined(B));
    let told = search.handle(Event::Ready(B));
    // B computes all but what A is computing, and is idle.
    assert_eq!(answer_all(&mut search, told), []);
    let told = search.handle(Event::Computed(A, Gradient { loss: f64::NAN, ..first }));
    assert!(
        matches!(&told[..], [Command::Refused(A, _), Command::Lease(B, lease)] if lease.microbatch == 0),
        "{told:?}"
    );
}

#[test]
fn numbers_that_are_not_finite_three_times_fail_the_search_with_advice() {
    for (what, spoil) in [
        ("its loss", (|it| it.loss = f64::NAN) as fn(&mut Gradient)),
        ("mse", |it| it.mse[0] = f64::INFINITY),
        ("gradient", |it| it.gradient[39] = f64::NAN),
    ] {
        let mut cluster = Cluster::new(search(), 1, 1);
        cluster.spoil(A, spoil);
        cluster.run();
        let status = cluster.search.status();
        assert_eq!(status.state, SearchState::Failed);
        let failure = status.failure.unwrap();
        assert!(failure.contains("unusable 3 times") && failure.contains(what), "{failure}");
        assert!(failure.contains("a network is damaged"), "{failure}");
        assert_eq!(cluster.search.refused(), 3);
        assert!(cluster.released(A));
    }
}

#[test]
fn one_broken_worker_among_others_is_released_and_the_numbers_are_the_same() {
    let mut cluster = Cluster::new(search(), 3, 5);
    cluster.spoil(A, |it| it.gradient[0] = f64::NAN);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    assert!(cluster.released(A));
    assert_eq!(cluster.records, trajectory(&spec()));
}

#[test]
fn one_good_worker_among_broken_ones_is_enough() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(search(), 5, seed);
        let broken = [1, 2, 3, 4].map(WorkerId::new);
        broken.into_iter().for_each(|worker| cluster.spoil(worker, |it| it.gradient[0] = f64::NAN));
        cluster.run();
        let status = cluster.search.status();
        assert_eq!(status.state, SearchState::Finished, "{:?}", status.failure);
        assert_eq!(cluster.records, trajectory(&spec()));
    }
}

#[test]
fn workers_that_give_up_are_expelled_and_the_search_fails_when_it_is_abandoned() {
    let (mut search, _) = running(&[A, B]);
    let first = search.handle(Event::Failed(A, "no such checkpoint".into()));
    assert_eq!(first[0], Command::Expel(A, "no such checkpoint".into()));
    assert_eq!(search.handle(Event::Failed(A, "again".into())), []);
    let last = search.handle(Event::Failed(B, "out of memory".into()));
    let waiting = Command::Progress(progress("waiting for a worker", 0, 0));
    let preparing = Command::State(SearchState::Preparing, None);
    assert_eq!(last, [Command::Expel(B, "out of memory".into()), preparing, waiting]);
    let abandoned = search.handle(Event::Abandoned("out of memory".into()));
    assert_eq!(failure(&abandoned), Some("out of memory"));
    assert_eq!(search.handle(Event::Joined(A)), [], "what has failed prepares nobody");
    assert_eq!(search.handle(Event::Abandoned("again".into())), []);
}

#[test]
fn what_has_failed_can_be_resumed() {
    let mut cluster = Cluster::new(search(), 1, 1);
    cluster.spoil(A, |it| {
        if it.step == 3 {
            it.loss = f64::NAN;
        }
    });
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Failed);
    cluster.order(Order::Resume);
    cluster.join();
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    assert_eq!(cluster.search.status().failure, None);
    assert_eq!(cluster.records, trajectory(&spec()));
}

#[test]
fn without_workers_the_search_waits_and_keeps_what_it_has_of_the_step() {
    let (mut search, told) = running(&[A]);
    let (_, gradient) = answers(&told).remove(0);
    let _ = search.handle(Event::Computed(A, gradient));
    let gone = search.handle(Event::Gone(A));
    let waiting = Command::Progress(progress("waiting for a worker", 0, 0));
    assert_eq!(gone, [Command::State(SearchState::Preparing, None), waiting]);
    let _ = search.handle(Event::Joined(B));
    let told = search.handle(Event::Ready(B));
    let leases: Vec<u32> =
        told.iter().filter_map(|it| if let Command::Lease(B, it) = it { Some(it.microbatch) } else { None }).collect();
    assert_eq!(leases, [1, 2]);
}

#[test]
fn what_a_silent_worker_computes_is_leased_again_only_when_it_is_overdue() {
    let (mut search, told) = running(&[A]);
    assert_eq!(told.iter().filter(|it| matches!(it, Command::Lease(..))).count(), 2);
    let _ = search.handle(Event::Joined(B));
    let told = search.handle(Event::Ready(B));
    // B computes all but what A is computing, which is the first.
    assert_eq!(answer_all(&mut search, told), []);
    assert_eq!(search.status().step, 0);
    let overdue = search.handle(Event::Overdue);
    assert!(matches!(&overdue[..], [Command::Lease(B, lease)] if lease.microbatch == 0), "{overdue:?}");
    assert_eq!(search.handle(Event::Overdue), []);
}

#[test]
fn orders_that_do_not_suit_the_state_are_refused_and_repeated_ones_are_not() {
    let mut search = search();
    assert_eq!(search.order(Order::Resume).unwrap(), []);
    assert_eq!(search.order(Order::Pause).unwrap(), [Command::State(SearchState::Paused, None)]);
    assert_eq!(search.order(Order::Pause).unwrap(), []);
    assert_eq!(search.handle(Event::Joined(A)), []);
    let resumed = search.order(Order::Resume).unwrap();
    assert_eq!(resumed[0], Command::State(SearchState::Preparing, None));
    assert_eq!(search.order(Order::Cancel).unwrap(), [Command::State(SearchState::Cancelled, None)]);
    assert_eq!(search.order(Order::Cancel).unwrap(), []);
    for order in [Order::Pause, Order::Resume] {
        let error = search.order(order).unwrap_err();
        assert_eq!(error.to_string(), format!("the search is cancelled; it can't be {order}"));
    }
}

#[test]
fn a_search_that_was_left_behind_its_last_step_is_finished() {
    let spec = Arc::new(spec());
    let state = State { step: spec.options.max_train_steps, ..Search::beginning(&spec) };
    let left = Beginning { optimizer: state, state: SearchState::Running, ..Beginning::new("s".into(), spec) };
    assert_eq!(Search::new(left).unwrap().state(), SearchState::Finished);
}

#[test]
fn a_state_of_another_search_is_refused() {
    let spec = Arc::new(spec());
    let state = State { m: vec![0.0; 20], ..Search::beginning(&spec) };
    let left = Beginning { optimizer: state, ..Beginning::new("s".into(), spec) };
    let error = Search::new(left).err().unwrap();
    assert_eq!(error.to_string(), "the first moment has 20 entries where the search has 40 rates");
}

#[test]
fn a_search_that_diverges_fails_with_advice() {
    let mut spec = spec();
    spec.options.learning_rate.learning_rate = 1e60;
    let mut cluster = Cluster::new(Search::new(encoded(spec)).unwrap(), 1, 1);
    cluster.run();
    let failure = cluster.search.status().failure.unwrap();
    assert!(failure.starts_with("the search diverged: a rate became"), "{failure}");
    assert_eq!(cluster.records, Vec::<StepRecord>::new());
}
