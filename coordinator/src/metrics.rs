//! Numbers for Prometheus. docs/operations.md explains each of them.

use lora_rates_common::convert::{SearchState, StepRecord, Validation, WorkerState};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Upper bounds of the classes of durations, in seconds: from an idle engine's step to one of the largest model.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// What became of a microbatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Given to a worker.
    Leased,
    /// Its result counted.
    Accepted,
    /// Its result came late, or a second time.
    Repeated,
    /// Its result was unusable.
    Refused,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Leased, Self::Accepted, Self::Repeated, Self::Refused];

    fn name(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
        }
    }
}

/// A part of a step's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// From the rates to the last result.
    Compute,
    /// Reducing the results, and the optimizer.
    Update,
    /// Storing the step.
    Commit,
    /// All of it.
    Total,
}

impl Part {
    const ALL: [Self; 4] = [Self::Compute, Self::Update, Self::Commit, Self::Total];

    fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Update => "update",
            Self::Commit => "commit",
            Self::Total => "total",
        }
    }
}

/// Why a caller was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// More connections than allowed.
    Full,
    /// No TLS, or no certificate that is trusted, or not in time.
    Handshake,
    /// No token, or none that is known.
    Unauthenticated,
    /// A worker at the clients' service, or the other way round.
    Forbidden,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Full, Self::Handshake, Self::Unauthenticated, Self::Forbidden];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Handshake => "handshake",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
        }
    }
}

