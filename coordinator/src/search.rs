//! One search's state machine: events go in, commands come out. No I/O, no clock, no tokio.
//!
//! A step's microbatches come from the plan. When all results are in, the next rates are computed and given to the
//! store; only what is committed is adopted, so a crash or a full disk at worst repeats a step, to the same numbers.
//! How many workers there are, and in what order they answer, never enters the numbers.

mod event;
mod members;
mod results;
mod update;

pub use event::{Command, Commit, Event, Order, Refusal, WorkerId};

use crate::ledger::{Ledger, MAX_LEASES};
use lora_rates_common::convert::{Gradient, Lease, Rates, SearchState, SearchStatus};
use lora_rates_common::optimizer::State;
use lora_rates_common::plan::{Microbatch, Plan};
use lora_rates_common::spec::{self, SearchSpec};
use members::Members;
use std::sync::Arc;
use update::Update;

/// Why there can be no such search, or an order can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The search makes no sense.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// The state to go on from is not of this search.
    #[error("{what} has {found} entries where the search has {expected} rates")]
    State {
        /// Which part of it.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it must be.
        expected: usize,
    },
    /// An order that does not suit the search's state.
    #[error("the search is {state}; it can't be {order}")]
    Order {
        /// The order.
        order: Order,
        /// Where the search stands.
        state: SearchState,
    },
}

/// The step that is being computed.
struct Step {
    microbatches: Vec<Microbatch>,
    ledger: Ledger<Gradient>,
}

/// One search.
pub struct Search {
    id: String,
    plan: Plan,
    update: Update,
    optimizer: State,
    state: SearchState,
    failure: Option<String>,
    members: Members,
    step: Option<Step>,
    /// Computed, and not yet known to be stored.
    pending: Option<Arc<Commit>>,
    refused: u64,
}

impl Search {
    /// A search at its beginning, or where it was left: at this point of the optimizer, in this state, and for this
    /// reason if there is one.
    ///
    /// # Errors
    /// When the search makes no sense, or the optimizer's state is not one of it.
    pub fn new(
        id: String,
        spec: Arc<SearchSpec>,
        optimizer: State,
        state: SearchState,
        failure: Option<String>,
    ) -> Result<Self, Error> {
        spec.validate()?;
        let live = spec.live();
        let expected = live.len();
        let parts = [("the rates", &optimizer.rates), ("the first moment", &optimizer.m), ("the second", &optimizer.v)];
        if let Some((what, part)) = parts.into_iter().find(|(_, part)| part.len() != expected) {
            return Err(Error::State { what, found: part.len(), expected });
        }
        let state = match state {
            // It was left between its last step and saying so.
            _ if optimizer.step >= spec.options.max_train_steps => SearchState::Finished,
            // Nobody computes yet.
            SearchState::Running => SearchState::Preparing,
            other => other,
        };
        Ok(Self {
            id,
            plan: spec.plan()?,
            update: Update { schedule: spec.schedule()?, live, spec },
            optimizer,
            state,
            failure,
            members: Members::default(),
            step: None,
            pending: None,
            refused: 0,
        })
    }

    /// The optimizer's state before the first step of a search.
    #[must_use]
    pub fn beginning(spec: &SearchSpec) -> State {
        let rates = spec.initial_rates();
        State { step: 0, m: vec![0.0; rates.len()], v: vec![0.0; rates.len()], rates }
    }

    /// As clients see it.
    #[must_use]
    pub fn status(&self) -> SearchStatus {
        SearchStatus {
            search_id: self.id.clone(),
            state: self.state,
            step: self.optimizer.step,
            max_train_steps: self.max_steps(),
            rates: self.optimizer.rates.clone(),
            failure: self.failure.clone(),
            name: String::new(),
            workers: 0,
            created_ms: 0,
            networks: Vec::new(),
            best: None,
        }
    }

