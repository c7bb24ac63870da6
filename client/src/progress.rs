//! How far a search is: a bar on a terminal, a line now and then elsewhere. All of it on standard error.

mod meter;

pub use meter::Meter;

use indicatif::{ProgressBar, ProgressStyle};
use lora_rates_common::convert::{PrepareProgress, StepRecord, Validation};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two redrawings of the bar's clock.
const TICK: Duration = Duration::from_millis(500);

/// Shows a search's progress.
#[derive(Debug)]
pub struct Progress {
    meter: Meter,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    /// The last activity that a line was written about, and the last tenth of the search.
    Lines {
        activity: String,
        tenth: u64,
    },
}

impl Progress {
    /// For a search of so many steps of which some are done; a bar if standard error is a terminal.
    pub fn new(done: u64, total: u64) -> Self {
        let meter = Meter::new(done, total);
        if !io::stderr().is_terminal() {
            return Self { shown: Shown::Lines { activity: String::new(), tenth: meter.tenth() }, meter };
        }
        let bar = ProgressBar::new(total).with_position(done);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar:.cyan/blue} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { meter, shown: Shown::Bar(bar) }
    }

    /// What a worker is busy with before the first step.
    pub fn preparing(&mut self, progress: &PrepareProgress) {
        let PrepareProgress { activity, done, total, .. } = progress;
        match &mut self.shown {
            Shown::Bar(bar) if *total > 0 => bar.set_message(format!("{activity} {done}/{total}")),
            Shown::Bar(bar) => bar.set_message(activity.clone()),
            Shown::Lines { activity: last, .. } if last != activity => {
                note(activity);
                last.clone_from(activity);
            }
            Shown::Lines { .. } => {}
        }
    }

    /// How many workers are at it now.
    pub fn workers(&mut self, workers: u32) {
        self.meter.workers(workers);
        if let Shown::Bar(bar) = &self.shown
            && self.meter.has_begun()
        {
            bar.set_message(self.meter.to_string());
        }
    }

    /// The held-out pictures were measured. `best`: no earlier loss was lower.
    pub fn validation(&mut self, validation: &Validation, best: bool) {
        self.meter.held_out(validation.loss, validation.standard_error);
        match &self.shown {
            Shown::Bar(bar) => bar.set_message(self.meter.to_string()),
            Shown::Lines { .. } => {
                let Validation { step, loss, standard_error, .. } = validation;
                let best = if best { ", the best so far" } else { "" };
                note(&format!(
                    "step {step}/{}: held-out loss {loss:.5} ± {standard_error:.5}{best}",
                    self.meter.total()
                ));
            }
        }
    }

    /// A step that was just made.
    pub fn step(&mut self, record: &StepRecord) {
        self.meter.add(record, Instant::now());
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(record.step);
                bar.set_message(self.meter.to_string());
            }
            Shown::Lines { tenth, .. } => {
                let now = self.meter.tenth();
                if now > *tenth {
                    *tenth = now;
                    note(&format!("step {}/{}: {}", record.step, self.meter.total(), self.meter));
                }
            }
        }
    }

    /// A line that the bar doesn't overwrite.
    pub fn say(&self, line: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| note(line)),
            Shown::Lines { .. } => note(line),
        }
    }

    /// Replaces the bar by a line.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
            if self.meter.has_begun() {
                note(&format!("step {}/{}: {}", bar.position(), self.meter.total(), self.meter));
            }
        }
    }
}

/// Writes a line to standard error, if anybody reads it.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
