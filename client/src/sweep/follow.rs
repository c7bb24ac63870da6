//! Following many searches at once: their states are asked for, not told.

use super::Sweep;
use super::submit::Submission;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::progress::note;
use crate::remote::{self, Remote};
use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use lora_rates_common::convert::{SearchState, SearchStatus};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two questions, here and over a network.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// How long the coordinator may be gone.
const PATIENCE: Duration = Duration::from_secs(600);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing moves any more.
    Done,
    /// The user stopped it.
    Interrupted,
}

/// Keeps `known` up to date, by place in the sweep, until all searches are at rest.
///
/// # Errors
/// A search can't be submitted, the coordinator is gone, or `gone` says why there is no worker any more.
pub(super) async fn follow(
    remote: &Remote,
    sweep: &Sweep,
    submission: &mut Submission,
    known: &mut BTreeMap<usize, SearchStatus>,
    interrupts: &mut Interrupts,
    gone: impl Future<Output = String>,
) -> Result<End, Failure> {
    let pause = if sweep.settings.coordinator.is_some() { PAUSES.1 } else { PAUSES.0 };
    let mut clock = interval(pause);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut display = Display::new(sweep);
    let mut lost: Option<Instant> = None;
    let mut gone = std::pin::pin!(gone);
    loop {
        tokio::select! {
            submitted = submission.done(), if submission.is_going_on() => submitted?,
            why = &mut gone => return Err(Failure::Run(anyhow!("{why}"))),
            () = interrupts.asked() => return Ok(End::Interrupted),
            _ = clock.tick() => {
                let complete = !submission.is_going_on();
                match update(remote, submission, known).await {
                    Ok(()) => {
                        if lost.take().is_some() {
                            display.say("the connection is back");
                        }
                    }
                    Err(error) if error.is_passing() && lost.is_none_or(|since| since.elapsed() < PATIENCE) => {
                        if lost.is_none() {
                            display.say(&format!("{error}; trying again, the searches go on meanwhile"));
                        }
                        lost.get_or_insert_with(Instant::now);
                    }
                    Err(error) => return Err(error.into()),
                }
                display.show(sweep, known);
                if complete && known.len() == sweep.points.len() && known.values().all(is_at_rest) {
                    return Ok(End::Done);
                }
            }
        }
    }
}

async fn update(
    remote: &Remote,
    submission: &Submission,
    known: &mut BTreeMap<usize, SearchStatus>,
) -> Result<(), remote::Error> {
    let ids = submission.ids();
    for status in remote.list(&[]).await? {
        if let Some(place) = ids.get(&status.search_id) {
            known.insert(*place, status);
        }
    }
    Ok(())
}

fn is_at_rest(status: &SearchStatus) -> bool {
    status.state.is_over() || status.state == SearchState::Paused
}

/// A bar over all steps on a terminal; a line for each search that ends.
struct Display {
    bar: ProgressBar,
    /// Places of those that were said to have ended.
    ended: Vec<usize>,
}

impl Display {
    fn new(sweep: &Sweep) -> Self {
        let steps = sweep.base.options.max_train_steps.saturating_mul(sweep.points.len() as u64);
        let bar = if io::stderr().is_terminal() { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar:.cyan/blue} {msg}") {
            bar.set_style(style);
        }
        Self { bar, ended: Vec::new() }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| note(line));
    }

    fn show(&mut self, sweep: &Sweep, known: &BTreeMap<usize, SearchStatus>) {
        for (place, status) in known.iter().filter(|(_, status)| is_at_rest(status)) {
            if self.ended.contains(place) {
                continue;
            }
            self.ended.push(*place);
            let label = sweep.points.get(*place).map(|point| point.label.as_str()).unwrap_or_default();
            let loss = status.best.as_deref().map(|best| format!(", held-out loss {:.5}", best.loss));
            let why = status.failure.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            let count = format!("{}/{}", self.ended.len(), sweep.points.len());
            self.say(&format!("{count}: {label} is {}{}{why}", status.state, loss.unwrap_or_default()));
        }
        let count = |wanted: SearchState| known.values().filter(|status| status.state == wanted).count();
        let workers: u32 = known.values().map(|status| status.workers).sum();
        // A search that ended early has no steps left.
        let steps = |status: &SearchStatus| if is_at_rest(status) { status.max_train_steps } else { status.step };
        self.bar.set_position(known.values().map(steps).sum());
        let (finished, running) = (count(SearchState::Finished), count(SearchState::Running));
        self.bar
            .set_message(format!("{finished}/{} finished, {running} running, {workers} workers", sweep.points.len()));
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
