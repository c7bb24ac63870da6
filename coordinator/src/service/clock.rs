//! What the service measures of a search: how long its steps take, and when a result is overdue.

use crate::metrics::{Metrics, Part};
use std::time::Duration;
use tokio::time::Instant;

/// A result is overdue after so many times what one takes.
const PATIENCE: u32 = 4;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// When something was last leased or came back.
    stirred: Instant,
    /// How long a lease takes, smoothed.
    typical: Option<Duration>,
    /// When the rates of the step went out.
    rates: Option<Instant>,
    /// When the store was given the step.
    commit: Option<Instant>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { stirred: Instant::now(), typical: None, rates: None, commit: None }
    }

    pub(super) fn leased(&mut self) {
        self.stirred = Instant::now();
    }

    /// A result has come that counts, and took so long if that is known.
    pub(super) fn came(&mut self, took: Option<Duration>) {
        self.stirred = Instant::now();
        if let Some(took) = took {
            self.typical = Some(self.typical.map_or(took, |typical| typical.mul_f64(0.8) + took.mul_f64(0.2)));
        }
    }

    /// Whether a result is overdue that comes within `least` at the soonest. Then it is so again only as much later.
    pub(super) fn is_overdue(&mut self, least: Duration) -> bool {
        let patience = self.typical.unwrap_or_default().saturating_mul(PATIENCE).max(least);
        let overdue = self.stirred.elapsed() >= patience;
        if overdue {
            self.stirred = Instant::now();
        }
        overdue
    }

    /// Rates go out: the first ones of a step begin it.
    pub(super) fn rates(&mut self) {
        self.rates.get_or_insert_with(Instant::now);
    }

    /// The results that complete a step came at `begun`, and it is computed now.
    pub(super) fn computed(&mut self, begun: Instant, metrics: &Metrics) {
        let now = Instant::now();
        if let Some(rates) = self.rates {
            metrics.step_part(Part::Compute, begun.saturating_duration_since(rates));
        }
        metrics.step_part(Part::Update, now.saturating_duration_since(begun));
        self.commit = Some(now);
    }

    /// The store has the step.
    pub(super) fn committed(&mut self, metrics: &Metrics) {
        if let Some(commit) = self.commit.take() {
            metrics.step_part(Part::Commit, commit.elapsed());
        }
        if let Some(rates) = self.rates.take() {
            metrics.step_part(Part::Total, rates.elapsed());
        }
    }

    /// The step is not gone on with.
    pub(super) fn interrupted(&mut self) {
        (self.rates, self.commit) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_overdue_after_four_times_what_one_takes_or_the_least() {
        let mut clock = Clock::new();
        assert!(!clock.is_overdue(Duration::from_secs(9)));
        assert!(clock.is_overdue(Duration::ZERO));
        clock.came(Some(Duration::from_secs(100)));
        assert!(!clock.is_overdue(Duration::ZERO));
        clock.stirred -= Duration::from_secs(399);
        assert!(!clock.is_overdue(Duration::ZERO));
        clock.stirred -= Duration::from_secs(2);
        assert!(!clock.is_overdue(Duration::from_secs(500)));
        assert!(clock.is_overdue(Duration::ZERO));
        assert!(!clock.is_overdue(Duration::ZERO), "it is not said again at once");
        clock.stirred -= Duration::from_secs(395);
        clock.leased();
        clock.stirred -= Duration::from_secs(395);
        assert!(!clock.is_overdue(Duration::ZERO), "a lease is a new beginning");
    }

    #[test]
    fn what_is_typical_follows_slowly() {
        let mut clock = Clock::new();
        clock.came(Some(Duration::from_secs(10)));
        clock.came(None);
        clock.came(Some(Duration::from_secs(20)));
        assert_eq!(clock.typical, Some(Duration::from_secs(12)));
    }
}
