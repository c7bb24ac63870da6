//! All searches that the coordinator knows, and whose turn it is.

use super::Error;
use crate::search::{self, Beginning, Command, Order, Search};
use crate::store::{self, Store, Stored};
use lora_rates_common::convert::{CreateSearch, SearchEvent, SearchState, SearchStatus};
use lora_rates_common::spec::hex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events that someone who watches may lag behind before it must look in the store.
const EVENTS: usize = 256;
/// Bytes of a search's identifier: collisions are out of the question.
const ID_BYTES: usize = 8;

/// One search.
pub(super) struct Entry {
    fingerprint: String,
    work: Work,
    events: broadcast::Sender<SearchEvent>,
}

/// Only a search that is not over needs its state machine.
enum Work {
    Open(Box<Search>),
    Over(SearchStatus),
}

impl Entry {
    fn new(fingerprint: String, work: Work) -> Self {
        Self { fingerprint, work, events: broadcast::Sender::new(EVENTS) }
    }

    pub(super) fn search(&mut self) -> Option<&mut Search> {
        match &mut self.work {
            Work::Open(search) => Some(search),
            Work::Over(_) => None,
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
            Work::Open(search) => search.status(),
            Work::Over(status) => status.clone(),
        }
    }

    /// Whether workers are of use to it.
    pub(super) fn wants_workers(&self) -> bool {
        matches!(&self.work, Work::Open(search) if search.wants_workers())
    }

    pub(super) fn publish(&self, event: SearchEvent) {
        // Nobody watching is no error.
        let _ = self.events.send(event);
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<SearchEvent> {
        self.events.subscribe()
    }

    /// Lets go of what a search that is over needs no more.
    fn close_if_over(&mut self) {
        let status = self.status();
        if status.state.is_over() {
            self.work = Work::Over(status);
        }
    }
}

/// All searches, and whose turn it is: one has the workers, the others wait in order.
#[derive(Default)]
pub(super) struct Catalog {
    entries: BTreeMap<String, Entry>,
    active: Option<String>,
    waiting: VecDeque<String>,
}

impl Catalog {
    /// What the store has. Searches that were running wait to go on, or are paused unless `resume`.
    pub(super) fn load(store: &mut Store, resume: bool) -> Result<Self, Error> {
        let mut catalog = Self::default();
        for stored in store.searches()? {
            let Stored { id, fingerprint, max_train_steps, state, failure, optimizer, .. } = stored;
            if state.is_over() {
                let (step, rates) = (optimizer.step, optimizer.rates);
                let networks = store.spec(&id)?.networks.into_iter().map(|network| network.name).collect();
                let name = String::new();
                let status = SearchStatus {
                    search_id: id.clone(),
                    state,
                    step,
                    max_train_steps,
                    rates,
                    failure,
                    name,
                    workers: 0,
                    created_ms: 0,
                    networks,
                    best: None,
                };
                catalog.entries.insert(id, Entry::new(fingerprint, Work::Over(status)));
                continue;
            }
            let left_as = if resume { state } else { SearchState::Paused };
            let beginning = Beginning {
                optimizer,
                state: left_as,
                failure,
                missing: Vec::new(),
                ..Beginning::new(id.clone(), Arc::new(store.spec(&id)?))
            };
            let search = Search::new(beginning)?;
            if search.state() != state {
                store.set_state(&id, search.state(), None)?;
            }
            catalog.insert(id, fingerprint, search);
        }
        Ok(catalog)
    }

    fn insert(&mut self, id: String, fingerprint: String, search: Search) {
        self.entries.insert(id.clone(), Entry::new(fingerprint, Work::Open(Box::new(search))));
        self.file(&id);
    }

    /// The search that this request created, if it did.
    pub(super) fn existing(&self, create: &CreateSearch) -> Result<Option<SearchStatus>, Error> {
        let search_id = id_of(&create.request_id);
        match self.entries.get(&search_id) {
            None => Ok(None),
            Some(entry) if entry.fingerprint == create.spec.fingerprint() => Ok(Some(entry.status())),
            Some(_) => Err(Error::Exists { request_id: create.request_id.clone(), search_id }),
        }
    }

    /// Makes a new search and stores it.
    pub(super) async fn create(&mut self, create: CreateSearch, store: &store::Handle) -> Result<SearchStatus, Error> {
        let CreateSearch { request_id, spec, name: _ } = create;
        let (id, fingerprint) = (id_of(&request_id), spec.fingerprint());
        let beginning = Beginning { missing: Vec::new(), ..Beginning::new(id.clone(), Arc::clone(&spec)) };
        let optimizer = beginning.optimizer.clone();
        let search = Search::new(beginning)?;
        let stored = Stored {
            id: id.clone(),
            request_id,
            fingerprint: fingerprint.clone(),
            max_train_steps: spec.options.max_train_steps,
            state: search.state(),
            failure: None,
            optimizer,
        };
        store.call(move |store| store.create(&stored, &spec)).await?;
        let status = search.status();
        self.insert(id, fingerprint, search);
        Ok(status)
    }

    pub(super) fn get(&mut self, id: &str) -> Result<&mut Entry, Error> {
        self.entries.get_mut(id).ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// The search that has the workers.
    pub(super) fn active(&self) -> Option<String> {
        self.active.clone()
    }

    pub(super) fn is_active(&self, id: &str) -> bool {
        self.active.as_deref() == Some(id)
    }

    /// Puts a search where its state belongs: one that wants workers waits for its turn, one that is over is closed.
    pub(super) fn file(&mut self, id: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.close_if_over();
        let wants = entry.wants_workers();
        if wants && !self.is_active(id) && !self.waiting.iter().any(|other| other == id) {
            self.waiting.push_back(id.to_owned());
        }
    }

    /// Takes the turn from a search that wants no workers any more. Returns the search whose turn it now is, if that
    /// has changed.
    pub(super) fn next_turn(&mut self) -> Option<String> {
        let current = self.active.as_ref().and_then(|id| self.entries.get_mut(id));
        if let Some(entry) = current {
            if entry.wants_workers() {
                return None;
            }
            entry.close_if_over();
        }
        let wants = |id: &String| self.entries.get(id).is_some_and(Entry::wants_workers);
        self.active = std::iter::from_fn(|| self.waiting.pop_front()).find(wants);
        self.active.clone()
    }
}

/// The search of a request: the same for the same request.
fn id_of(request_id: &str) -> String {
    let digest = Sha256::digest(request_id);
    hex(digest.get(..ID_BYTES).unwrap_or(&digest))
}
