use super::*;

const A: WorkerId = WorkerId::new(1);
const B: WorkerId = WorkerId::new(2);

fn ledger(count: usize) -> Ledger<u32> {
    Ledger::new(count, [A, B])
}

/// A worker's result comes, and counts.
fn take(ledger: &mut Ledger<u32>, worker: WorkerId, at: usize, result: u32) {
    ledger.leases.returned(worker, at).unwrap();
    ledger.accept(at, result);
}

#[test]
fn a_worker_holds_one_that_it_computes_and_one_that_waits() {
    let mut ledger = ledger(5);
    assert_eq!(ledger.leases.fill(A), [0, 1]);
    assert_eq!(ledger.leases.fill(B), [2, 3]);
    take(&mut ledger, A, 0, 10);
    assert_eq!(ledger.leases.fill(A), [4]);
}

#[test]
fn everyone_gets_a_first_before_anyone_gets_a_second() {
    let mut ledger = ledger(3);
    assert_eq!(ledger.leases.fill_all(false), [(A, 0), (B, 1), (A, 2)]);
    assert_eq!(ledger.leases.fill_all(true), []);
}

#[test]
fn a_lost_worker_costs_no_microbatch() {
    let mut ledger = ledger(3);
    assert_eq!(ledger.leases.fill(A), [0, 1]);
    ledger.leases.remove(A);
    assert_eq!(ledger.leases.held(A), 0);
    assert_eq!(ledger.leases.fill(A), [0; 0], "it takes part no more");
    assert_eq!(ledger.leases.fill(B), [0, 1]);
    assert_eq!(ledger.leases.returned(A, 0), Err(Error::NotLeased));
}

#[test]
fn every_microbatch_counts_once() {
    let mut ledger = ledger(2);
    assert_eq!(ledger.leases.fill(A), [0, 1]);
    assert_eq!(ledger.leases.fill(B), [1], "what waits is leased again");
    assert_eq!(ledger.leases.fill(B), [0; 0], "to idle workers alone");
    take(&mut ledger, B, 1, 7);
    assert_eq!(ledger.leases.returned(B, 1), Err(Error::NotLeased));
    assert_eq!(ledger.leases.fill_all(false), [], "what is computed is not, unless it is overdue");
    assert_eq!(ledger.leases.fill_all(true), [(B, 0)]);
    take(&mut ledger, A, 0, 6);
    assert_eq!(ledger.results(), Some(vec![&6, &7]));
    assert_eq!(ledger.leases.returned(B, 0), Err(Error::Duplicate));
    assert_eq!(ledger.leases.returned(A, 1), Err(Error::Duplicate));
    assert_eq!(ledger.leases.returned(A, 9), Err(Error::NotLeased));
    assert_eq!(ledger.results(), Some(vec![&6, &7]));
}

#[test]
fn what_is_overdue_goes_to_an_idle_worker_however_many_are_stuck_at_it() {
    let c = WorkerId::new(3);
    let mut ledger = ledger(1);
    assert_eq!(ledger.leases.fill(A), [0]);
    assert_eq!(ledger.leases.fill_all(true), [(B, 0)]);
    ledger.leases.add(c);
    assert_eq!(ledger.leases.fill_all(false), []);
    assert_eq!(ledger.leases.fill_all(true), [(c, 0)]);
}

#[test]
fn what_a_worker_spoiled_goes_to_another() {
    let mut ledger = ledger(3);
    assert_eq!(ledger.leases.fill(A), [0, 1]);
    ledger.leases.returned(A, 0).unwrap();
    assert_eq!(ledger.leases.spoiled(A, 0), 1);
    assert_eq!(ledger.leases.fill(A), [2]);
    assert_eq!(ledger.leases.fill(B), [0]);
    ledger.leases.returned(B, 0).unwrap();
    assert_eq!(ledger.leases.spoiled(B, 0), 2);
    take(&mut ledger, A, 1, 0);
    assert_eq!(ledger.leases.fill(A), [0], "when all have spoiled it, anyone may try again");
}

#[test]
fn what_only_the_worker_that_stays_has_spoiled_is_its_to_try_again() {
    let mut ledger = ledger(1);
    assert_eq!(ledger.leases.fill(A), [0]);
    ledger.leases.returned(A, 0).unwrap();
    ledger.leases.spoiled(A, 0);
    assert_eq!(ledger.leases.fill(A), [0; 0]);
    ledger.leases.remove(B);
    assert_eq!(ledger.leases.fill_all(false), [(A, 0)]);
}

#[test]
fn a_result_that_is_there_survives_all_its_holders() {
    let mut ledger = ledger(1);
    assert_eq!(ledger.leases.fill(A), [0]);
    assert_eq!(ledger.leases.fill_all(true), [(B, 0)]);
    take(&mut ledger, A, 0, 1);
    ledger.leases.remove(B);
    assert_eq!(ledger.leases.fill(A), [0; 0]);
    assert_eq!(ledger.results(), Some(vec![&1]));
}
