//! The numbers beside the bar. Time comes in as an argument.

use lora_rates_common::convert::StepRecord;
use std::fmt;
use std::time::{Duration, Instant};

/// Part of the running loss and speed that a step leaves in place.
const KEPT: f64 = 0.95;

/// Running loss, penalty, images a second and the time left.
#[derive(Clone, Debug)]
pub struct Meter {
    done: u64,
    total: u64,
    loss: Running,
    penalty: f64,
    /// Of a step, in seconds.
    duration: Running,
    samples: Running,
    last: Option<Instant>,
    /// Loss on the held-out pictures and its standard error.
    held_out: Option<(f64, f64)>,
    workers: Option<u32>,
}

impl Meter {
    /// Before the first step that is made now.
    pub fn new(done: u64, total: u64) -> Self {
        let (loss, duration, samples) = Default::default();
        Self { done, total, loss, penalty: 0.0, duration, samples, last: None, held_out: None, workers: None }
    }

    /// A step that was finished at this time.
    pub fn add(&mut self, record: &StepRecord, now: Instant) {
        self.done = record.step;
        self.penalty = record.penalty;
        self.loss.add(record.loss);
        // The first step has warm-up in it, and its beginning isn't known.
        if let Some(last) = self.last.replace(now) {
            self.duration.add(now.saturating_duration_since(last).as_secs_f64());
            self.samples.add(record.samples.into());
        }
    }

    /// The loss on the held-out pictures and its standard error.
    pub fn held_out(&mut self, loss: f64, error: f64) {
        self.held_out = Some((loss, error));
    }

    /// How many workers are at it.
    pub fn workers(&mut self, workers: u32) {
        self.workers = Some(workers);
    }

    /// Whether there is anything to say: a step or a measurement.
    pub fn has_begun(&self) -> bool {
        self.held_out.is_some() || self.loss.mean().is_some()
    }

    /// Steps of the search.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many tenths of the search are done.
    pub fn tenth(&self) -> u64 {
        self.done.saturating_mul(10).checked_div(self.total).unwrap_or(0)
    }

    /// Images a second; `None` before the second step.
    pub fn speed(&self) -> Option<f64> {
        Some(self.samples.mean()? / self.duration.mean()?).filter(|speed| speed.is_finite())
    }

    /// Time left; `None` before the second step.
    pub fn left(&self) -> Option<Duration> {
        let seconds = self.duration.mean()? * self.total.saturating_sub(self.done) as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}, penalty {:.3}", self.loss.mean().unwrap_or_default(), self.penalty)?;
        if let Some((loss, error)) = self.held_out {
            write!(f, ", held-out {loss:.4} ± {error:.4}")?;
        }
        match self.workers {
            Some(1) => write!(f, ", 1 worker")?,
            Some(workers) => write!(f, ", {workers} workers")?,
            None => {}
        }
        if let Some(speed) = self.speed() {
            write!(f, ", {speed:.2} images/s")?;
        }
        match self.left() {
            Some(left) if self.done < self.total => write!(f, ", {} left", clock(left)),
            _ => Ok(()),
        }
    }
}

/// `1:02:03` or `2:03`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A mean in which what is older counts less.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    sum: f64,
    weight: f64,
}

impl Running {
    fn add(&mut self, value: f64) {
        self.sum = self.sum * KEPT + value;
        self.weight = self.weight * KEPT + 1.0;
    }

    fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64, loss: f64) -> StepRecord {
        let (penalty, learning_rate, gradient_norm) = (10.0, 0.1, 1.0);
        StepRecord { step, loss, penalty, learning_rate, gradient_norm, samples: 2, rates: Vec::new() }
    }

    #[test]
    fn speed_and_time_left_follow_the_steps() {
        let (mut meter, start) = (Meter::new(0, 10), Instant::now());
        assert_eq!(meter.speed(), None);
        for step in 1..=4 {
            meter.add(&record(step, 0.5), start + Duration::from_secs(step * 4));
        }
        assert_eq!(meter.speed(), Some(0.5));
        assert_eq!(meter.left(), Some(Duration::from_secs(24)));
        assert_eq!(meter.tenth(), 4);
        assert_eq!(meter.to_string(), "loss 0.5000, penalty 10.000, 0.50 images/s, 0:24 left");
    }

    #[test]
    fn held_out_loss_and_workers_are_shown_once_they_are_known() {
        let mut meter = Meter::new(0, 10);
        assert!(!meter.has_begun());
        meter.held_out(0.25, 0.125);
        meter.workers(2);
        assert!(meter.has_begun());
        assert_eq!(meter.to_string(), "loss 0.0000, penalty 0.000, held-out 0.2500 ± 0.1250, 2 workers");
        meter.workers(1);
        assert!(meter.to_string().ends_with(", 1 worker"));
    }

    #[test]
    fn the_running_loss_forgets_what_is_old() {
        let (mut meter, now) = (Meter::new(0, 1000), Instant::now());
        meter.add(&record(1, 100.0), now);
        (2..200).for_each(|step| meter.add(&record(step, 1.0), now));
        assert!(meter.to_string().starts_with("loss 1.00"), "{meter}");
    }

    #[test]
    fn a_meter_without_steps_or_time_is_still_printed() {
        assert_eq!(Meter::new(0, 0).to_string(), "loss 0.0000, penalty 0.000");
        assert_eq!(Meter::new(0, 0).tenth(), 0);
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
