//! Encoding, evaluations and steps come in their order, and are picked up where they were left.

use super::cluster::Cluster;
use super::{A, B, encoded, failure, progress, refusal};
use crate::search::{Beginning, Command, Event, Order, Refusal, Search};
use crate::testing::{bits, evaluate, spec, trajectory, validated, validations};
use lora_rates_common::conclusion::{self, Change, Conclusion};
use lora_rates_common::convert::{Encoded, Evaluate, SearchState, Validation};
use lora_rates_common::plan::Microbatch;
use lora_rates_common::spec::SearchSpec;
use lora_rates_common::validation::Losses;
use std::sync::Arc;

fn cluster(spec: SearchSpec, workers: u64, seed: u64) -> Cluster {
    Cluster::new(Search::new(Beginning::new("s".into(), Arc::new(spec))).unwrap(), workers, seed)
}

fn expected(spec: &SearchSpec) -> Vec<Validation> {
    validations(spec, &trajectory(spec))
}

#[test]
fn every_picture_is_encoded_once_before_the_first_step() {
    let mut search = Search::new(Beginning::new("s".into(), Arc::new(spec()))).unwrap();
    let _ = search.handle(Event::Joined(A));
    let told = search.handle(Event::Ready(A));
    let [Command::Progress(first), Command::Encode(A, _), Command::Encode(A, second)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*first, progress("encoding pictures", 0, 14));
    assert_eq!((second.image, second.flip), (0, true));
    assert_eq!(search.state(), SearchState::Preparing);
    assert_eq!(search.progress().as_ref(), Some(first));
    for workers in [1, 3] {
        let mut cluster = cluster(spec(), workers, 7);
        cluster.run();
        cluster.encoded.sort_unstable();
        assert_eq!(cluster.encoded, spec().encodings());
        assert_eq!(bits(&cluster.records), bits(&trajectory(&spec())));
    }
}

#[test]
fn a_paused_encoding_goes_on_where_it_was() {
    let mut search = Search::new(Beginning::new("s".into(), Arc::new(spec()))).unwrap();
    let _ = search.handle(Event::Joined(A));
    let _ = search.handle(Event::Ready(A));
    let encoded = Encoded { search_id: "s".into(), image: 0, flip: false };
    let told = search.handle(Event::Encoded(A, encoded.clone()));
    assert_eq!(told[0], Command::Progress(progress("encoding pictures", 1, 14)));
    assert!(matches!(&told[1..], [Command::Encode(A, next)] if next.image == 1), "{told:?}");
    let again = search.handle(Event::Encoded(A, encoded));
    assert!(matches!(refusal(&again), Some(Refusal::Lease(_))));
    let _ = search.order(Order::Pause).unwrap();
    let resumed = search.order(Order::Resume).unwrap();
    assert_eq!(resumed[1], Command::Progress(progress("waiting for a worker", 0, 0)));
    let _ = search.handle(Event::Joined(B));
    let told = search.handle(Event::Ready(B));
    assert_eq!(told[0], Command::Progress(progress("encoding pictures", 1, 14)));
    assert!(matches!(&told[1], Command::Encode(B, next) if (next.image, next.flip) == (0, true)), "{told:?}");
}

#[test]
fn evaluations_are_what_the_definition_says_and_change_no_step() {
    let spec = validated();
    let expected = expected(&spec);
    assert_eq!(expected.iter().map(|it| it.step).collect::<Vec<_>>(), [0, 3, 6, 9, 12, 14]);
    for (workers, seed) in [(1, 1), (2, 2), (7, 3)] {
        let mut cluster = cluster(spec.clone(), workers, seed);
        (cluster.losses, cluster.repeats) = (20, 100);
        cluster.run();
        assert_eq!(cluster.search.state(), SearchState::Finished);
        assert_eq!(cluster.validations, expected);
        assert_eq!(bits(&cluster.records), bits(&trajectory(&spec)));
        let best = cluster.search.status().best.unwrap();
        assert!(expected.iter().all(|it| it.loss >= best.loss));
    }
    let [first, others @ ..] = &expected[..] else { panic!("none") };
    assert_eq!(first.baselines.iter().map(|it| it.rate).collect::<Vec<_>>(), [0.0, 0.5, 1.0]);
    assert_eq!(first.baselines[1].loss, first.loss, "a search begins at 0.5");
    assert!(others.iter().all(|it| it.baselines.is_empty()));
}

