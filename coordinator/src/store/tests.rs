use super::*;
use crate::search::Commit;
use crate::testing::{commit, spec};
use lora_rates_common::convert::{Baseline, SamplePicture, StepRecord};

fn stored(id: &str) -> Stored {
    let spec = spec();
    Stored {
        number: u64::from(id.as_bytes()[0]),
        id: id.into(),
        name: format!("name of {id}"),
        created_ms: 1_700_000_000_000,
        networks: spec.networks.clone().into(),
        request_id: format!("request {id}"),
        fingerprint: spec.fingerprint(),
        max_train_steps: spec.options.max_train_steps,
        state: SearchState::Preparing,
        failure: None,
        optimizer: crate::search::Search::beginning(&spec),
        best: None,
        conclusion: None,
    }
}

fn validation(step: u64, loss: f64) -> Validation {
    let baseline = |rate| Baseline { rate, loss: rate / 3.0, standard_error: 1e-300 };
    Validation {
        step,
        loss,
        standard_error: 0.1,
        samples: 32,
        rates: commit(step).state.rates,
        baselines: if step == 0 { vec![baseline(0.0), baseline(0.5)] } else { Vec::new() },
    }
}

#[test]
fn what_was_stored_comes_back_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let commits: Vec<Commit> = (1..=5).map(commit).collect();
    let mut store = Store::open(folder.path()).unwrap();
    store.create(&stored("a"), &spec()).unwrap();
    store.create(&stored("b"), &spec()).unwrap();
    for each in &commits {
        store.commit("a", each).unwrap();
    }
    store.set_state("b", SearchState::Failed, Some("why")).unwrap();
    drop(store);

    let store = Store::open(folder.path()).unwrap();
    let searches = store.searches().unwrap();
    let a = Stored { optimizer: commits[4].state.clone(), ..stored("a") };
    let b = Stored { state: SearchState::Failed, failure: Some("why".into()), ..stored("b") };
    assert_eq!(searches, [a, b]);
    assert_eq!(store.spec("a").unwrap(), spec());
    let steps = store.steps("a", 2, 2).unwrap();
    assert_eq!(steps, [(*commits[2].record).clone(), (*commits[3].record).clone()]);
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&searches[0].optimizer.m), bits(&commits[4].state.m));
    assert_eq!(bits(&steps[0].rates), bits(&commits[2].record.rates));
    assert_eq!(store.steps("b", 0, 9).unwrap(), []);
}

#[test]
fn a_step_is_stored_once_and_whole() {
    let mut store = Store::in_memory().unwrap();
    store.create(&stored("a"), &spec()).unwrap();
    store.commit("a", &commit(1)).unwrap();
    let mut again = commit(1);
    again.state.rates[0] = 9.0;
    assert!(matches!(store.commit("a", &again), Err(Error::Sqlite { .. })));
    assert_eq!(store.searches().unwrap()[0].optimizer, commit(1).state);
}

#[test]
fn evaluations_come_back_with_the_steps_that_they_go_with() {
    let mut store = Store::in_memory().unwrap();
    store.create(&stored("a"), &spec()).unwrap();
    let validations = [validation(0, 3.0), validation(2, 1.0), validation(4, 2.0), validation(6, 1.0)];
    for each in &validations {
        store.add_validation("a", each).unwrap();
    }
    (1..=6).for_each(|step| store.commit("a", &commit(step)).unwrap());
    assert!(matches!(store.add_validation("a", &validations[1]), Err(Error::Sqlite { .. })), "once each");
    assert_eq!(store.validations("a", 0).unwrap(), validations);
    assert_eq!(store.searches().unwrap()[0].best.as_deref(), Some(&validations[1]), "the first of the lowest");

    let steps = |range: std::ops::RangeInclusive<u64>| range.map(|step| (*commit(step).record).clone()).collect();
    let first = store.records("a", After::default(), 3).unwrap();
    let expected: Vec<StepRecord> = steps(1..=3);
    assert_eq!((first.steps, first.complete), (expected, false));
    assert_eq!(first.validations, validations[..2]);
    let second = store.records("a", After { step: 3, validated: 3, drawn: 3 }, 3).unwrap();
    let expected: Vec<StepRecord> = steps(4..=6);
    assert_eq!((second.steps, second.complete), (expected, false));
    assert_eq!(second.validations, validations[2..]);
    assert_eq!(
        store.records("a", After { step: 6, validated: 7, drawn: 7 }, 3).unwrap(),
        Records { complete: true, ..Records::default() }
    );
}

