//! The number of workers, their order and their losses never change the numbers.

use super::cluster::Cluster;
use super::search;
use crate::testing::{bits, spec, trajectory};
use lora_rates_common::convert::SearchState;

#[test]
fn one_two_four_or_seven_workers_make_the_same_trajectory() {
    let expected = trajectory(&spec());
    assert_eq!(expected.len(), 14);
    assert!(expected[13].loss < expected[0].loss);
    for workers in [1, 2, 4, 7] {
        for seed in 0..5 {
            let mut cluster = Cluster::new(search(), workers, seed);
            cluster.run();
            assert_eq!(cluster.search.state(), SearchState::Finished);
            assert_eq!(bits(&cluster.records), bits(&expected), "{workers} workers, seed {seed}");
        }
    }
}

#[test]
fn killed_workers_and_repeated_answers_change_nothing() {
    let expected = trajectory(&spec());
    let mut refused = 0;
    for workers in [1, 2, 4, 7] {
        for seed in 0..10 {
            let mut cluster = Cluster::new(search(), workers, 100 + seed);
            (cluster.losses, cluster.repeats) = (150, 200);
            cluster.run();
            assert_eq!(cluster.search.state(), SearchState::Finished);
            assert_eq!(bits(&cluster.records), bits(&expected), "{workers} workers, seed {seed}");
            assert_eq!(cluster.records.len(), 14, "no step twice");
            refused += cluster.search.refused();
        }
    }
    assert!(refused > 100, "the simulation repeats answers");
}
