use super::super::{Baseline, CreateSearch, Memory, Validation, search_id};
use super::super::{Failed, Gradient, Hello, Lease, Prepare, PrepareProgress, Progress, Rates};
use super::super::{MAX_MESSAGE, SearchEvent, SearchState, SearchStatus, StepRecord, lease};
use super::{key, search};
use crate::conclusion::{Conclusion, Curvature, Trial};
use crate::plan::{Microbatch, PlanSample};
use lora_rates_proto::v1;
use std::sync::Arc;

fn status() -> SearchStatus {
    SearchStatus {
        search_id: "s".into(),
        state: SearchState::Failed,
        step: 3,
        max_train_steps: 4,
        rates: vec![0.1; 20],
        failure: Some("it broke".into()),
        name: "night".into(),
        workers: 2,
        created_ms: 1_700_000_000_000,
        networks: vec!["a".into()],
        best: Some(Arc::new(Validation {
            step: 2,
            loss: 0.5,
            standard_error: 0.1,
            samples: 32,
            rates: vec![0.2; 20],
            baselines: vec![Baseline { rate: 1.0, loss: 0.7, standard_error: 0.2 }],
        })),
        conclusion: Some(Arc::new(Conclusion {
            loss: 0.4,
            standard_error: 0.1,
            trials: vec![Trial {
                threshold: 0.1,
                removed: 3,
                loss: 0.45,
                standard_error: 0.15,
                rise: 0.05,
                rise_error: 0.06,
                saved: 0.01,
            }],
            pruned: Some(vec![0.0; 20]),
            curvatures: vec![Curvature { slot: 19, curvature: 1e-3, standard_error: 1e-4, determined: true }],
            curvature_bound: 1e-4,
        })),
    }
}

fn conclusion(search: &mut v1::Search) -> &mut v1::Conclusion {
    search.conclusion.as_mut().unwrap()
}

fn best(search: &mut v1::Search) -> &mut v1::Validation {
    search.best.as_mut().unwrap()
}

fn record() -> StepRecord {
    StepRecord {
        step: 2,
        loss: 0.1,
        penalty: 9.5,
        learning_rate: 0.2,
        gradient_norm: 1e-9,
        samples: 4,
        rates: vec![-0.3; 40],
    }
}

fn gradient() -> Gradient {
    let gradient = vec![f64::NAN; 20];
    Gradient { search_id: "s".into(), step: 5, microbatch: 1, mse: vec![0.5], loss: 0.25, gradient }
}

fn leased() -> Lease {
    let sample = |image, sample| PlanSample {
        image,
        repeat: 1,
        flip: true,
        timestep: 999,
        noise_key: key(7, sample),
        negated: true,
    };
    let batch = Microbatch { bucket: (96, 64), samples: vec![sample(0, 8), sample(1, 1 << 32)] };
    Lease { search_id: "s".into(), step: 7, microbatch: 2, batch }
}

#[test]
fn what_a_watcher_is_told_comes_back_as_it_went() {
    let progress = PrepareProgress { worker: "w".into(), activity: "loading".into(), done: 1, total: 2 };
    let mut events = vec![SearchEvent::Step(Arc::new(record())), SearchEvent::Progress(progress)];
    for state in SearchState::ALL {
        events.push(SearchEvent::Status(SearchStatus { state, ..status() }));
    }
    events.push(SearchEvent::Status(SearchStatus { failure: None, ..status() }));
    if let Some(best) = status().best {
        events.push(SearchEvent::Validation(best));
    }
    for event in events {
        assert_eq!(SearchEvent::try_from(v1::WatchSearchResponse::from(&event)).unwrap(), event);
    }
}

