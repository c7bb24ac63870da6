//! Sample pictures are made when they are due, and change no step, whatever becomes of them.

use super::cluster::Cluster;
use super::{A, B, encoded};
use crate::search::{Beginning, Command, Event, Order, Search};
use crate::testing::{bits, drawn, sampled, spec, trajectory};
use lora_rates_common::convert::{Draw, SamplePicture, SearchState, StepRecord};
use std::sync::Arc;

/// The pictures of [`sampled`], of the rates before the first of these steps and after each.
fn expected(records: &[StepRecord]) -> Vec<SamplePicture> {
    let initial = (0, sampled().initial_rates());
    let states = std::iter::once(initial).chain(records.iter().map(|record| (record.step, record.rates.clone())));
    let of_step = |(step, rates): (u64, Vec<f64>)| {
        let rates: Vec<f32> = rates.iter().map(|rate| *rate as f32).collect();
        [(0, 9), (1, sampled().options.seed)].map(|(item, seed)| {
            let result = drawn(&Draw { search_id: "s".into(), step, item, rates: rates.clone() }).result;
            SamplePicture { step, item, seed, result }
        })
    };
    states.filter(|(step, _)| [0, 5, 10, 14].contains(step)).flat_map(of_step).collect()
}

fn cluster(workers: u64, seed: u64) -> Cluster {
    Cluster::new(Search::new(encoded(sampled())).unwrap(), workers, seed)
}

#[test]
fn pictures_are_sampled_at_their_steps_and_change_none() {
    let trajectory = trajectory(&spec());
    for (workers, seed) in [(1, 1), (2, 2), (5, 3)] {
        let mut cluster = cluster(workers, seed);
        cluster.repeats = 100;
        cluster.run();
        assert_eq!(cluster.search.state(), SearchState::Finished);
        assert_eq!(cluster.pictures, expected(&trajectory));
        assert_eq!(bits(&cluster.records), bits(&trajectory));
    }
}

#[test]
fn a_lost_worker_s_picture_is_leased_again() {
    let mut search = Search::new(encoded(sampled())).unwrap();
    let _ = search.handle(Event::Joined(A));
    let told = search.handle(Event::Ready(A));
    assert!(matches!(&told[1..], [Command::Draw(A, first), Command::Draw(A, second)]
        if (first.item, second.item) == (0, 1) && first.rates.len() == 40));
    let _ = search.handle(Event::Joined(B));
    // Nothing is sampled twice as long as somebody is at it.
    assert_eq!(search.handle(Event::Ready(B)), []);
    let told = search.handle(Event::Gone(A));
    assert!(matches!(&told[..], [Command::Draw(B, first), Command::Draw(B, second)]
        if (first.item, second.item) == (0, 1)));
}

#[test]
fn a_picture_with_which_workers_are_lost_is_given_up_and_the_search_goes_on() {
    let mut cluster = cluster(2, 4);
    cluster.deadly = Some(1);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    let why = "3 workers were lost while they sampled it; try a smaller picture";
    assert_eq!(cluster.pictures.len(), 8);
    assert!(cluster.pictures.iter().all(|it| it.item == 0 || it.result.as_ref().err().unwrap() == why));
    assert_eq!(bits(&cluster.records), bits(&trajectory(&spec())));
}

#[test]
fn a_search_left_before_its_last_pictures_makes_them_and_then_is_finished() {
    let records = trajectory(&spec());
    let rates = records[13].rates.clone();
    let optimizer = super::State { step: 14, rates, ..Search::beginning(&spec()) };
    let left = |sampled_at| Beginning {
        optimizer: optimizer.clone(),
        sampled: sampled_at,
        state: SearchState::Running,
        ..encoded(sampled())
    };
    assert_eq!(Search::new(left(Some(14))).unwrap().state(), SearchState::Finished);
    let mut cluster = Cluster::new(Search::new(left(Some(10))).unwrap(), 1, 1);
    cluster.run();
    assert_eq!(cluster.search.state(), SearchState::Finished);
    assert_eq!(cluster.pictures, expected(&records)[6..]);
}

#[test]
fn pictures_of_a_paused_search_are_sampled_when_it_goes_on() {
    let mut search = Search::new(encoded(sampled())).unwrap();
    let _ = search.handle(Event::Joined(A));
    let _ = search.handle(Event::Ready(A));
    let _ = search.order(Order::Pause).unwrap();
    let _ = search.order(Order::Resume).unwrap();
    let _ = search.handle(Event::Joined(B));
    let told = search.handle(Event::Ready(B));
    assert!(matches!(&told[1..], [Command::Draw(B, _), Command::Draw(B, _)]), "{told:?}");
    let answers: Vec<_> =
        told.iter().filter_map(|it| if let Command::Draw(_, it) = it { Some(it) } else { None }).collect();
    assert_eq!(search.handle(Event::Drawn(B, drawn(answers[0]))), []);
    let told = search.handle(Event::Drawn(B, drawn(answers[1])));
    let [Command::Sampled(pictures)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(pictures[..], expected(&[]));
    let told = search.handle(Event::Committed);
    let published = pictures.iter().map(|it| Command::PublishPicture(Arc::new(it.clone())));
    assert_eq!(told[..2], published.collect::<Vec<_>>());
    assert!(matches!(told[2], Command::Rates(B, _)), "the first step follows: {told:?}");
}
