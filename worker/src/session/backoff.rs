//! Pauses between attempts: longer and longer, and never quite the same for two workers.

use std::time::Duration;

/// The first pause, on average.
const FIRST: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(15);

/// How often it failed in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether nothing failed since it last went well.
    pub(super) fn is_first(self) -> bool {
        self.failures == 0
    }

    /// The next pause: doubling from 0.5 s to 15 s, times a random number from a half to one, so that workers that were
    /// cut off together don't come back together.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        for whole in [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&pause), "{pause} of {whole}");
        }
        assert!((0..100).all(|_| backoff.pause() <= LONGEST));
        assert!(!backoff.is_first());
        backoff.reset();
        assert!(backoff.is_first() && backoff.pause() <= FIRST);
    }

    #[test]
    fn two_workers_pause_differently() {
        let pauses = |_| Backoff::default().pause();
        let all: std::collections::HashSet<Duration> = (0..20).map(pauses).collect();
        assert!(all.len() > 10, "{all:?}");
    }
}