#[test]
fn what_workers_and_coordinator_say_comes_back_as_it_went() {
    let hello = Hello { name: "w".into(), device: "cpu".into(), memory: Some(Memory { total: 9, free: 3 }) };
    assert_eq!(Hello::try_from(v1::Hello::from(&hello)).unwrap(), hello);
    let progress = Progress { search_id: "s".into(), activity: "loading".into(), done: 1, total: 2 };
    assert_eq!(Progress::try_from(v1::Progress::from(&progress)).unwrap(), progress);
    let failed = Failed { search_id: "s".into(), message: "no such file".into() };
    assert_eq!(Failed::try_from(v1::Failed::from(failed.clone())).unwrap(), failed);
    let prepare = Prepare { search_id: "s".into(), spec: search().into() };
    assert_eq!(Prepare::try_from(v1::Prepare::from(&prepare)).unwrap(), prepare);
    let rates = Rates { search_id: "s".into(), step: 3, rates: vec![0.1; 40] };
    assert_eq!(Rates::try_from(v1::Rates::from(rates.clone())).unwrap(), rates);
    assert_eq!(lease(v1::Lease::from(&leased()), &search()).unwrap(), leased());

    let sent = Gradient { gradient: vec![0.5; 20], ..gradient() };
    assert_eq!(Gradient::try_from(v1::Gradient::from(sent.clone())).unwrap(), sent);
    // Counting what is no number is the search's business.
    assert!(Gradient::try_from(v1::Gradient::from(gradient())).unwrap().gradient[0].is_nan());
}

/// Asserts that this is refused for this field.
#[track_caller]
pub(super) fn refused<T>(field: &str, result: Result<T, super::super::Error>) {
    let Err(error) = result else { panic!("{field} was let through") };
    assert_eq!(error.field(), field, "{error}");
}

#[test]
fn a_watcher_is_told_nothing_out_of_range() {
    type Change = fn(&mut v1::Search);
    let wrong: &[(&str, Change)] = &[
        ("search.search_id", |it| it.search_id.clear()),
        ("search.state", |it| it.state = 0),
        ("search.state", |it| it.state = 7),
        ("search.step", |it| it.step = 5),
        ("search.max_train_steps", |it| it.max_train_steps = 0),
        ("search.rates", |it| it.rates.truncate(19)),
        ("search.rates", |it| it.rates.push(0.0)),
        ("search.rates[19]", |it| it.rates[19] = f64::NAN),
        ("search.networks", |it| it.networks = vec![String::new(); 257]),
        ("validation.loss", |it| best(it).loss = f64::NAN),
        ("validation.standard_error", |it| best(it).standard_error = f64::INFINITY),
        ("validation.step", |it| best(it).step = u64::MAX),
        ("validation.rates", |it| best(it).rates.clear()),
        ("conclusion.trials", |it| conclusion(it).trials = vec![Default::default(); 65]),
        ("conclusion.trials.saved", |it| conclusion(it).trials[0].saved = f64::INFINITY),
        ("conclusion.trials.rise", |it| conclusion(it).trials[0].rise = f64::NAN),
        ("conclusion.pruned", |it| conclusion(it).pruned = vec![0.0; 3]),
        ("conclusion.curvatures.slot", |it| conclusion(it).curvatures[0].slot = 5120),
        ("conclusion.curvatures.curvature", |it| conclusion(it).curvatures[0].curvature = f64::INFINITY),
        ("conclusion.curvature_bound", |it| conclusion(it).curvature_bound = f64::NAN),
        ("validation.baselines", |it| best(it).baselines = vec![Default::default(); 17]),
        ("validation.baselines.rate", |it| best(it).baselines[0].rate = f64::NAN),
        ("validation.baselines.loss", |it| best(it).baselines[0].loss = f64::NAN),
        ("validation.baselines.standard_error", |it| best(it).baselines[0].standard_error = f64::NAN),
    ];
    for (field, change) in wrong {
        let mut search = v1::Search::from(&status());
        change(&mut search);
        refused(field, SearchStatus::try_from(search));
    }
    refused("search", SearchStatus::try_from(None));
    refused("event", SearchEvent::try_from(v1::WatchSearchResponse { event: None }));

    type ChangeStep = fn(&mut v1::StepRecord);
    let wrong: &[(&str, ChangeStep)] = &[
        ("step.step", |it| it.step = 0),
        ("step.loss", |it| it.loss = f64::NAN),
        ("step.penalty", |it| it.penalty = f64::INFINITY),
        ("step.learning_rate", |it| it.learning_rate = f64::NAN),
        ("step.gradient_norm", |it| it.gradient_norm = f64::NAN),
        ("step.rates", |it| it.rates.clear()),
    ];
    for (field, change) in wrong {
        let mut step = v1::StepRecord::from(&record());
        change(&mut step);
        refused(field, StepRecord::try_from(step));
    }
}