#[test]
fn sample_pictures_are_told_with_the_steps_that_they_follow() {
    let mut store = Store::in_memory().unwrap();
    store.create(&stored("a"), &spec()).unwrap();
    let picture = |step, item| SamplePicture {
        step,
        item,
        seed: u64::MAX,
        result: if item == 0 { Ok("0a".repeat(32)) } else { Err("too large".to_owned()) },
    };
    let pictures: Vec<_> = [0, 3, 6].map(|step| [picture(step, 0), picture(step, 1)]).into();
    assert_eq!(store.last_pictures("a").unwrap(), None);
    pictures.iter().for_each(|of_step| store.add_pictures("a", of_step).unwrap());
    (1..=6).for_each(|step| store.commit("a", &commit(step)).unwrap());
    assert!(matches!(store.add_pictures("a", &pictures[1]), Err(Error::Sqlite { .. })), "once each");
    assert!(matches!(store.add_pictures("b", &pictures[1]), Err(Error::Unknown(_))));
    assert_eq!(store.last_pictures("a").unwrap(), Some(6));
    assert_eq!(store.pictures("a").unwrap(), vec!["0a".repeat(32); 3]);
    let first = store.records("a", After::default(), 3).unwrap();
    assert_eq!(first.pictures, pictures[..2].concat());
    let second = store.records("a", After { step: 3, validated: 4, drawn: 4 }, 3).unwrap();
    assert_eq!(second.pictures, pictures[2]);
    store.delete("a").unwrap();
    assert_eq!(store.pictures("a").unwrap(), Vec::<String>::new());
}

#[test]
fn a_deleted_search_is_gone_with_all_that_it_had() {
    let mut store = Store::in_memory().unwrap();
    for id in ["a", "b"] {
        store.create(&stored(id), &spec()).unwrap();
        store.commit(id, &commit(1)).unwrap();
        store.add_validation(id, &validation(0, 1.0)).unwrap();
    }
    store.delete("a").unwrap();
    assert!(matches!(store.delete("a"), Err(Error::Unknown(_))));
    assert_eq!(store.searches().unwrap().iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!((store.steps("a", 0, 9).unwrap(), store.validations("a", 0).unwrap()), (vec![], vec![]));
    assert_eq!((store.steps("b", 0, 9).unwrap().len(), store.validations("b", 0).unwrap().len()), (1, 1));
    store.create(&stored("a"), &spec()).unwrap();
}

/// A store as version 1 wrote it.
#[test]
fn a_store_of_version_1_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let old = Connection::open(folder.path().join(FILE)).unwrap();
    old.execute_batch(schema::STEPS[0]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let (search, state) = (stored("a"), commit(1).state);
    let insert = "INSERT INTO searches VALUES (1, 'a', 'request a', ?1, ?2, 14, 'paused', 'why', 1, ?3, ?4, ?5)";
    let json = serde_json::to_string(&spec()).unwrap();
    let blob = numbers::to_blob;
    let row = rusqlite::params![json, search.fingerprint, blob(&state.rates), blob(&state.m), blob(&state.v)];
    old.execute(insert, row).unwrap();
    drop(old);

    let store = Store::open(folder.path()).unwrap();
    let expected = Stored {
        number: 1,
        name: String::new(),
        created_ms: 0,
        state: SearchState::Paused,
        failure: Some("why".into()),
        optimizer: state,
        ..search
    };
    assert_eq!(store.searches().unwrap(), [expected]);
    assert_eq!(store.spec("a").unwrap(), spec());
    assert_eq!(store.validations("a", 0).unwrap(), []);
    drop(store);
    assert_eq!(Store::open(folder.path()).unwrap().searches().unwrap().len(), 1, "once is enough");
}

#[test]
fn an_unknown_search_is_named() {
    let mut store = Store::in_memory().unwrap();
    let unknown = |error: Error| assert_eq!(error.to_string(), "the store has no search x");
    unknown(store.spec("x").unwrap_err());
    unknown(store.set_state("x", SearchState::Paused, None).unwrap_err());
    unknown(store.commit("x", &commit(1)).unwrap_err());
    unknown(store.add_validation("x", &validation(1, 1.0)).unwrap_err());
    unknown(store.delete("x").unwrap_err());
}

#[test]
fn a_folder_in_use_is_refused_until_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }) && error.is_retryable(), "{error}");
    drop(first);
    Store::open(folder.path()).unwrap();
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "no database at all, but long enough to be looked at".repeat(99)).unwrap();
    let error = Store::open(folder.path()).err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }) && !error.is_retryable(), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    drop(other);
    assert!(matches!(Store::open(folder.path()), Err(Error::Corrupt { .. })));
}

#[test]
fn a_newer_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.connection.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(store);
    let error = Store::open(folder.path()).err().unwrap();
    assert!(matches!(error, Error::Newer { found: 5, known: 4, .. }) && !error.is_retryable(), "{error}");
}

