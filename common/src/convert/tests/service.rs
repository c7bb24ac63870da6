use super::super::*;
use super::messages::refused;
use super::{key, search};
use crate::plan::{Microbatch, PlanSample};
use crate::sdxl::config::SdxlConfig;
use lora_rates_proto::v1;

fn batch() -> Microbatch {
    let sample =
        PlanSample { image: 1, repeat: 2, flip: false, timestep: 999, noise_key: key(1 << 62, 7), negated: false };
    Microbatch { bucket: (96, 64), samples: vec![sample] }
}

fn evaluation() -> Evaluate {
    Evaluate { search_id: "s".into(), step: MAX_STEPS, item: 4, rates: vec![0.25; 40], batch: batch() }
}

fn model() -> ModelDescription {
    ModelDescription { digest: "ab".repeat(32), config: SdxlConfig::tiny() }
}

fn worker() -> WorkerStatus {
    WorkerStatus {
        worker_id: 7,
        name: "w".into(),
        device: "cuda:0".into(),
        state: WorkerState::Working,
        search_id: Some("s".into()),
        memory: Some(Memory { total: 80, free: 12 }),
        joined_ms: 1,
        silent_ms: 2,
        idle_ms: Some(3),
        accepted: 4,
        refused: 5,
    }
}

#[test]
fn encodings_and_evaluations_come_back_as_they_went() {
    assert_eq!(evaluate((&evaluation()).into(), &search()).unwrap(), evaluation());
    let evaluated = Evaluated { search_id: "s".into(), step: 3, item: 1, losses: vec![0.5, 0.25] };
    assert_eq!(Evaluated::try_from(v1::Evaluated::from(evaluated.clone())).unwrap(), evaluated);
    let wanted = Encode { search_id: "s".into(), image: 2, flip: true };
    assert_eq!(encode(wanted.clone().into(), &search()).unwrap(), wanted);
    let done = Encoded { search_id: "s".into(), image: 2, flip: true };
    assert_eq!(Encoded::try_from(v1::Encoded::from(done.clone())).unwrap(), done);
    for heartbeat in [Heartbeat::default(), Heartbeat { idle_ms: Some(0), memory: worker().memory }] {
        assert_eq!(Heartbeat::from(v1::Heartbeat::from(&heartbeat)), heartbeat);
    }
}

#[test]
fn encodings_and_evaluations_out_of_range_are_refused() {
    type Change = fn(&mut v1::Evaluate);
    let wrong: &[(&str, Change)] = &[
        ("evaluate.search_id", |it| it.search_id.clear()),
        ("evaluate.step", |it| it.step = MAX_STEPS + 1),
        ("evaluate.rates", |it| it.rates.truncate(19)),
        ("evaluate.rates[3]", |it| it.rates[3] = f32::NAN),
        ("evaluate.samples", |it| it.samples.clear()),
        ("evaluate.samples", |it| it.samples = vec![it.samples[0]; MAX_BATCH as usize + 1]),
        ("evaluate.samples[0].image", |it| it.samples[0].image = 3),
        ("evaluate.samples[0].timestep", |it| it.samples[0].timestep = 1000),
    ];
    for (field, change) in wrong {
        let mut message = v1::Evaluate::from(&evaluation());
        change(&mut message);
        refused(field, evaluate(message, &search()));
    }
    let evaluated = || v1::Evaluated { search_id: "s".into(), step: 0, item: 0, losses: vec![0.5] };
    refused("evaluated.search_id", Evaluated::try_from(v1::Evaluated { search_id: "".into(), ..evaluated() }));
    refused("evaluated.step", Evaluated::try_from(v1::Evaluated { step: u64::MAX, ..evaluated() }));
    refused("evaluated.losses", Evaluated::try_from(v1::Evaluated { losses: vec![], ..evaluated() }));
    let many = vec![0.0; MAX_BATCH as usize + 1];
    refused("evaluated.losses", Evaluated::try_from(v1::Evaluated { losses: many, ..evaluated() }));
    let message = || v1::Encode { search_id: "s".into(), image: 0, flip: false };
    refused("encode.image", encode(v1::Encode { image: 3, ..message() }, &search()));
    refused("encode.search_id", encode(v1::Encode { search_id: "n".repeat(2000), ..message() }, &search()));
    refused("encoded.search_id", Encoded::try_from(v1::Encoded::default()));
}

#[test]
fn models_and_workers_come_back_as_they_went() {
    let question = Describe { number: 3, path: "sdxl/base.safetensors".into(), vae: Some("vae".into()) };
    assert_eq!(Describe::try_from(v1::Describe::from(&question)).unwrap(), question);
    for result in [Ok(model()), Err("there is no such model".to_owned())] {
        let answer = Described { number: 3, result };
        assert_eq!(Described::try_from(v1::Described::from(&answer)).unwrap(), answer);
    }
    for state in WorkerState::ALL {
        let worker = WorkerStatus { state, ..worker() };
        assert_eq!(WorkerStatus::try_from(v1::Worker::from(&worker)).unwrap(), worker);
    }
    let idle = WorkerStatus { search_id: None, memory: None, idle_ms: None, ..worker() };
    assert_eq!(WorkerStatus::try_from(v1::Worker::from(&idle)).unwrap(), idle);
}