#[test]
fn an_evaluation_that_could_not_be_stored_pauses_the_search_and_is_made_again() {
    let mut cluster = cluster(validated(), 2, 1);
    cluster.fail_validation_of = Some(6);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Paused);
    assert_eq!(cluster.search.status().failure.as_deref(), Some("the disk is full"));
    cluster.order(Order::Resume);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    assert_eq!(cluster.validations, expected(&validated()));
}

#[test]
fn a_search_whose_held_out_loss_does_not_improve_stops_early_and_says_so() {
    let mut spec = validated();
    spec.options.learning_rate.learning_rate = 10.0;
    spec.options.early_stop = 2;
    let mut cluster = cluster(spec.clone(), 2, 1);
    cluster.run();
    let status = cluster.search.status();
    assert_eq!((status.state, status.step), (SearchState::Finished, 6));
    let reason = "stopped early: the held-out loss has not improved in 2 evaluations; the best was at step 0";
    assert_eq!(status.failure.as_deref(), Some(reason));
    assert_eq!(status.best.unwrap().step, 0);

    // Left between the evaluation and saying so.
    let validations = cluster.validations.into_iter().map(Arc::new).collect();
    let rates = cluster.records[5].rates.clone();
    let optimizer = super::State { step: 6, rates, ..Search::beginning(&spec) };
    let left = Beginning { optimizer, validations, state: SearchState::Running, ..encoded(spec) };
    let status = Search::new(left).unwrap().status();
    assert_eq!((status.state, status.failure.as_deref()), (SearchState::Finished, Some(reason)));
}

#[test]
fn a_worker_whose_evaluations_are_unusable_is_expelled_and_the_others_go_on() {
    let mut cluster = cluster(validated(), 3, 5);
    cluster.spoil_losses(A, |it| it.losses[0] = f64::NAN);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    assert!(cluster.released(A));
    assert_eq!(cluster.validations, expected(&validated()));
}

/// The conclusion by the definition.
fn conclusion(spec: &SearchSpec, rates: &[f64]) -> Conclusion {
    let changes = conclusion::changes(&spec.options, rates, &spec.live());
    let batches = spec.validation().unwrap().microbatches;
    let losses = |change: &Change| {
        let rates: Vec<f32> = change.of(rates).into_iter().map(|rate| rate as f32).collect();
        let asked = |batch: &Microbatch| Evaluate {
            search_id: "s".into(),
            step: 0,
            item: 0,
            rates: rates.clone(),
            batch: batch.clone(),
        };
        let losses: Vec<f64> = batches.iter().flat_map(|batch| evaluate(&asked(batch)).losses).collect();
        Losses::new(&batches, &losses)
    };
    conclusion::conclude(&spec.options, rates, &changes, &changes.iter().map(losses).collect::<Vec<_>>())
}

