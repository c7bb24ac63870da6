//! `lora-rates list` and `lora-rates workers`: what a coordinator has.

use crate::failure::Failure;
use crate::output::listing::{Listing, now_ms, span, terminal_width};
use crate::output::{json, stdout::print};
use crate::remote::{Remote, TargetArgs};
use crate::search::block_on;
use lora_rates_common::convert::{Memory, SearchState, SearchStatus, WorkerStatus};

/// Characters of an identifier that a table shows.
const ID: usize = 12;

/// List the searches of a coordinator
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Only those in one of these states: preparing, running, paused, finished, failed or cancelled
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state, help_heading = "Output")]
    state: Vec<SearchState>,
    /// Print them as JSON, a line each
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// List the workers of a coordinator
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print them as JSON, a line each
    #[arg(long, help_heading = "Output")]
    json: bool,
}

fn state(name: &str) -> Result<SearchState, String> {
    let names = SearchState::ALL.map(SearchState::name).join(", ");
    SearchState::from_name(name).ok_or_else(|| format!("there are {names}"))
}

/// Lists searches.
///
/// # Errors
/// The coordinator refuses or can't be reached.
pub(crate) fn searches(args: ListArgs) -> Result<(), Failure> {
    let ListArgs { target, state, json } = args;
    let target = target.required()?;
    let searches = block_on(async { Ok(Remote::connect(&target).await?.list(&state).await?) })?;
    if json {
        return Ok(searches.iter().try_for_each(|search| json::line(&json::search(search)))?);
    }
    Ok(print(&search_table(&searches, now_ms()).text(terminal_width()))?)
}

/// Lists workers.
///
/// # Errors
/// The coordinator refuses or can't be reached.
pub(crate) fn workers(args: WorkersArgs) -> Result<(), Failure> {
    let WorkersArgs { target, json } = args;
    let target = target.required()?;
    let workers = block_on(async { Ok(Remote::connect(&target).await?.workers().await?) })?;
    if json {
        return Ok(workers.iter().try_for_each(|worker| json::line(&json::worker(worker)))?);
    }
    Ok(print(&worker_table(&workers, now_ms()).text(terminal_width()))?)
}

fn search_table(searches: &[SearchStatus], now_ms: u64) -> Listing {
    let headings = ["ID", "NAME", "STATE", "STEP", "WORKERS", "HELD-OUT", "AGE", "NETWORKS", "WHY"];
    let mut listing = Listing::new(&headings, &[3, 4, 5, 6]);
    for search in searches {
        let best = search.best.as_deref().map(|best| format!("{:.5}", best.loss));
        listing.row([
            search.search_id.chars().take(ID).collect(),
            search.name.clone(),
            search.state.name().to_owned(),
            format!("{}/{}", search.step, search.max_train_steps),
            search.workers.to_string(),
            best.unwrap_or_default(),
            age(search.created_ms, now_ms),
            search.networks.join(", "),
            search.failure.clone().unwrap_or_default(),
        ]);
    }
    listing
}

fn worker_table(workers: &[WorkerStatus], now_ms: u64) -> Listing {
    let headings = ["WORKER", "NAME", "DEVICE", "STATE", "SEARCH", "FREE", "DONE", "REFUSED", "JOINED", "SILENT"];
    let mut listing = Listing::new(&headings, &[0, 5, 6, 7, 8, 9]);
    for worker in workers {
        listing.row([
            worker.worker_id.to_string(),
            worker.name.clone(),
            worker.device.clone(),
            worker.state.name().to_owned(),
            worker.search_id.iter().flat_map(|id| id.chars().take(ID)).collect(),
            worker.memory.map(free).unwrap_or_default(),
            worker.accepted.to_string(),
            worker.refused.to_string(),
            age(worker.joined_ms, now_ms),
            span(worker.silent_ms / 1000),
        ]);
    }
    listing
}

/// `12.5 of 80.0 GiB`.
fn free(Memory { total, free }: Memory) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    format!("{:.1} of {:.1} GiB", gib(free), gib(total))
}

/// How long ago that was; empty if nobody knows.
fn age(then_ms: u64, now_ms: u64) -> String {
    if then_ms == 0 { String::new() } else { span(now_ms.saturating_sub(then_ms) / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lora_rates_common::convert::WorkerState;

    #[test]
    fn searches_and_workers_are_a_line_each() {
        let search = SearchStatus {
            search_id: "0123456789abcdef".to_owned(),
            state: SearchState::Failed,
            step: 3,
            max_train_steps: 10,
            rates: vec![0.5; 20],
            failure: Some("no\nspace".to_owned()),
            name: "try".to_owned(),
            workers: 0,
            created_ms: 1000,
            networks: vec!["a".to_owned(), "b".to_owned()],
            best: None,
            conclusion: None,
        };
        let text = search_table(&[search], 61_000).text(None);
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "0123456789ab try failed 3/10 0 60 s a, b no?space"
        );

        let memory = Some(Memory { total: 3 << 30, free: 1 << 30 });
        let worker = WorkerStatus {
            worker_id: 4,
            name: "host".to_owned(),
            device: "cuda:0".to_owned(),
            state: WorkerState::Working,
            search_id: Some("0123456789abcdef".to_owned()),
            memory,
            joined_ms: 1000,
            silent_ms: 2500,
            idle_ms: None,
            accepted: 7,
            refused: 1,
        };
        let text = worker_table(&[worker], 8000).text(None);
        let line = text.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line, "4 host cuda:0 working 0123456789ab 1.0 of 3.0 GiB 7 1 7 s 2 s");
    }

    #[test]
    fn states_are_given_by_name() {
        assert_eq!(state("paused"), Ok(SearchState::Paused));
        assert!(state("sleeping").unwrap_err().contains("preparing, running"));
    }
}
