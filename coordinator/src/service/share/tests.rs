use super::*;
use proptest::prelude::*;

type Worker = Hand<u32, u32>;

fn free(worker: u32) -> Worker {
    Hand { worker, at: None, ready: false, barred: Vec::new() }
}

fn busy(worker: u32, search: u32) -> Worker {
    Hand { at: Some(search), ready: true, ..free(worker) }
}

fn barred(hand: Worker, searches: &[u32]) -> Worker {
    Hand { barred: searches.to_vec(), ..hand }
}

/// Who works for what after the moves.
fn after(hands: &[Worker], moves: &[(u32, u32)]) -> BTreeMap<u32, Option<u32>> {
    let mut all: BTreeMap<u32, Option<u32>> = hands.iter().map(|hand| (hand.worker, hand.at)).collect();
    all.extend(moves.iter().map(|(worker, search)| (*worker, Some(*search))));
    all
}

#[test]
fn a_lone_search_gets_all_workers_and_a_second_one_half_of_them() {
    assert_eq!(share(&[7], &[free(1), free(2)]), [(1, 7), (2, 7)]);
    let hands = [busy(1, 7), busy(2, 7), busy(3, 7), busy(4, 7)];
    // The ones that came last are moved.
    assert_eq!(share(&[7, 8], &hands), [(3, 8), (4, 8)]);
    assert_eq!(share(&[7, 8], &hands[..3]), [(3, 8)]);
    assert_eq!(share(&[7, 8, 9], &[busy(1, 7), busy(2, 8)]), [], "the third waits");
}

#[test]
fn one_that_is_not_ready_is_moved_first() {
    let hands = [Hand { ready: false, ..busy(1, 7) }, busy(2, 7)];
    assert_eq!(share(&[7, 8], &hands), [(1, 8)]);
}

#[test]
fn free_workers_go_to_searches_that_wait_then_to_the_poorest() {
    let hands = [busy(1, 7), busy(2, 7), free(3), free(4), free(5)];
    assert_eq!(share(&[7, 8, 9], &hands), [(3, 8), (4, 9), (5, 8)]);
}

#[test]
fn a_worker_that_may_not_have_a_search_helps_through_a_third() {
    // 1 and 2 work for 7 and may not have 9, but 8 can give its own for one of them.
    let hands = [barred(busy(1, 7), &[9]), barred(busy(2, 7), &[9]), busy(3, 8)];
    assert_eq!(share(&[7, 8, 9], &hands), [(2, 8), (3, 9)]);
    let nobody = [barred(free(1), &[7])];
    assert_eq!(share(&[7], &nobody), []);
}

#[test]
fn workers_of_other_searches_are_left_alone() {
    assert_eq!(share(&[8], &[busy(1, 7), free(2)]), [(2, 8)]);
}

#[test]
fn hundreds_of_searches_and_workers_are_shared_in_no_time() {
    let searches: Vec<u32> = (0..400).collect();
    let began = std::time::Instant::now();
    let hands: Vec<Worker> = (0..400).map(|worker| barred(busy(worker, 0), &[worker % 7 + 1])).collect();
    let moves = share(&searches, &hands);
    let all = after(&hands, &moves);
    assert!(searches.iter().all(|search| all.values().filter(|at| **at == Some(*search)).count() == 1));
    let settled: Vec<Worker> = hands.into_iter().map(|hand| Hand { at: all[&hand.worker], ..hand }).collect();
    assert_eq!(share(&searches, &settled), []);
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

fn hands() -> impl Strategy<Value = (Vec<u32>, Vec<Worker>)> {
    (1_u32..6).prop_flat_map(|searches| {
        let hand = (
            prop::option::of(0..searches),
            any::<bool>(),
            prop::collection::vec(prop::bool::weighted(0.2), searches as usize),
        );
        let hands = prop::collection::vec(hand, 0..12).prop_map(move |hands| {
            let hand = |(worker, (at, ready, bars)): (u32, (Option<u32>, bool, Vec<bool>))| {
                let barred = (0..).zip(bars).filter(|(_, bar)| *bar).map(|(search, _)| search);
                let barred: Vec<u32> = barred.filter(|search| Some(*search) != at).collect();
                Hand { worker, at, ready: ready && at.is_some(), barred }
            };
            (0..).zip(hands).map(hand).collect::<Vec<_>>()
        });
        (Just((0..searches).collect()), hands)
    })
}

proptest! {
    #[test]
    fn it_is_as_even_as_it_can_be_and_nobody_gets_what_it_may_not((searches, hands) in hands()) {
        let moves = share(&searches, &hands);
        let all = after(&hands, &moves);
        let count = |search: u32| all.values().filter(|at| **at == Some(search)).count();
        for hand in &hands {
            let at = all[&hand.worker];
            prop_assert!(at.is_none_or(|at| hand.may_have(&at)));
            prop_assert!(at.is_some() || searches.iter().all(|search| !hand.may_have(search)), "nobody idles");
            // No single move makes it more even.
            for search in searches.iter().filter(|search| hand.may_have(search)) {
                prop_assert!(at.is_none_or(|at| count(at) < count(*search) + 2), "{all:?} {hands:?}");
            }
        }
    }

    #[test]
    fn what_is_shared_already_stays((searches, mut hands) in hands()) {
        let all = after(&hands, &share(&searches, &hands));
        hands.iter_mut().for_each(|hand| hand.at = all[&hand.worker]);
        prop_assert_eq!(share(&searches, &hands), []);
    }

    #[test]
    fn without_bars_no_more_are_moved_than_must_be((searches, mut hands) in hands()) {
        hands.iter_mut().for_each(|hand| hand.barred.clear());
        let moves = share(&searches, &hands);
        let all = after(&hands, &moves);
        let count = |all: &BTreeMap<u32, Option<u32>>, search| all.values().filter(|at| **at == Some(search)).count();
        let before = after(&hands, &[]);
        let gained = |search: &u32| count(&all, *search).saturating_sub(count(&before, *search));
        prop_assert_eq!(moves.len(), searches.iter().map(gained).sum::<usize>());
        let counts: Vec<usize> = searches.iter().map(|search| count(&all, *search)).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
    }
}