#[test]
fn a_search_ends_with_what_was_asked_for_whoever_computes_it() {
    let mut spec = validated();
    (spec.options.prune, spec.options.curvature) = (0.4, true);
    let records = trajectory(&spec);
    let expected = conclusion(&spec, &records.last().unwrap().rates);
    assert!(!expected.trials.is_empty(), "no rate is small");
    assert_eq!(expected.curvatures.len(), spec.live().iter().filter(|live| **live).count());
    for (workers, seed) in [(1, 1), (5, 2)] {
        let mut cluster = cluster(spec.clone(), workers, seed);
        (cluster.losses, cluster.repeats) = (20, 100);
        cluster.run();
        let status = cluster.search.status();
        assert_eq!((status.state, status.conclusion.as_deref()), (SearchState::Finished, Some(&expected)));
        assert_eq!(cluster.conclusions, std::slice::from_ref(&expected));
        assert_eq!(bits(&cluster.records), bits(&records));
        assert_eq!(cluster.validations, self::expected(&spec));
    }

    // Not stored: made again. Left before it: made once. Left after it: finished.
    let mut unlucky = cluster(spec.clone(), 2, 3);
    unlucky.fail_conclusion = true;
    unlucky.run();
    assert_eq!(unlucky.search.state(), SearchState::Paused);
    unlucky.order(Order::Resume);
    unlucky.run();
    assert_eq!((unlucky.search.state(), &unlucky.conclusions), (SearchState::Finished, &vec![expected.clone()]));
    let optimizer = super::State { step: 14, rates: records[13].rates.clone(), ..Search::beginning(&spec) };
    let validations: Vec<_> = unlucky.validations.into_iter().map(Arc::new).collect();
    let left = Beginning { optimizer, validations, state: SearchState::Running, ..encoded(spec) };
    let mut again = Cluster::new(Search::new(left.clone()).unwrap(), 1, 1);
    again.run();
    assert_eq!((again.search.state(), &again.conclusions), (SearchState::Finished, &vec![expected.clone()]));
    let stored = Beginning { conclusion: Some(Arc::new(expected)), ..left };
    assert_eq!(Search::new(stored).unwrap().state(), SearchState::Finished);
}

#[test]
fn a_search_that_stops_early_ends_with_it_too() {
    let mut spec = validated();
    spec.options.learning_rate.learning_rate = 10.0;
    (spec.options.early_stop, spec.options.curvature) = (2, true);
    let mut cluster = cluster(spec.clone(), 2, 1);
    cluster.run();
    let status = cluster.search.status();
    assert_eq!((status.state, status.step), (SearchState::Finished, 6));
    assert!(status.failure.unwrap().starts_with("stopped early"));
    assert_eq!(status.conclusion.as_deref(), Some(&conclusion(&spec, &status.rates)));
}

#[test]
fn evaluations_that_nobody_can_use_fail_the_search_with_the_reason() {
    let mut cluster = cluster(validated(), 2, 1);
    for worker in [A, B] {
        cluster.spoil_losses(worker, |it| it.losses.clear());
    }
    cluster.run();
    let failure = cluster.search.status().failure.unwrap();
    assert!(failure.contains("unusable 3 times, the last that of evaluation"), "{failure}");
    assert!(failure.contains("losses has 0 numbers"), "{failure}");
}

#[test]
fn losses_that_add_up_to_infinity_fail_the_search() {
    let mut cluster = cluster(validated(), 1, 1);
    cluster.spoil_losses(A, |it| it.losses.iter_mut().for_each(|loss| *loss = f64::MAX));
    cluster.run();
    let failure = cluster.search.status().failure.unwrap();
    assert!(failure.starts_with("the search diverged: the held-out loss became inf in step 0"), "{failure}");
}

#[test]
fn a_search_left_before_its_last_evaluation_makes_it() {
    let spec = validated();
    let expected = expected(&spec);
    let records = trajectory(&spec);
    let optimizer = super::State { step: 14, rates: records[13].rates.clone(), ..Search::beginning(&spec) };
    let validations = expected[..5].iter().cloned().map(Arc::new).collect();
    let left = Beginning { optimizer, validations, state: SearchState::Running, ..encoded(spec) };
    let mut cluster = Cluster::new(Search::new(left).unwrap(), 1, 1);
    assert_eq!(cluster.search.state(), SearchState::Preparing);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    assert_eq!(cluster.validations, expected[5..]);
    assert_eq!(cluster.records, []);
}

#[test]
fn a_search_that_ends_while_a_step_is_stored_takes_it_and_stays_so() {
    let (mut search, told) = super::running(&[A]);
    let last = super::answer_all(&mut search, told);
    assert!(matches!(last[..], [Command::Commit(_)]));
    let abandoned = search.handle(Event::Abandoned("all have failed".into()));
    assert_eq!(abandoned[0], Command::Release(A));
    assert_eq!(failure(&abandoned), Some("all have failed"));
    assert!(matches!(search.handle(Event::Committed)[..], [Command::Publish(_)]));
    assert_eq!((search.state(), search.status().step), (SearchState::Failed, 1));
}