/// One label whose values are known.
type Kind = [(&'static str, &'static str); 1];
/// The label of a search.
type Search = [(&'static str, String); 1];
/// A number with a fraction.
type Number = Gauge<f64, AtomicU64>;

/// All numbers; cheap to clone, and clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    results: Family<Kind, Counter>,
    parts: Family<Kind, Histogram, Seconds>,
    workers: Family<Kind, Gauge>,
    searches: Family<Kind, Gauge>,
    step: Family<Search, Gauge>,
    loss: Family<Search, Number>,
    penalty: Family<Search, Number>,
    gradient_norm: Family<Search, Number>,
    learning_rate: Family<Search, Number>,
    validation_loss: Family<Search, Number>,
    validation_error: Family<Search, Number>,
    blob_bytes: Gauge,
    connections: Gauge,
    refusals: Family<Kind, Counter>,
}

/// Makes a histogram of durations.
#[derive(Clone)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            results: Family::default(),
            parts: Family::new_with_constructor(Seconds),
            workers: Family::default(),
            searches: Family::default(),
            step: Family::default(),
            loss: Family::default(),
            penalty: Family::default(),
            gradient_norm: Family::default(),
            learning_rate: Family::default(),
            validation_loss: Family::default(),
            validation_error: Family::default(),
            blob_bytes: Gauge::default(),
            connections: Gauge::default(),
            refusals: Family::default(),
        };
        metrics.registry = Arc::new(metrics.register());
        // A number that is there from the start can be told from one that is missing.
        Outcome::ALL.into_iter().for_each(|it| drop(metrics.results.get_or_create(&outcome(it))));
        Part::ALL.into_iter().for_each(|it| drop(metrics.parts.get_or_create(&part(it))));
        Refusal::ALL.into_iter().for_each(|it| drop(metrics.refusals.get_or_create(&refusal(it))));
        metrics.workers(&[]);
        metrics.searches(&[]);
        metrics
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("lora_rates");
        let mut add = |name: &str, help: &str, metric: &dyn Register| metric.register(&mut registry, name, help);
        add("microbatches", "Microbatches by what became of them", &self.results);
        add("step_seconds", "Time of a step by part, in seconds", &self.parts);
        add("workers", "Connected workers by state", &self.workers);
        add("searches", "Searches by state", &self.searches);
        add("search_step", "Steps done", &self.step);
        add("search_loss", "Mean loss of the last step, without the penalty", &self.loss);
        add("search_penalty", "Unweighted penalty of the rates before the last step", &self.penalty);
        add("search_gradient_norm", "Norm of the last step's gradient, penalty included", &self.gradient_norm);
        add("search_learning_rate", "Learning rate of the last step", &self.learning_rate);
        add("search_validation_loss", "Loss on the held-out pictures at the last evaluation", &self.validation_loss);
        add("search_validation_standard_error", "Standard error of that loss", &self.validation_error);
        add("blob_bytes", "Bytes of all blobs", &self.blob_bytes);
        add("connections", "Open connections", &self.connections);
        add("refusals", "Callers turned away, by reason", &self.refusals);
        registry
    }

    /// Something became of a microbatch.
    pub fn result(&self, it: Outcome) {
        self.results.get_or_create(&outcome(it)).inc();
    }

    /// A part of a step took so long.
    pub fn step_part(&self, it: Part, time: Duration) {
        self.parts.get_or_create(&part(it)).observe(time.as_secs_f64());
    }

    /// So many workers are in these states; none are in others.
    pub fn workers(&self, counts: &[(WorkerState, u64)]) {
        for state in WorkerState::ALL {
            let count = counts.iter().filter(|(it, _)| *it == state).map(|(_, count)| count).sum::<u64>();
            self.workers.get_or_create(&[("state", state.name())]).set(integer(count));
        }
    }

    /// So many searches are in these states; none are in others.
    pub fn searches(&self, counts: &[(SearchState, u64)]) {
        for state in SearchState::ALL {
            let count = counts.iter().filter(|(it, _)| *it == state).map(|(_, count)| count).sum::<u64>();
            self.searches.get_or_create(&[("state", state.name())]).set(integer(count));
        }
    }

    /// A search has made a step.
    pub fn step(&self, search_id: &str, record: &StepRecord) {
        let label = search(search_id);
        self.step.get_or_create(&label).set(integer(record.step));
        self.loss.get_or_create(&label).set(record.loss);
        self.penalty.get_or_create(&label).set(record.penalty);
        self.gradient_norm.get_or_create(&label).set(record.gradient_norm);
        self.learning_rate.get_or_create(&label).set(record.learning_rate);
    }

    /// A search's held-out pictures were evaluated.
    pub fn validation(&self, search_id: &str, validation: &Validation) {
        let label = search(search_id);
        self.validation_loss.get_or_create(&label).set(validation.loss);
        self.validation_error.get_or_create(&label).set(validation.standard_error);
    }

    /// A search is over: its numbers are told no more.
    pub fn forget(&self, search_id: &str) {
        let label = search(search_id);
        self.step.remove(&label);
        for family in [&self.loss, &self.penalty, &self.gradient_norm, &self.learning_rate] {
            family.remove(&label);
        }
        self.validation_loss.remove(&label);
        self.validation_error.remove(&label);
    }

    /// All blobs together have so many bytes.
    pub fn blob_bytes(&self, bytes: u64) {
        self.blob_bytes.set(integer(bytes));
    }

    /// A connection was accepted.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// A connection that was accepted is closed.
    pub fn disconnected(&self) {
        self.connections.dec();
    }

    /// A caller was turned away.
    pub fn refused(&self, it: Refusal) {
        self.refusals.get_or_create(&refusal(it)).inc();
    }

    /// All of them in Prometheus' text format (OpenMetrics 1.0).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A metric that can be registered without knowing its type.
trait Register {
    fn register(&self, registry: &mut Registry, name: &str, help: &str);
}

impl<M: prometheus_client::registry::Metric + Clone> Register for M {
    fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.clone());
    }
}

fn outcome(it: Outcome) -> Kind {
    [("outcome", it.name())]
}

fn part(it: Part) -> Kind {
    [("part", it.name())]
}

fn refusal(it: Refusal) -> Kind {
    [("reason", it.name())]
}

fn search(search_id: &str) -> Search {
    [("search", search_id.to_owned())]
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
