//! What happens, as JSON: an object a line.

use super::stdout::print;
use lora_rates_common::convert::{Baseline, SearchEvent, SearchStatus, Validation, WorkerStatus};
use serde_json::{Value, json};
use std::io;

/// Writes an object as a line to standard output.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn line(value: &Value) -> io::Result<()> {
    print(&format!("{value}\n"))
}

/// A search.
pub(crate) fn search(search: &SearchStatus) -> Value {
    json!({
        "search_id": search.search_id,
        "name": search.name,
        "state": search.state.name(),
        "step": search.step,
        "max_train_steps": search.max_train_steps,
        "workers": search.workers,
        "created_ms": search.created_ms,
        "failure": search.failure,
        "networks": search.networks,
        "rates": search.rates,
        "best": search.best.as_deref().map(validation),
        "conclusion": search.conclusion.as_deref(),
    })
}

/// A worker.
pub(crate) fn worker(worker: &WorkerStatus) -> Value {
    json!({
        "worker_id": worker.worker_id,
        "name": worker.name,
        "device": worker.device,
        "state": worker.state.name(),
        "search_id": worker.search_id,
        "memory_total": worker.memory.map(|memory| memory.total),
        "memory_free": worker.memory.map(|memory| memory.free),
        "joined_ms": worker.joined_ms,
        "silent_ms": worker.silent_ms,
        "idle_ms": worker.idle_ms,
        "accepted": worker.accepted,
        "refused": worker.refused,
    })
}

/// Something that happened in a search: `event` says what.
pub(crate) fn event(event: &SearchEvent) -> Value {
    let (kind, mut value) = match event {
        SearchEvent::Status(status) => ("status", search(status)),
        SearchEvent::Step(record) => (
            "step",
            json!({
                "step": record.step,
                "loss": record.loss,
                "penalty": record.penalty,
                "learning_rate": record.learning_rate,
                "gradient_norm": record.gradient_norm,
                "samples": record.samples,
                "rates": record.rates,
            }),
        ),
        SearchEvent::Progress(progress) => (
            "progress",
            json!({
                "worker": progress.worker,
                "activity": progress.activity,
                "done": progress.done,
                "total": progress.total,
            }),
        ),
        SearchEvent::Validation(it) => ("validation", validation(it)),
        SearchEvent::SamplePicture(it) => (
            "sample_picture",
            json!({
                "step": it.step,
                "item": it.item,
                "seed": it.seed,
                "sha256": it.result.as_ref().ok(),
                "failure": it.result.as_ref().err(),
            }),
        ),
    };
    value["event"] = kind.into();
    value
}

fn validation(validation: &Validation) -> Value {
    let baseline = |it: &Baseline| json!({ "rate": it.rate, "loss": it.loss, "standard_error": it.standard_error });
    json!({
        "step": validation.step,
        "loss": validation.loss,
        "standard_error": validation.standard_error,
        "samples": validation.samples,
        "rates": validation.rates,
        "baselines": validation.baselines.iter().map(baseline).collect::<Vec<_>>(),
    })
}
