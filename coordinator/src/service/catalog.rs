//! All searches that the coordinator knows.

use super::create::{self, Prepared};
use super::entry::Entry;
use super::message::{Answer, ListSearches, Page};
use super::{Error, Settings};
use crate::blobs::Blobs;
use crate::search::{Beginning, Search};
use crate::store::{self, Store, Stored};
use lora_rates_common::convert::{CreateSearch, SearchState, SearchStatus};
use lora_rates_common::spec::SearchSpec;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// A search that the store is being given, and who waits for it.
struct Creating {
    stored: Stored,
    search: Box<Search>,
    answers: Vec<Answer<SearchStatus>>,
}

/// All searches.
#[derive(Default)]
pub(super) struct Catalog {
    entries: BTreeMap<String, Entry>,
    creating: BTreeMap<String, Creating>,
    /// Identifiers in the order of creation.
    order: BTreeMap<u64, String>,
    /// Number of the one created last.
    created: u64,
    turns: u64,
}

impl Catalog {
    /// What the store has. Searches that were running go on, or are paused unless the settings say otherwise.
    pub(super) fn load(store: &mut Store, blobs: &Blobs, settings: &Settings) -> Result<Self, Error> {
        let mut catalog = Self::default();
        for stored in store.searches()? {
            catalog.created = catalog.created.max(stored.number);
            if stored.state.is_over() && stored.state != SearchState::Failed {
                catalog.insert(stored.id.clone(), Entry::over(&stored));
                continue;
            }
            let rests = settings.resume_on_start || matches!(stored.state, SearchState::Failed | SearchState::Paused);
            let spec = Arc::new(store.spec(&stored.id)?);
            let search = Search::new(Beginning {
                id: stored.id.clone(),
                optimizer: stored.optimizer.clone(),
                state: if rests { stored.state } else { SearchState::Paused },
                failure: stored.failure.clone(),
                validations: store.validations(&stored.id, 0)?.into_iter().map(Arc::new).collect(),
                sampled: store.last_pictures(&stored.id)?,
                conclusion: stored.conclusion.clone(),
                missing: create::missing(&spec, blobs),
                spec,
            })?;
            if search.state() != stored.state {
                let status = search.status();
                store.set_state(&stored.id, status.state, status.failure.as_deref())?;
            }
            catalog.insert(stored.id.clone(), Entry::open(&stored, Box::new(search)));
        }
        Ok(catalog)
    }

    /// Changes whenever a search is created.
    pub(super) fn generation(&self) -> u64 {
        self.created
    }

    fn insert(&mut self, id: String, entry: Entry) {
        self.order.insert(entry.number, id.clone());
        self.entries.insert(id.clone(), entry);
        self.file(&id);
    }

    /// Takes in a search, or answers with the one that the same request has created. What is returned is to be stored.
    pub(super) fn create(
        &mut self,
        prepared: Prepared,
        answer: Answer<SearchStatus>,
        limit: usize,
    ) -> Option<(Stored, Arc<SearchSpec>)> {
        let Prepared { id, create, fingerprint, optimizer, search, .. } = prepared;
        let CreateSearch { request_id, spec, name } = create;
        let taken = || Error::Exists { request_id: request_id.clone(), search_id: id.clone() };
        if let Some(entry) = self.entries.get(&id) {
            let same = !entry.deleting && entry.fingerprint == fingerprint;
            drop(answer.send(if same { Ok(entry.status()) } else { Err(taken()) }));
            return None;
        }
        if let Some(creating) = self.creating.get_mut(&id) {
            if creating.stored.fingerprint == fingerprint {
                creating.answers.push(answer);
            } else {
                drop(answer.send(Err(taken())));
            }
            return None;
        }
        let unfinished = self.entries.values().filter(|entry| !entry.state().is_over()).count() + self.creating.len();
        if unfinished >= limit {
            drop(answer.send(Err(Error::TooManySearches { limit })));
            return None;
        }
        self.created += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stored = Stored {
            number: self.created,
            id: id.clone(),
            name,
            created_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            networks: spec.networks.clone().into(),
            request_id,
            fingerprint,
            max_train_steps: spec.options.max_train_steps,
            state: search.state(),
            failure: None,
            optimizer,
            best: None,
            conclusion: None,
        };
        self.creating.insert(id, Creating { stored: stored.clone(), search, answers: vec![answer] });
        Some((stored, spec))
    }

    /// The store has a new search, or has it not.
    pub(super) fn created(&mut self, id: &str, result: Result<(), store::Error>) {
        let Some(Creating { stored, search, answers }) = self.creating.remove(id) else { return };
        match result {
            Ok(()) => {
                self.insert(id.to_owned(), Entry::open(&stored, search));
                let status = self.entries.get(id).map(Entry::status);
                for answer in answers {
                    drop(answer.send(status.clone().ok_or(Error::Stopped)));
                }
            }
            Err(error) => {
                let mut error = Some(Error::Store(error));
                for answer in answers {
                    // The first is told why; the others try again and find out.
                    drop(answer.send(Err(error.take().unwrap_or(Error::Changed))));
                }
            }
        }
    }

    pub(super) fn get(&mut self, id: &str) -> Result<&mut Entry, Error> {
        let entry = self.entries.get_mut(id).filter(|entry| !entry.deleting);
        entry.ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// One that is being deleted too.
    pub(super) fn any(&mut self, id: &str) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id) {
            self.order.remove(&entry.number);
        }
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.order.values().chain(self.creating.keys()).cloned().collect()
    }

    pub(super) fn list(&self, list: &ListSearches) -> Page<(u64, SearchStatus)> {
        let after = self.order.range((Bound::Excluded(list.after), Bound::Unbounded));
        let entries = after.filter_map(|(number, id)| Some((*number, self.entries.get(id)?)));
        let wanted = entries
            .filter(|(_, entry)| !entry.deleting && (list.states.is_empty() || list.states.contains(&entry.state())));
        Page::new(wanted.map(|(number, entry)| (number, entry.status())), list.limit)
    }

    /// How many there are in each state.
    pub(super) fn count(&self) -> Vec<(SearchState, u64)> {
        let count = |state| self.entries.values().filter(|entry| entry.state() == state).count() as u64;
        SearchState::ALL.into_iter().map(|state| (state, count(state))).collect()
    }

    /// Puts a search where its state belongs: one that begins to want workers waits for its turn, one that is over is
    /// closed.
    pub(super) fn file(&mut self, id: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.close_if_over();
        match (entry.wants_workers(), entry.turn) {
            (true, None) => {
                self.turns += 1;
                entry.turn = Some((self.turns, Instant::now()));
            }
            (false, Some(_)) => entry.turn = None,
            _ => {}
        }
    }

    /// Those that want workers, in the order of their turns.
    pub(super) fn wanting(&self) -> Vec<String> {
        let turn = |(id, entry): (&String, &Entry)| Some((entry.turn?.0, id.clone()));
        let mut turns: Vec<(u64, String)> = self.entries.iter().filter_map(turn).collect();
        turns.sort_unstable();
        turns.into_iter().map(|(_, id)| id).collect()
    }

    /// Those of [`Self::wanting`], in any order.
    pub(super) fn wanting_mut(&mut self) -> impl Iterator<Item = (&String, &mut Entry)> {
        self.entries.iter_mut().filter(|(_, entry)| entry.turn.is_some())
    }
}