#[test]
fn a_worker_is_told_nothing_out_of_range() {
    type Change = fn(&mut v1::Lease);
    let wrong: &[(&str, Change)] = &[
        ("lease.search_id", |it| it.search_id.clear()),
        ("lease.step", |it| it.step = u64::MAX),
        ("lease.samples", |it| it.samples.clear()),
        ("lease.samples", |it| it.samples = vec![it.samples[0]; 5000]),
        ("lease.samples[1].image", |it| it.samples[1].image = 3),
        ("lease.samples[1].image", |it| it.samples[1].image = 2), // of another bucket
        ("lease.samples[0].timestep", |it| it.samples[0].timestep = 1000),
    ];
    for (field, change) in wrong {
        let mut message = v1::Lease::from(&leased());
        change(&mut message);
        refused(field, lease(message, &search()));
    }
    let rates = |rates: Vec<f32>| Rates::try_from(v1::Rates { search_id: "s".into(), step: 0, rates });
    refused("rates.rates", rates(vec![]));
    refused("rates.rates", rates(vec![0.5; 21]));
    refused("rates.rates", rates(vec![0.5; 257 * 20]));
    refused("rates.rates[7]", rates((0..20).map(|slot| if slot == 7 { f32::NAN } else { 0.5 }).collect()));
    refused("spec", Prepare::try_from(v1::Prepare { search_id: "s".into(), spec: None }));
}

#[test]
fn the_coordinator_is_told_nothing_out_of_range() {
    let hello = v1::Hello { protocol: lora_rates_proto::PROTOCOL, name: "w".into(), device: "d".into(), memory: None };
    refused("hello.protocol", Hello::try_from(v1::Hello { protocol: 1, ..hello.clone() }));
    refused("hello.name", Hello::try_from(v1::Hello { name: String::new(), ..hello.clone() }));
    refused("hello.name", Hello::try_from(v1::Hello { name: "n".repeat(2000), ..hello }));
    let message = || v1::Gradient::from(gradient());
    refused("gradient.mse", Gradient::try_from(v1::Gradient { mse: vec![], ..message() }));
    refused("gradient.gradient", Gradient::try_from(v1::Gradient { gradient: vec![], ..message() }));
    refused("gradient.gradient", Gradient::try_from(v1::Gradient { gradient: vec![0.0; 19], ..message() }));
    refused("gradient.step", Gradient::try_from(v1::Gradient { step: u64::MAX, ..message() }));
    refused("gradient.search_id", Gradient::try_from(v1::Gradient { search_id: String::new(), ..message() }));
}

#[test]
fn a_request_is_told_what_it_lacks() {
    let create = CreateSearch { request_id: "r".into(), spec: search().into(), name: "n".into() };
    let message = v1::CreateSearchRequest::from(&create);
    assert_eq!(CreateSearch::try_from(message.clone()).unwrap(), create);
    refused("request_id", CreateSearch::try_from(v1::CreateSearchRequest { request_id: "".into(), ..message.clone() }));
    refused("name", CreateSearch::try_from(v1::CreateSearchRequest { name: "n".repeat(2000), ..message.clone() }));
    refused("spec", CreateSearch::try_from(v1::CreateSearchRequest { spec: None, ..message }));
    refused("search_id", search_id("s".repeat(2000)));
    assert_eq!(search_id("s".into()).unwrap(), "s");
}

#[test]
fn words_that_are_too_long_are_cut_between_letters() {
    let failed = v1::Failed { search_id: "s".into(), message: format!("a{}", "é".repeat(MAX_MESSAGE)) };
    let message = Failed::try_from(failed).unwrap().message;
    assert_eq!(message.len(), MAX_MESSAGE - 1);
    assert!(message.ends_with('é'));
}
