//! What those who watch over the coordinator are told.

use crate::metrics::Metrics;
use std::sync::Arc;
use tokio::sync::watch;

/// Where the program stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The store is being read.
    #[default]
    Starting,
    /// Clients and workers are served.
    Serving,
    /// It ends.
    Stopping,
}

impl Phase {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Stopping => "stopping",
        }
    }
}

/// Metrics and phase of a coordinator; clones share them.
#[derive(Clone, Default)]
pub struct Monitor {
    /// The numbers.
    pub metrics: Metrics,
    phase: Arc<watch::Sender<Phase>>,
}

impl Monitor {
    /// Where the program stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}
