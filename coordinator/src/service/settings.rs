//! What a service may be told.

use crate::metrics::Metrics;
use std::time::Duration;

/// What a service may be told.
#[derive(Clone)]
pub struct Settings {
    /// Clients and workers are on this machine and may name any file on it: pictures, networks and models are read from
    /// where the search says, not from blobs. Default true.
    pub trusted: bool,
    /// Go on with searches that were running when the coordinator stopped; otherwise they are paused. Default true.
    pub resume_on_start: bool,
    /// When no result of a search comes for so long, and for four times as long as one takes, what is being computed is
    /// given to idle workers too. Default 2 s.
    pub overdue: Duration,
    /// A search fails when there is no worker at all for so long; `None`: it waits for ever. Default `None`.
    pub worker_timeout: Option<Duration>,
    /// A worker whose results were unusable gets no work for so long. Default 60 s.
    pub quarantine: Duration,
    /// Searches at most that are not over. Default 1000.
    pub max_searches: usize,
    /// Work on the store without a thread of its own. For simulations, in which nothing may depend on real time.
    pub inline_store: bool,
    /// What is counted.
    pub metrics: Metrics,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trusted: true,
            resume_on_start: true,
            overdue: Duration::from_secs(2),
            worker_timeout: None,
            quarantine: Duration::from_secs(60),
            max_searches: 1000,
            inline_store: false,
            metrics: Metrics::new(),
        }
    }
}
