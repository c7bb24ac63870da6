use super::{Door, Gate, Need};
use crate::edge::tokens::Tokens;
use crate::metrics::Metrics;
use crate::role::Role;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

const CLIENT: &str = "client-token-0123456789";
const WORKER: &str = "worker-token-0123456789";

fn gate(metrics: &Metrics) -> Gate {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("client anna {CLIENT}\nworker gpu {WORKER}\n")).unwrap();
    let tokens = Some(Tokens::read(file.path()).unwrap());
    Gate::new(Door { certificates: false, tokens }, metrics.clone())
}

fn call(gate: &Gate, need: Need, header: Option<&str>) -> Result<Role, Status> {
    let mut request = Request::new(());
    if let Some(header) = header {
        request.metadata_mut().insert("authorization", header.parse().unwrap());
    }
    gate.needs(need).call(request).map(|request| *request.extensions().get::<Role>().unwrap())
}

#[test]
fn a_token_opens_the_services_of_its_role() {
    let gate = gate(&Metrics::new());
    let (client, worker) = (format!("Bearer {CLIENT}"), format!("bearer {WORKER}"));
    assert_eq!(call(&gate, Need::Client, Some(&client)).unwrap(), Role::Client);
    assert_eq!(call(&gate, Need::Worker, Some(&worker)).unwrap(), Role::Worker);
    assert_eq!(call(&gate, Need::Known, Some(&client)).unwrap(), Role::Client);
    assert_eq!(call(&gate, Need::Known, Some(&worker)).unwrap(), Role::Worker);
    assert_eq!(call(&gate, Need::Client, Some(&worker)).unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(call(&gate, Need::Worker, Some(&client)).unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn every_wrong_token_is_refused_in_the_same_words() {
    let metrics = Metrics::new();
    let gate = gate(&metrics);
    let wrong = [
        None,
        Some(String::new()),
        Some("Bearer ".into()),
        Some(format!("Basic {CLIENT}")),
        Some(CLIENT.to_owned()),
        Some(format!("Bearer {CLIENT}x")),
        Some("Bearer nobody-has-this-token".into()),
    ];
    for header in &wrong {
        let status = call(&gate, Need::Known, header.as_deref()).unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "valid credentials are needed"));
        assert!(status.details().is_empty());
    }
    assert!(metrics.encode().contains("lora_rates_refusals_total{reason=\"unauthenticated\"} 7"));
}

#[test]
fn without_tokens_or_certificates_everyone_may() {
    let gate = Gate::new(Door::default(), Metrics::new());
    for need in [Need::Client, Need::Worker, Need::Known] {
        assert_eq!(call(&gate, need, None).unwrap(), Role::Anyone);
    }
}

#[test]
fn a_certificate_that_is_asked_for_is_never_done_without() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("client anna {CLIENT}\n")).unwrap();
    for tokens in [None, Some(Tokens::read(file.path()).unwrap())] {
        let gate = Gate::new(Door { certificates: true, tokens }, Metrics::new());
        let status = call(&gate, Need::Known, Some(&format!("Bearer {CLIENT}"))).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}
