//! One search's state machine: events go in, commands come out. No I/O, no clock, no tokio.
//!
//! A step's microbatches come from the plan. When all results are in, the next rates are computed and given to the
//! store; only what is committed is adopted, so a crash or a full disk at worst repeats a step, to the same numbers.
//! How many workers there are, and in what order they answer, never enters the numbers.

mod beginning;
mod event;
mod members;
mod results;
mod sampling;
mod update;
mod validations;
mod work;

pub use beginning::Beginning;
pub use event::{Command, Commit, Event, Order, Refusal, WorkerId};

use lora_rates_common::conclusion::{self, Change, Conclusion};
use lora_rates_common::convert::{SamplePicture, SearchState, SearchStatus, Validation};
use lora_rates_common::optimizer::State;
use lora_rates_common::plan::Plan;
use lora_rates_common::spec::{self, SearchSpec};
use members::Members;
use sampling::Samplings;
use std::collections::BTreeSet;
use std::sync::Arc;
use update::Update;
use validations::Validations;
use work::Work;

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

/// Computed, and not yet known to be stored.
enum Pending {
    Step(Arc<Commit>),
    Validation(Arc<Validation>),
    Pictures(Arc<[SamplePicture]>),
    Conclusion(Arc<Conclusion>),
}

impl Pending {
    /// Has it stored.
    fn store(&self) -> Command {
        match self {
            Self::Step(commit) => Command::Commit(Arc::clone(commit)),
            Self::Validation(validation) => Command::Validated(Arc::clone(validation)),
            Self::Pictures(pictures) => Command::Sampled(Arc::clone(pictures)),
            Self::Conclusion(conclusion) => Command::Concluded(Arc::clone(conclusion)),
        }
    }
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
    validations: Validations,
    samplings: Samplings,
    /// What was measured at its end.
    conclusion: Option<Arc<Conclusion>>,
    /// Encodings that it needs in all.
    encodings: usize,
    /// Those that are not there yet.
    missing: BTreeSet<(u32, bool)>,
    work: Option<Work>,
    pending: Option<Pending>,
    refused: u64,
}

impl Search {
    /// As clients see it, but for its name and when it was created, of which it knows nothing.
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
            workers: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            created_ms: 0,
            networks: self.update.spec.networks.iter().map(|network| network.name.clone()).collect(),
            best: self.validations.best(),
            conclusion: self.conclusion.clone(),
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
            Event::Ready(worker) => {
                if self.members.set_ready(worker) {
                    self.take_part(worker, &mut out);
                }
            }
            Event::Gone(worker) => self.gone(worker, &mut out),
            Event::Failed(worker, message) => self.failed(worker, message, &mut out),
            Event::Computed(worker, gradient) => self.computed(worker, gradient, &mut out),
            Event::Encoded(worker, encoded) => self.encoded(worker, &encoded, &mut out),
            Event::Evaluated(worker, evaluated) => self.evaluated(worker, evaluated, &mut out),
            Event::Drawn(worker, drawn) => self.drawn(worker, drawn, &mut out),
            Event::Overdue => self.fill_all(true, &mut out),
            Event::Abandoned(reason) => {
                if self.wants_workers() {
                    self.end(SearchState::Failed, Some(reason), &mut out);
                }
            }
            Event::Committed => self.committed(&mut out),
            Event::NotCommitted(reason) => {
                // It is computed again once the search is resumed, to the same numbers.
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
                Order::Resume => self.resume(&mut out),
                Order::Cancel => self.end(SearchState::Cancelled, None, &mut out),
            }
        }
        Ok(out)
    }

    fn resume(&mut self, out: &mut Vec<Command>) {
        match self.is_complete() {
            Some(reason) => self.enter(SearchState::Finished, reason, out),
            None => {
                self.enter(SearchState::Preparing, None, out);
                out.extend(self.progress().map(Command::Progress));
            }
        }
    }

    fn enter(&mut self, state: SearchState, failure: Option<String>, out: &mut Vec<Command>) {
        self.state = state;
        self.failure.clone_from(&failure);
        out.push(Command::State(state, failure));
    }

    /// Enters a state in which nobody computes.
    fn end(&mut self, state: SearchState, failure: Option<String>, out: &mut Vec<Command>) {
        self.work = None;
        out.extend(self.members.drain().map(Command::Release));
        self.enter(state, failure, out);
    }

    /// Whether nothing is left to do; then with the reason if it ends before its last step.
    fn is_complete(&self) -> Option<Option<String>> {
        let concluded = self.conclusion.is_some() || self.changes().is_empty();
        self.has_ended().filter(|_| concluded)
    }

    /// What is to be measured at the end.
    fn changes(&self) -> Vec<Change> {
        conclusion::changes(&self.update.spec.options, &self.optimizer.rates, &self.update.live)
    }

    /// Whether there are no more steps; then with the reason if that is before the last.
    fn has_ended(&self) -> Option<Option<String>> {
        let step = self.optimizer.step;
        if self.validations.due(step).is_some() || self.is_sampling_due() {
            None
        } else if step >= self.max_steps() {
            Some(None)
        } else {
            self.validations.enough().map(Some)
        }
    }

    /// Whether the worker was a member.
    fn remove(&mut self, worker: WorkerId) -> bool {
        let removed = self.members.remove(worker);
        if let (true, Some(work)) = (removed, &mut self.work) {
            work.remove(worker);
        }
        removed
    }

    /// The search goes on without a worker that it had.
    fn go_on(&mut self, out: &mut Vec<Command>) {
        if self.state == SearchState::Running && !self.members.any_ready() {
            self.enter(SearchState::Preparing, None, out);
        }
        if self.members.is_empty() {
            out.extend(self.progress().map(Command::Progress));
        }
        self.fill_all(false, out);
        // A picture may have been given up with the worker.
        self.finish_work(out);
    }

    fn gone(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        if self.remove(worker) {
            self.go_on(out);
        }
    }

    /// A worker gives up, or is given up. The search goes on with others, or waits for them.
    fn failed(&mut self, worker: WorkerId, message: String, out: &mut Vec<Command>) {
        if self.remove(worker) {
            out.push(Command::Expel(worker, message));
            self.go_on(out);
        }
    }

    fn committed(&mut self, out: &mut Vec<Command>) {
        match self.pending.take() {
            Some(Pending::Step(commit)) => {
                self.optimizer.clone_from(&commit.state);
                out.push(Command::Publish(Arc::clone(&commit.record)));
            }
            Some(Pending::Validation(validation)) => {
                self.validations.add(Arc::clone(&validation));
                out.push(Command::PublishValidation(validation));
            }
            Some(Pending::Pictures(pictures)) => {
                self.samplings.done(self.optimizer.step);
                out.extend(pictures.iter().map(|picture| Command::PublishPicture(Arc::new(picture.clone()))));
            }
            // The state that the search enters now tells of it.
            Some(Pending::Conclusion(conclusion)) => self.conclusion = Some(conclusion),
            None => return,
        }
        match self.is_complete() {
            Some(reason) if !self.state.is_over() => self.end(SearchState::Finished, reason, out),
            _ => self.begin_work(out),
        }
    }
}

#[cfg(test)]
mod tests;
