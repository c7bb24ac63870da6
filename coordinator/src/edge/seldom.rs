//! A brake for the log.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// Lets one message through per second, so that a flood of callers is no flood of lines.
#[derive(Debug)]
pub(super) struct Seldom {
    start: Instant,
    /// The second from which on the next is let through.
    next: AtomicU64,
    unsaid: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { start: Instant::now(), next: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }
}

impl Seldom {
    /// Whether this one may be said; then, how many were not since the last.
    pub(super) fn pass(&self) -> Option<u64> {
        self.pass_in(self.start.elapsed().as_secs())
    }

    fn pass_in(&self, now: u64) -> Option<u64> {
        let mine = |next| (next <= now).then_some(now + 1);
        if self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mine).is_ok() {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Seldom;

    #[test]
    fn one_a_second_passes() {
        let seldom = Seldom::default();
        assert_eq!(seldom.pass_in(0), Some(0));
        assert_eq!((seldom.pass_in(0), seldom.pass_in(0)), (None, None));
        assert_eq!((seldom.pass_in(1), seldom.pass_in(1)), (Some(2), None));
        assert_eq!(seldom.pass_in(70), Some(1));
    }
}
