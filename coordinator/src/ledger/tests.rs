use super::*;

const A: WorkerId = WorkerId::new(1);
const B: WorkerId = WorkerId::new(2);
const READY: &[WorkerId] = &[A, B];

/// All that a worker can be leased.
fn fill(ledger: &mut Ledger<u32>, worker: WorkerId) -> Vec<usize> {
    std::iter::from_fn(|| ledger.lease(worker, READY)).collect()
}

#[test]
fn a_worker_holds_one_that_it_computes_and_one_that_waits() {
    let mut ledger = Ledger::<u32>::new(5);
    assert_eq!(fill(&mut ledger, A), [0, 1]);
    assert_eq!(fill(&mut ledger, B), [2, 3]);
    ledger.returned(A, 0).unwrap();
    ledger.accept(0, 10);
    assert_eq!(fill(&mut ledger, A), [4]);
}

#[test]
fn a_lost_worker_costs_no_microbatch() {
    let mut ledger = Ledger::<u32>::new(3);
    assert_eq!(fill(&mut ledger, A), [0, 1]);
    ledger.remove(A);
    assert_eq!(ledger.held(A), 0);
    assert_eq!(fill(&mut ledger, B), [0, 1]);
    assert_eq!(ledger.returned(A, 0), Err(Error::NotLeased));
}

#[test]
fn every_microbatch_counts_once() {
    let mut ledger = Ledger::new(2);
    assert_eq!(fill(&mut ledger, A), [0, 1]);
    assert_eq!(ledger.lease_again(B, READY, false), Some(1), "what waits is leased again");
    assert_eq!(ledger.lease_again(B, READY, false), None, "to idle workers alone");
    ledger.returned(B, 1).unwrap();
    ledger.accept(1, 7);
    assert_eq!(ledger.returned(B, 1), Err(Error::NotLeased));
    assert_eq!(ledger.lease_again(B, READY, false), None, "what is computed is not, unless it is overdue");
    assert_eq!(ledger.lease_again(B, READY, true), Some(0));
    ledger.returned(A, 0).unwrap();
    ledger.accept(0, 6);
    assert_eq!(ledger.results(), Some(vec![&6, &7]));
    assert_eq!(ledger.returned(B, 0), Err(Error::Duplicate));
    assert_eq!(ledger.returned(A, 1), Err(Error::Duplicate));
    assert_eq!(ledger.returned(A, 9), Err(Error::NotLeased));
    assert_eq!(ledger.results(), Some(vec![&6, &7]));
}

#[test]
fn what_a_worker_spoiled_goes_to_another() {
    let mut ledger = Ledger::<u32>::new(2);
    assert_eq!(ledger.lease(A, READY), Some(0));
    ledger.returned(A, 0).unwrap();
    assert_eq!(ledger.spoiled(A, 0), 1);
    assert_eq!(fill(&mut ledger, A), [1]);
    assert_eq!(fill(&mut ledger, B), [0]);
    ledger.returned(B, 0).unwrap();
    assert_eq!(ledger.spoiled(B, 0), 2);
    assert_eq!(fill(&mut ledger, A), [0], "when all have spoiled it, anyone may try again");
}

#[test]
fn a_result_that_is_there_survives_all_its_holders() {
    let mut ledger = Ledger::new(1);
    assert_eq!(fill(&mut ledger, A), [0]);
    assert_eq!(ledger.lease_again(B, READY, true), Some(0));
    ledger.returned(A, 0).unwrap();
    ledger.accept(0, 1);
    ledger.remove(B);
    assert_eq!(fill(&mut ledger, A), [0; 0]);
    assert_eq!(ledger.results(), Some(vec![&1]));
}