#[test]
fn damaged_rows_are_errors() {
    for damage in [
        "UPDATE searches SET state = 'dancing'",
        "UPDATE searches SET step = -1",
        "UPDATE searches SET rates = x'0102'",
        "UPDATE searches SET networks = 'none'",
        "INSERT INTO validations VALUES (97, 1, 1.0, 1.0, 1, x'', x'0000000000000000')",
    ] {
        let mut store = Store::in_memory().unwrap();
        store.create(&stored("a"), &spec()).unwrap();
        store.connection.execute_batch(damage).unwrap();
        assert!(matches!(store.searches(), Err(Error::Corrupt { .. })), "{damage}");
    }
    for damage in ["UPDATE searches SET spec = '{}'", "UPDATE searches SET fingerprint = '0'"] {
        let mut store = Store::in_memory().unwrap();
        store.create(&stored("a"), &spec()).unwrap();
        store.connection.execute_batch(damage).unwrap();
        assert!(matches!(store.spec("a"), Err(Error::Corrupt { .. })), "{damage}");
    }
}

/// SQLite's own limit on pages stands for a disk without space.
#[test]
fn a_full_disk_loses_nothing_that_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    store.create(&stored("a"), &spec()).unwrap();
    store.connection.pragma_update(None, "max_page_count", 16).unwrap();
    let (mut step, error) = (0, loop_until_full(&mut store));
    assert!(matches!(error, Error::Full { .. }) && error.is_retryable(), "{error}");
    for record in store.steps("a", 0, u32::MAX).unwrap() {
        step += 1;
        assert_eq!(record.step, step);
    }
    assert_eq!(store.searches().unwrap()[0].optimizer.step, step);
    store.connection.pragma_update(None, "max_page_count", 10_000).unwrap();
    store.commit("a", &commit(step + 1)).unwrap();
}

fn loop_until_full(store: &mut Store) -> Error {
    (1..10_000).find_map(|step| store.commit("a", &commit(step)).err()).expect("the disk is full")
}

#[test]
fn what_may_succeed_later_is_said_of_every_error() {
    let path = PathBuf::from("p");
    let io = std::io::Error::other("x");
    let sqlite = rusqlite::Error::InvalidQuery;
    let lasting = [
        Error::Folder { path: path.clone(), source: io },
        Error::Newer { path: path.clone(), found: 2, known: 1 },
        Error::Corrupt { path: path.clone(), what: "x".into() },
        Error::Sqlite { path: path.clone(), source: sqlite },
        Error::Unknown("x".into()),
        Error::Closed,
    ];
    assert!(lasting.iter().all(|error| !error.is_retryable()));
    assert!([Error::Locked { path: path.clone() }, Error::Full { path }].iter().all(Error::is_retryable));
}

#[tokio::test]
async fn an_inline_store_does_the_same_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, thread) = Store::open(folder.path()).unwrap().inline();
    assert_eq!(handle.call(|store| store.searches()).await.unwrap(), []);
    let (says, heard) = std::sync::mpsc::channel();
    handle.submit(|store| store.create(&stored("a"), &spec()), move |done| says.send(done.is_ok()).unwrap());
    assert!(heard.try_recv().unwrap(), "without waiting");
    handle.close();
    thread.join();
    assert!(matches!(handle.call(|store| store.searches()).await, Err(Error::Closed)));
    assert_eq!(Store::open(folder.path()).unwrap().searches().unwrap().len(), 1);
}

#[tokio::test]
async fn the_thread_closes_the_store_when_told_or_with_its_last_handle() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, thread) = Store::open(folder.path()).unwrap().spawn().unwrap();
    let other = handle.clone();
    assert_eq!(other.call(|store| store.searches()).await.unwrap(), []);
    drop((handle, other));
    thread.join();

    let (handle, thread) = Store::open(folder.path()).unwrap().spawn().unwrap();
    handle.close();
    thread.join();
    let closed = handle.call(|store| store.searches()).await;
    assert!(matches!(closed, Err(Error::Closed)));
    Store::open(folder.path()).unwrap();
}

#[test]
fn what_was_measured_at_the_end_comes_back() {
    use lora_rates_common::conclusion::{Conclusion, Curvature};
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let (search, spec) = (stored("a"), spec());
    store.create(&search, &spec).unwrap();
    assert_eq!(store.searches().unwrap()[0].conclusion, None);
    let curvature = Curvature { slot: 7, curvature: 1.0 / 3.0, standard_error: 1e-300, determined: true };
    let conclusion =
        Conclusion { loss: 0.1, pruned: Some(vec![0.1; 40]), curvatures: vec![curvature], ..Default::default() };
    store.conclude("a", &conclusion).unwrap();
    assert_eq!(store.searches().unwrap()[0].conclusion.as_deref(), Some(&conclusion));
    assert!(matches!(store.conclude("b", &conclusion), Err(Error::Unknown(_))));
}
