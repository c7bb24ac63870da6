//! What a search has its workers do: encode pictures, then evaluations, sample pictures and steps in turn.

use super::sampling::Sampling;
use super::{Command, Pending, Search, WorkerId};
use crate::ledger::{Leases, Ledger};
use lora_rates_common::conclusion::{self, Change};
use lora_rates_common::convert::{Draw, Encode, Evaluate, Gradient, Lease, PrepareProgress, Rates, SearchState};
use lora_rates_common::plan::Microbatch;
use lora_rates_common::validation::Losses;
use std::sync::Arc;

/// What is being done.
pub(super) enum Work {
    /// Pictures are encoded that no worker has encoded yet.
    Encoding(Encoding),
    /// The microbatches of a step.
    Step(Step),
    /// The held-out pictures.
    Evaluation(Evaluation),
    /// The sample pictures.
    Sampling(Sampling),
}

/// Pictures to encode, in order: their numbers, and whether they are mirrored.
pub(super) struct Encoding {
    pub(super) pictures: Vec<(u32, bool)>,
    pub(super) ledger: Ledger<()>,
}

/// A step.
pub(super) struct Step {
    pub(super) microbatches: Vec<Microbatch>,
    pub(super) ledger: Ledger<Gradient>,
}

/// An evaluation: all microbatches under the first rates, then under the next. Results are losses of samples.
pub(super) struct Evaluation {
    pub(super) microbatches: Arc<[Microbatch]>,
    pub(super) variants: Variants,
    pub(super) ledger: Ledger<Vec<f64>>,
}

/// The rates that are evaluated.
pub(super) enum Variants {
    /// After a step, with what they are compared with.
    Step(Vec<Vec<f32>>),
    /// At the end: what is done to the last ones. There may be very many.
    End(Vec<f64>, Vec<Change>),
}

impl Variants {
    fn len(&self) -> usize {
        match self {
            Self::Step(variants) => variants.len(),
            Self::End(_, changes) => changes.len(),
        }
    }

    fn get(&self, at: usize) -> Option<Vec<f32>> {
        match self {
            Self::Step(variants) => variants.get(at).cloned(),
            Self::End(rates, changes) => Some(changes.get(at)?.of(rates).into_iter().map(|rate| rate as f32).collect()),
        }
    }
}

impl Evaluation {
    /// Of all samples under all of these rates.
    fn new(microbatches: Arc<[Microbatch]>, variants: Variants, workers: Vec<WorkerId>) -> Self {
        let ledger = Ledger::new(microbatches.len() * variants.len(), workers);
        Self { microbatches, variants, ledger }
    }

    /// The rates and samples of an item.
    pub(super) fn item(&self, at: usize) -> Option<(Vec<f32>, &Microbatch)> {
        let count = self.microbatches.len();
        let variant = at.checked_div(count)?;
        Some((self.variants.get(variant)?, self.microbatches.get(at % count)?))
    }

    /// What it comes to under each of the rates, once all results are there.
    pub(super) fn losses(&self) -> Vec<Losses> {
        let results = self.ledger.results().unwrap_or_default();
        let of_variant = results.chunks(self.microbatches.len().max(1));
        of_variant.map(|results| Losses::new(&self.microbatches, results.iter().copied().flatten())).collect()
    }
}

impl Work {
    /// Who has what of it.
    pub(super) fn leases(&mut self) -> &mut Leases {
        match self {
            Self::Encoding(work) => &mut work.ledger.leases,
            Self::Step(work) => &mut work.ledger.leases,
            Self::Evaluation(work) => &mut work.ledger.leases,
            Self::Sampling(work) => &mut work.ledger.leases,
        }
    }

    /// A worker is lost: all that it held is free.
    pub(super) fn remove(&mut self, worker: WorkerId) {
        if let Self::Sampling(work) = self {
            work.lose(worker);
        }
        self.leases().remove(worker);
    }

    /// What is told to a worker that is leased an item.
    fn lease(&self, search_id: &str, step: u64, worker: WorkerId, at: usize) -> Option<Command> {
        let (search_id, number) = (search_id.to_owned(), u32::try_from(at).ok()?);
        Some(match self {
            Self::Encoding(work) => {
                let &(image, flip) = work.pictures.get(at)?;
                Command::Encode(worker, Encode { search_id, image, flip })
            }
            Self::Step(work) => {
                let batch = work.microbatches.get(at)?.clone();
                Command::Lease(worker, Lease { search_id, step, microbatch: number, batch })
            }
            Self::Evaluation(work) => {
                let (rates, batch) = work.item(at)?;
                let batch = batch.clone();
                Command::Evaluate(worker, Evaluate { search_id, step, item: number, rates, batch })
            }
            Self::Sampling(work) => {
                Command::Draw(worker, Draw { search_id, step, item: number, rates: work.rates.clone() })
            }
        })
    }
}