#[test]
fn models_and_workers_out_of_range_are_refused() {
    let described = |digest: &str, config: &str| {
        ModelDescription::try_from(v1::ModelDescription { digest: digest.into(), config_json: config.into() })
    };
    let sizes = v1::ModelDescription::from(&model()).config_json;
    refused("description.digest", described("ab", &sizes));
    for config in [
        String::new(),
        "{}".into(),
        "x".repeat(MAX_CONFIG + 1),
        sizes.replace("\"model_channels\":32", "\"model_channels\":33"),
    ] {
        assert_ne!(config, sizes);
        refused("description.config_json", described(&model().digest, &config));
    }
    refused("description", ModelDescription::try_from(None));
    refused("described.result", Described::try_from(v1::Described { number: 1, result: None }));
    refused("worker.state", WorkerStatus::try_from(v1::Worker { state: 9, ..(&worker()).into() }));
    let long = "s".repeat(2000);
    refused("worker.search_id", WorkerStatus::try_from(v1::Worker { search_id: long, ..(&worker()).into() }));
}

#[test]
fn paths_that_leave_their_folder_are_refused() {
    for path in ["a.safetensors", "a/b/c", "a..b/c.d", "…"] {
        assert_eq!(model_path("path", path.into()).unwrap(), std::path::Path::new(path));
    }
    let long = "a".repeat(MAX_PATH + 1);
    for path in ["", "/etc/passwd", "..", "../a", "a/../../b", "a/..", "./../a", "a\\..\\b", "a\0b", &long] {
        refused("path", model_path("path", path.into()));
    }
    // An error shows no more than a part of what it refuses.
    let error = model_path("path", format!("/{}", "a".repeat(4000))).unwrap_err().to_string();
    assert!(error.len() < 300, "{error}");
    refused("path", Describe::try_from(v1::DescribeModelRequest { path: "/x".into(), vae: None }));
    refused("vae", Describe::try_from(v1::DescribeModelRequest { path: "x".into(), vae: Some("../v".into()) }));
    refused("describe.path", Describe::try_from(v1::Describe { number: 1, path: "../x".into(), vae: None }));
}

#[test]
fn blobs_are_named_by_kind_and_digest() {
    for key in [BlobKey::File("0a".repeat(32)), BlobKey::Encoding("ff".repeat(32))] {
        assert_eq!(blob_key(Some((&key).into())).unwrap(), key);
    }
    refused("blob", blob_key(None));
    refused("blob.kind", blob_key(Some(v1::BlobKey { kind: 0, key: "0a".repeat(32) })));
    refused("blob.kind", blob_key(Some(v1::BlobKey { kind: 3, key: "0a".repeat(32) })));
    for key in ["", "../../etc/passwd", &"0g".repeat(32), &"0a".repeat(33)] {
        refused("blob.key", blob_key(Some(v1::BlobKey { kind: 1, key: key.into() })));
    }
}

#[test]
fn rates_and_lists_are_asked_for_within_limits() {
    use v1::get_rates_request::Which;
    assert_eq!(RatesOf::try_from(None).unwrap(), RatesOf::Last);
    assert_eq!(RatesOf::try_from(Some(Which::Best(true))).unwrap(), RatesOf::Best);
    assert_eq!(RatesOf::try_from(Some(Which::Step(4))).unwrap(), RatesOf::Step(4));
    refused("step", RatesOf::try_from(Some(Which::Step(MAX_STEPS + 1))));
    assert_eq!(search_states(vec![1, 6]).unwrap(), [SearchState::Preparing, SearchState::Cancelled]);
    refused("states[1]", search_states(vec![1, 7]));
    refused("states", search_states(vec![1; 7]));
    let rates = || v1::NetworkRates { name: "a".into(), sha256: "0a".repeat(32), rates: vec![0.5; 20] };
    assert_eq!(network_rates(rates()).unwrap(), ("a".into(), "0a".repeat(32), vec![0.5; 20]));
    refused("networks.rates", network_rates(v1::NetworkRates { rates: vec![0.5; 40], ..rates() }));
    refused(
        "networks.rates[2]",
        network_rates(v1::NetworkRates {
            rates: {
                let mut it = vec![0.5; 20];
                it[2] = f64::NAN;
                it
            },
            ..rates()
        }),
    );
    refused("networks.name", network_rates(v1::NetworkRates { name: String::new(), ..rates() }));
    refused("networks.sha256", network_rates(v1::NetworkRates { sha256: "x".into(), ..rates() }));
}
