use super::{Metrics, Outcome, Part, Refusal};
use crate::testing::commit;
use lora_rates_common::convert::{SearchState, Validation, WorkerState};
use std::time::Duration;

/// The value of the line that begins so.
#[track_caller]
fn value(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.encode();
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(key, _)| key == name));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn everything_is_there_from_the_start() {
    let metrics = Metrics::new();
    for outcome in ["leased", "accepted", "repeated", "refused"] {
        assert_eq!(value(&metrics, &format!("lora_rates_microbatches_total{{outcome=\"{outcome}\"}}")), 0.0);
    }
    for part in ["compute", "update", "commit", "total"] {
        assert_eq!(value(&metrics, &format!("lora_rates_step_seconds_count{{part=\"{part}\"}}")), 0.0);
    }
    assert_eq!(value(&metrics, "lora_rates_workers{state=\"quarantined\"}"), 0.0);
    assert_eq!(value(&metrics, "lora_rates_searches{state=\"cancelled\"}"), 0.0);
    assert_eq!(value(&metrics, "lora_rates_refusals_total{reason=\"unauthenticated\"}"), 0.0);
    assert!(metrics.encode().ends_with("# EOF\n"));
}

#[test]
fn clones_count_together() {
    let metrics = Metrics::new();
    metrics.clone().result(Outcome::Accepted);
    metrics.result(Outcome::Accepted);
    metrics.clone().refused(Refusal::Full);
    metrics.clone().step_part(Part::Commit, Duration::from_millis(3));
    assert_eq!(value(&metrics, "lora_rates_microbatches_total{outcome=\"accepted\"}"), 2.0);
    assert_eq!(value(&metrics, "lora_rates_microbatches_total{outcome=\"leased\"}"), 0.0);
    assert_eq!(value(&metrics, "lora_rates_refusals_total{reason=\"full\"}"), 1.0);
    assert_eq!(value(&metrics, "lora_rates_step_seconds_bucket{le=\"0.0025\",part=\"commit\"}"), 0.0);
    assert_eq!(value(&metrics, "lora_rates_step_seconds_bucket{le=\"0.005\",part=\"commit\"}"), 1.0);
    assert!((value(&metrics, "lora_rates_step_seconds_sum{part=\"commit\"}") - 0.003).abs() < 1e-12);
}

#[test]
fn a_state_that_nobody_is_in_any_more_falls_to_zero() {
    let metrics = Metrics::new();
    metrics.workers(&[(WorkerState::Idle, 2), (WorkerState::Working, 5)]);
    metrics.workers(&[(WorkerState::Working, 6)]);
    metrics.searches(&[(SearchState::Running, 1)]);
    assert_eq!(value(&metrics, "lora_rates_workers{state=\"idle\"}"), 0.0);
    assert_eq!(value(&metrics, "lora_rates_workers{state=\"working\"}"), 6.0);
    assert_eq!(value(&metrics, "lora_rates_searches{state=\"running\"}"), 1.0);
}

#[test]
fn a_search_is_told_until_it_is_forgotten() {
    let metrics = Metrics::new();
    let record = commit(4).record;
    metrics.step("s1", &record);
    metrics.step("s2", &commit(1).record);
    let validation =
        Validation { step: 4, loss: 0.25, standard_error: 0.5, samples: 8, rates: Vec::new(), baselines: Vec::new() };
    metrics.validation("s1", &validation);
    assert_eq!(value(&metrics, "lora_rates_search_step{search=\"s1\"}"), 4.0);
    assert_eq!(value(&metrics, "lora_rates_search_loss{search=\"s1\"}"), record.loss);
    assert_eq!(value(&metrics, "lora_rates_search_penalty{search=\"s1\"}"), record.penalty);
    assert_eq!(value(&metrics, "lora_rates_search_gradient_norm{search=\"s1\"}"), record.gradient_norm);
    assert_eq!(value(&metrics, "lora_rates_search_validation_loss{search=\"s1\"}"), 0.25);
    metrics.forget("s1");
    assert!(!metrics.encode().contains("\"s1\""), "{}", metrics.encode());
    assert_eq!(value(&metrics, "lora_rates_search_step{search=\"s2\"}"), 1.0);
}