impl Search {
    /// Begins what comes next, if there is a worker for it and nothing waits for the store.
    pub(super) fn begin_work(&mut self, out: &mut Vec<Command>) {
        let workers = self.members.ready();
        if workers.is_empty() || self.work.is_some() || self.pending.is_some() || !self.wants_workers() {
            return;
        }
        if !self.missing.is_empty() {
            let pictures: Vec<_> = self.missing.iter().copied().collect();
            let ledger = Ledger::new(pictures.len(), workers).once();
            self.work = Some(Work::Encoding(Encoding { pictures, ledger }));
            out.extend(self.progress().map(Command::Progress));
            return self.fill_all(false, out);
        }
        if self.state == SearchState::Preparing {
            self.enter(SearchState::Running, None, out);
        }
        if let Some(microbatches) = self.validations.due(self.optimizer.step) {
            let variants = self.validations.variants(&self.optimizer.rates, &self.update.live);
            let variants = Variants::Step(variants);
            self.work = Some(Work::Evaluation(Evaluation::new(microbatches, variants, workers)));
        } else if self.is_sampling_due() {
            self.work = Some(Work::Sampling(self.begin_sampling(workers)));
        } else if self.has_ended().is_some() {
            let variants = Variants::End(self.optimizer.rates.clone(), self.changes());
            let evaluation = Evaluation::new(self.validations.microbatches(), variants, workers);
            self.work = Some(Work::Evaluation(evaluation));
            out.push(Command::Progress(progress("measuring what the rates are worth", 0, 0)));
        } else {
            let rates = self.rates();
            out.extend(workers.iter().map(|worker| Command::Rates(*worker, rates.clone())));
            let microbatches = self.plan.step(self.optimizer.step);
            let ledger = Ledger::new(microbatches.len(), workers);
            self.work = Some(Work::Step(Step { microbatches, ledger }));
        }
        self.fill_all(false, out);
    }

    /// A worker takes part from now on.
    pub(super) fn take_part(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        if self.work.is_none() {
            return self.begin_work(out);
        }
        if self.state == SearchState::Preparing && self.missing.is_empty() {
            self.enter(SearchState::Running, None, out);
        }
        if let Some(Work::Step(_)) = &self.work {
            out.push(Command::Rates(worker, self.rates()));
        }
        if let Some(work) = &mut self.work {
            work.leases().add(worker);
        }
        self.fill(worker, out);
    }

    /// What workers compute a step under.
    pub(super) fn rates(&self) -> Rates {
        let rates = self.optimizer.rates.iter().map(|rate| *rate as f32).collect();
        Rates { search_id: self.id.clone(), step: self.optimizer.step, rates }
    }

    /// Leases to this worker all that it can have.
    pub(super) fn fill(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        let Some(work) = &mut self.work else { return };
        let leased = work.leases().fill(worker);
        out.extend(leased.into_iter().filter_map(|at| work.lease(&self.id, self.optimizer.step, worker, at)));
    }

    /// Leases to everyone what there is.
    pub(super) fn fill_all(&mut self, overdue: bool, out: &mut Vec<Command>) {
        let Some(work) = &mut self.work else { return };
        let leased = work.leases().fill_all(overdue);
        let lease = |(worker, at)| work.lease(&self.id, self.optimizer.step, worker, at);
        out.extend(leased.into_iter().filter_map(lease));
    }

    /// Goes on once all results are there.
    pub(super) fn finish_work(&mut self, out: &mut Vec<Command>) {
        if self.work.as_mut().is_none_or(|work| work.leases().missing() > 0) {
            return;
        }
        let done = match self.work.take() {
            Some(Work::Step(step)) => self.finish_step(&step),
            Some(Work::Sampling(sampling)) => Ok(Pending::Pictures(sampling.pictures(self.optimizer.step))),
            Some(Work::Evaluation(evaluation)) => match &evaluation.variants {
                Variants::Step(_) => {
                    let validation = self.validations.validation(&self.optimizer, &evaluation);
                    validation.map(|it| Pending::Validation(Arc::new(it)))
                }
                Variants::End(rates, changes) => {
                    let options = &self.update.spec.options;
                    let conclusion = conclusion::conclude(options, rates, changes, &evaluation.losses());
                    Ok(Pending::Conclusion(Arc::new(conclusion)))
                }
            },
            Some(Work::Encoding(_)) | None => return self.begin_work(out),
        };
        match done {
            Ok(pending) => {
                out.push(pending.store());
                self.pending = Some(pending);
            }
            Err(error) => self.end(SearchState::Failed, Some(error.to_string()), out),
        }
    }

    /// Makes the next rates.
    fn finish_step(&self, step: &Step) -> Result<Pending, super::update::Error> {
        let samples: usize = step.microbatches.iter().map(|batch| batch.samples.len()).sum();
        let samples = u32::try_from(samples).unwrap_or(u32::MAX);
        let results = step.ledger.results().unwrap_or_default();
        let commit = self.update.step(&self.optimizer, &results, samples)?;
        Ok(Pending::Step(Arc::new(commit)))
    }

    /// What the search waits for before its first step: a worker, or its pictures' encodings.
    #[must_use]
    pub fn progress(&self) -> Option<PrepareProgress> {
        if !self.wants_workers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(progress("waiting for a worker", 0, 0));
        }
        let encoding = matches!(self.work, Some(Work::Encoding(_)));
        let done = self.encodings.saturating_sub(self.missing.len());
        encoding.then(|| progress("encoding pictures", done, self.encodings))
    }
}

/// What all of them together are busy with.
fn progress(activity: &str, done: usize, total: usize) -> PrepareProgress {
    PrepareProgress {
        worker: String::new(),
        activity: activity.to_owned(),
        done: u32::try_from(done).unwrap_or(u32::MAX),
        total: u32::try_from(total).unwrap_or(u32::MAX),
    }
}
