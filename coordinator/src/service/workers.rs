//! The workers that are connected.

use super::message::{Joined, ToWorker};
use crate::search::WorkerId;
use lora_rates_common::convert::Hello;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Messages that a worker may have unread. One that lags further is given up: it can come again.
const OUTBOX: usize = 64;

struct Worker {
    hello: Hello,
    outbox: mpsc::Sender<ToWorker>,
}

/// The workers that are connected.
#[derive(Default)]
pub(super) struct Workers {
    connected: BTreeMap<WorkerId, Worker>,
    joined: u64,
    /// Could not be told something.
    lost: Vec<WorkerId>,
}

impl Workers {
    pub(super) fn join(&mut self, hello: Hello) -> Joined {
        self.joined += 1;
        let worker = WorkerId::new(self.joined);
        let (outbox, messages) = mpsc::channel(OUTBOX);
        tracing::info!(%worker, name = hello.name, device = hello.device, "a worker joined");
        self.connected.insert(worker, Worker { hello, outbox });
        Joined { worker, messages }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, worker: WorkerId) -> bool {
        let removed = self.connected.remove(&worker);
        if let Some(Worker { hello, .. }) = &removed {
            tracing::info!(%worker, name = hello.name, "a worker is gone");
        }
        removed.is_some()
    }

    pub(super) fn name(&self, worker: WorkerId) -> Option<&str> {
        self.connected.get(&worker).map(|worker| worker.hello.name.as_str())
    }

    pub(super) fn all(&self) -> Vec<WorkerId> {
        self.connected.keys().copied().collect()
    }

    /// Tells a worker, without waiting.
    pub(super) fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        let Some(connected) = self.connected.get(&worker) else { return };
        if connected.outbox.try_send(message).is_err() {
            self.lost.push(worker);
        }
    }

    /// A worker that could not be told something.
    pub(super) fn take_lost(&mut self) -> Option<WorkerId> {
        self.lost.pop()
    }
}
