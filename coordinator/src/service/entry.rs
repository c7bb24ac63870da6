//! One search as the service holds it.

use super::clock::Clock;
use super::message::{Found, Watched};
use crate::search::{self, Command, Event, Order, Search};
use crate::store::Stored;
use lora_rates_common::convert::{PrepareProgress, SearchEvent, SearchState, SearchStatus};
use lora_rates_common::spec::{NetworkRef, SearchSpec};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::time::Instant;

/// Events that someone who watches may lag behind before it must look in the store.
const EVENTS: usize = 256;

/// One search.
pub(super) struct Entry {
    /// Its place in the order of creation.
    pub(super) number: u64,
    pub(super) fingerprint: String,
    networks: Arc<[NetworkRef]>,
    name: String,
    created_ms: u64,
    work: Work,
    events: broadcast::Sender<SearchEvent>,
    /// Its place among those that want workers, and since when it wants some.
    pub(super) turn: Option<(u64, Instant)>,
    /// Steps and evaluations that the store has been given and has not said to have.
    unwritten: u32,
    /// The last reason for which a worker was expelled from it.
    pub(super) expelled: Option<String>,
    pub(super) clock: Clock,
    /// The store is forgetting it.
    pub(super) deleting: bool,
}

/// Only a search that may go on needs its state machine.
enum Work {
    Open(Box<Search>),
    Over(SearchStatus),
}

impl Entry {
    /// A search that may go on.
    pub(super) fn open(stored: &Stored, search: Box<Search>) -> Self {
        Self::new(stored, Work::Open(search))
    }

    /// One that is over.
    pub(super) fn over(stored: &Stored) -> Self {
        let status = SearchStatus {
            search_id: stored.id.clone(),
            state: stored.state,
            step: stored.optimizer.step,
            max_train_steps: stored.max_train_steps,
            rates: stored.optimizer.rates.clone(),
            failure: stored.failure.clone(),
            name: stored.name.clone(),
            workers: 0,
            created_ms: stored.created_ms,
            networks: stored.networks.iter().map(|network| network.name.clone()).collect(),
            best: stored.best.clone(),
            conclusion: stored.conclusion.clone(),
        };
        Self::new(stored, Work::Over(status))
    }

    fn new(stored: &Stored, work: Work) -> Self {
        Self {
            number: stored.number,
            fingerprint: stored.fingerprint.clone(),
            networks: Arc::clone(&stored.networks),
            name: stored.name.clone(),
            created_ms: stored.created_ms,
            work,
            events: broadcast::Sender::new(EVENTS),
            turn: None,
            unwritten: 0,
            expelled: None,
            clock: Clock::new(),
            deleting: false,
        }
    }

    /// What follows from an event. Nothing if the search is over.
    pub(super) fn handle(&mut self, event: Event) -> Vec<Command> {
        match &mut self.work {
            Work::Open(search) => search.handle(event),
            Work::Over(_) => Vec::new(),
        }
    }

    /// What follows from an order.
    pub(super) fn order(&mut self, order: Order) -> Result<Vec<Command>, search::Error> {
        match &mut self.work {
            Work::Open(search) => search.order(order),
            Work::Over(status) => order.applies_to(status.state).map(|_| Vec::new()),
        }
    }

    pub(super) fn status(&self) -> SearchStatus {
        match &self.work {
            Work::Open(search) => {
                SearchStatus { name: self.name.clone(), created_ms: self.created_ms, ..search.status() }
            }
            Work::Over(status) => status.clone(),
        }
    }

    pub(super) fn state(&self) -> SearchState {
        match &self.work {
            Work::Open(search) => search.state(),
            Work::Over(status) => status.state,
        }
    }

    /// What it is made of; `None` if it is over and only the store knows.
    pub(super) fn spec(&self) -> Option<&Arc<SearchSpec>> {
        match &self.work {
            Work::Open(search) => Some(search.spec()),
            Work::Over(_) => None,
        }
    }

    /// Whether workers are of use to it.
    pub(super) fn wants_workers(&self) -> bool {
        !self.deleting && matches!(&self.work, Work::Open(search) if search.wants_workers())
    }

    /// What all of it is busy with before its first step, if it is.
    fn progress(&self) -> Option<PrepareProgress> {
        match &self.work {
            Work::Open(search) => search.progress(),
            Work::Over(_) => None,
        }
    }

    pub(super) fn publish(&self, event: SearchEvent) {
        // Nobody watching is no error.
        let _ = self.events.send(event);
    }

    pub(super) fn found(&self) -> Found {
        Found { status: self.status(), networks: Arc::clone(&self.networks) }
    }

    pub(super) fn watch(&self) -> Watched {
        Watched { status: self.status(), progress: self.progress(), events: self.events.subscribe() }
    }

    /// The store was given something of it.
    pub(super) fn writes(&mut self) {
        self.unwritten += 1;
    }

    /// The store has it, or has it not.
    pub(super) fn written(&mut self) {
        self.unwritten = self.unwritten.saturating_sub(1);
    }

    /// Lets go of what a search needs no more when it is over for good: one that has failed can still be resumed.
    pub(super) fn close_if_over(&mut self) {
        let state = self.state();
        if state.is_over() && state != SearchState::Failed && self.unwritten == 0 {
            self.work = Work::Over(self.status());
        }
    }
}