    /// What it is made of.
    #[must_use]
    pub fn spec(&self) -> &Arc<SearchSpec> {
        &self.update.spec
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> SearchState {
        self.state
    }

    /// Results refused so far, whatever the reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether workers are of use to it.
    #[must_use]
    pub fn wants_workers(&self) -> bool {
        matches!(self.state, SearchState::Preparing | SearchState::Running)
    }

    fn max_steps(&self) -> u64 {
        self.update.spec.options.max_train_steps
    }

    /// Takes in what happened, and says what is to be done.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Joined(worker) => {
                if self.wants_workers() && self.members.add(worker) {
                    out.push(Command::Prepare(worker));
                }
            }
            Event::Ready(worker) => self.ready(worker, &mut out),
            Event::Gone(worker) => {
                self.remove(worker, &mut out);
            }
            Event::Failed(worker, message) => self.failed(worker, message, &mut out),
            Event::Computed(worker, gradient) => self.computed(worker, gradient, &mut out),
            Event::Encoded(..) | Event::Evaluated(..) | Event::Abandoned(_) => {}
            Event::Overdue => self.assign(true, &mut out),
            Event::Committed => self.committed(&mut out),
            Event::NotCommitted(reason) => {
                // The step is computed again once the search is resumed, to the same numbers.
                if self.pending.take().is_some() && self.wants_workers() {
                    self.end(SearchState::Paused, Some(reason), &mut out);
                }
            }
        }
        out
    }

    /// Follows an order. One that is already followed is no error.
    ///
    /// # Errors
    /// [`Error::Order`] when the search's state does not allow it.
    pub fn order(&mut self, order: Order) -> Result<Vec<Command>, Error> {
        let mut out = Vec::new();
        if order.applies_to(self.state)? {
            match order {
                Order::Pause => self.end(SearchState::Paused, None, &mut out),
                Order::Resume => self.enter(SearchState::Preparing, None, &mut out),
                Order::Cancel => self.end(SearchState::Cancelled, None, &mut out),
            }
        }
        Ok(out)
    }

    fn enter(&mut self, state: SearchState, failure: Option<String>, out: &mut Vec<Command>) {
        self.state = state;
        self.failure.clone_from(&failure);
        out.push(Command::State(state, failure));
    }

    /// Enters a state in which nobody computes.
    fn end(&mut self, state: SearchState, failure: Option<String>, out: &mut Vec<Command>) {
        self.step = None;
        out.extend(self.members.drain().map(Command::Release));
        self.enter(state, failure, out);
    }

    fn ready(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        if !self.members.set_ready(worker) {
            return;
        }
        if self.state == SearchState::Preparing {
            self.enter(SearchState::Running, None, out);
        }
        if self.step.is_some() {
            out.push(self.rates_for(worker));
        } else if self.pending.is_none() {
            self.begin_step(out);
        }
        self.assign(false, out);
    }

    /// Whether the worker was a member.
    fn remove(&mut self, worker: WorkerId, out: &mut Vec<Command>) -> bool {
        if !self.members.remove(worker) {
            return false;
        }
        if let Some(step) = &mut self.step {
            step.ledger.remove(worker);
        }
        if self.state == SearchState::Running && self.members.ready().is_empty() {
            self.enter(SearchState::Preparing, None, out);
        }
        self.assign(false, out);
        true
    }

    /// A worker gives up, or is given up. The search goes on with the others, if there are any.
    fn failed(&mut self, worker: WorkerId, message: String, out: &mut Vec<Command>) {
        if !self.remove(worker, out) {
            return;
        }
        out.push(Command::Release(worker));
        if self.members.is_empty() {
            self.end(SearchState::Failed, Some(message), out);
        }
    }

    fn rates_for(&self, worker: WorkerId) -> Command {
        let rates = self.optimizer.rates.iter().map(|rate| *rate as f32).collect();
        Command::Rates(worker, Rates { search_id: self.id.clone(), step: self.optimizer.step, rates })
    }

    fn begin_step(&mut self, out: &mut Vec<Command>) {
        let microbatches = self.plan.step(self.optimizer.step);
        self.step = Some(Step { ledger: Ledger::new(microbatches.len()), microbatches });
        out.extend(self.members.ready().into_iter().map(|worker| self.rates_for(worker)));
    }

    /// Leases what there is: a first microbatch to every worker before a second to any.
    fn assign(&mut self, overdue: bool, out: &mut Vec<Command>) {
        let Some(Step { microbatches, ledger }) = self.step.as_mut().filter(|_| self.state == SearchState::Running)
        else {
            return;
        };
        let ready = self.members.ready();
        let (search_id, step) = (&self.id, self.optimizer.step);
        let mut lease = |worker, at: usize| {
            if let (Some(batch), Ok(microbatch)) = (microbatches.get(at), u32::try_from(at)) {
                let (search_id, batch) = (search_id.clone(), batch.clone());
                out.push(Command::Lease(worker, Lease { search_id, step, microbatch, batch }));
            }
        };
        for round in 0..MAX_LEASES {
            for &worker in &ready {
                if ledger.held(worker) == round
                    && let Some(at) = ledger.lease(worker, &ready)
                {
                    lease(worker, at);
                }
            }
        }
        for &worker in &ready {
            if let Some(at) = ledger.lease_again(worker, &ready, overdue) {
                lease(worker, at);
            }
        }
    }

    /// Makes the next rates once all results are there.
    fn finish_step(&mut self, out: &mut Vec<Command>) {
        let Some(Step { microbatches, ledger }) = &self.step else { return };
        let Some(results) = ledger.results() else { return };
        let samples: usize = microbatches.iter().map(|batch| batch.samples.len()).sum();
        let samples = u32::try_from(samples).unwrap_or(u32::MAX);
        match self.update.step(&self.optimizer, &results, samples) {
            Ok(commit) => {
                let commit = Arc::new(commit);
                self.step = None;
                self.pending = Some(Arc::clone(&commit));
                out.push(Command::Commit(commit));
            }
            Err(error) => self.end(SearchState::Failed, Some(error.to_string()), out),
        }
    }

    fn committed(&mut self, out: &mut Vec<Command>) {
        let Some(commit) = self.pending.take() else { return };
        self.optimizer.clone_from(&commit.state);
        out.push(Command::Publish(Arc::clone(&commit.record)));
        if self.state.is_over() {
            return;
        }
        if self.optimizer.step >= self.max_steps() {
            self.end(SearchState::Finished, None, out);
        } else if self.state == SearchState::Running {
            self.begin_step(out);
            self.assign(false, out);
        }
    }
}

#[cfg(test)]
mod tests;
