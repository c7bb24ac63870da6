//! Which results count, and what becomes of a worker or an item whose results do not.

use super::work::Work;
use super::{Command, Refusal, Search, WorkerId};
use crate::ledger;
use lora_rates_common::convert::{Drawn, Encoded, Evaluated, Gradient, SearchState};
use lora_rates_common::spec::Precision;

/// Unusable results, of one item or of one worker, after which it is given up.
const MAX_FAULTS: usize = 3;

impl Search {
    /// A worker returns a microbatch.
    pub(super) fn computed(&mut self, worker: WorkerId, gradient: Gradient, out: &mut Vec<Command>) {
        let at = gradient.microbatch as usize;
        let own = self.check_search(&gradient.search_id);
        let result = own.and_then(|()| self.take_gradient(worker, at, gradient));
        self.taken(worker, at, result, out);
    }

    /// A worker has encoded a picture.
    pub(super) fn encoded(&mut self, worker: WorkerId, encoded: &Encoded, out: &mut Vec<Command>) {
        let all = self.encodings.max(1);
        let percent = |missing: usize| all.saturating_sub(missing) * 100 / all;
        let before = percent(self.missing.len());
        let own = self.check_search(&encoded.search_id);
        let result = own.and_then(|()| self.take_encoding(worker, (encoded.image, encoded.flip)));
        // A search may have very many pictures.
        if percent(self.missing.len()) > before {
            out.extend(self.progress().map(Command::Progress));
        }
        self.taken(worker, 0, result, out);
    }

    /// A worker returns an evaluation.
    pub(super) fn evaluated(&mut self, worker: WorkerId, evaluated: Evaluated, out: &mut Vec<Command>) {
        let at = evaluated.item as usize;
        let own = self.check_search(&evaluated.search_id);
        let result = own.and_then(|()| self.take_losses(worker, at, evaluated));
        self.taken(worker, at, result, out);
    }

    /// A worker has sampled a picture, or could not: that is a result too.
    pub(super) fn drawn(&mut self, worker: WorkerId, drawn: Drawn, out: &mut Vec<Command>) {
        let at = drawn.item as usize;
        let own = self.check_search(&drawn.search_id);
        let result = own.and_then(|()| self.take_picture(worker, at, drawn));
        self.taken(worker, at, result, out);
    }

    /// What follows from a result that counts, or from one that does not.
    fn taken(&mut self, worker: WorkerId, at: usize, result: Result<(), Refusal>, out: &mut Vec<Command>) {
        if let Err(refusal) = result {
            self.refused += 1;
            out.push(Command::Refused(worker, refusal.clone()));
            if refusal.is_fault() {
                self.fault(worker, at, &refusal, out);
                return self.fill_all(false, out);
            }
        }
        // Nothing has become free for anyone else.
        self.fill(worker, out);
        self.finish_work(out);
    }

    fn check_search(&self, id: &str) -> Result<(), Refusal> {
        if id == self.id { Ok(()) } else { Err(Refusal::Foreign) }
    }

    /// Counts a gradient. Its lease is over either way.
    fn take_gradient(&mut self, worker: WorkerId, at: usize, gradient: Gradient) -> Result<(), Refusal> {
        let (current, rates) = (self.optimizer.step, self.optimizer.rates.len());
        let Some(Work::Step(step)) = &mut self.work else { return Err(Refusal::NotRunning) };
        if gradient.step != current {
            return Err(Refusal::Step { found: gradient.step, current });
        }
        step.ledger.leases.returned(worker, at)?;
        let samples = step.microbatches.get(at).map_or(0, |batch| batch.samples.len());
        check("mse", &gradient.mse, samples)?;
        check("gradient", &gradient.gradient, rates)?;
        check("its loss", &[gradient.loss], 1)?;
        step.ledger.accept(at, gradient);
        Ok(())
    }

    /// Counts an encoding.
    fn take_encoding(&mut self, worker: WorkerId, picture: (u32, bool)) -> Result<(), Refusal> {
        let Some(Work::Encoding(encoding)) = &mut self.work else { return Err(Refusal::NotRunning) };
        let at = encoding.pictures.binary_search(&picture).map_err(|_| ledger::Error::NotLeased)?;
        encoding.ledger.leases.returned(worker, at)?;
        encoding.ledger.accept(at, ());
        self.missing.remove(&picture);
        Ok(())
    }

    /// Counts the losses of an evaluation. Its lease is over either way.
    fn take_losses(&mut self, worker: WorkerId, at: usize, evaluated: Evaluated) -> Result<(), Refusal> {
        let current = self.optimizer.step;
        let Some(Work::Evaluation(evaluation)) = &mut self.work else { return Err(Refusal::NotRunning) };
        if evaluated.step != current {
            return Err(Refusal::Step { found: evaluated.step, current });
        }
        evaluation.ledger.leases.returned(worker, at)?;
        let samples = evaluation.item(at).map_or(0, |(_, batch)| batch.samples.len());
        check("losses", &evaluated.losses, samples)?;
        evaluation.ledger.accept(at, evaluated.losses);
        Ok(())
    }

    /// Counts a picture. Its lease is over either way.
    fn take_picture(&mut self, worker: WorkerId, at: usize, drawn: Drawn) -> Result<(), Refusal> {
        let current = self.optimizer.step;
        let Some(Work::Sampling(sampling)) = &mut self.work else { return Err(Refusal::NotRunning) };
        if drawn.step != current {
            return Err(Refusal::Step { found: drawn.step, current });
        }
        sampling.ledger.leases.returned(worker, at)?;
        sampling.ledger.accept(at, drawn.result);
        Ok(())
    }

    /// A worker returned something unusable: others try the item, and neither is tried forever.
    fn fault(&mut self, worker: WorkerId, at: usize, refusal: &Refusal, out: &mut Vec<Command>) {
        let what = if let Some(Work::Evaluation(_)) = &self.work { "evaluation" } else { "microbatch" };
        // As long as a worker is there that has not tried it, several others may merely be broken.
        let is_hopeless = self.work.as_mut().is_some_and(|work| {
            let leases = work.leases();
            leases.spoiled(worker, at) >= MAX_FAULTS && !leases.has_hope(at)
        });
        let by_worker = self.members.fault(worker) as usize;
        if !is_hopeless && by_worker < MAX_FAULTS {
            return;
        }
        let advice = match self.update.spec.options.mixed_precision {
            Precision::Bf16 => "try --mixed_precision no; if it stays, the checkpoint or a network is damaged",
            Precision::F32 => "the checkpoint or a network is damaged, or the learning rate is too high",
        };
        let step = self.optimizer.step;
        let message = format!(
            "results were unusable {MAX_FAULTS} times, the last that of {what} {at} of step {step}: {refusal}; {advice}"
        );
        if is_hopeless {
            self.end(SearchState::Failed, Some(message), out);
        } else {
            self.failed(worker, message, out);
        }
    }
}

/// Whether there are so many numbers, and all are finite.
fn check(what: &'static str, numbers: &[f64], expected: usize) -> Result<(), Refusal> {
    if numbers.len() != expected {
        return Err(Refusal::Shape { what, found: numbers.len(), expected });
    }
    // Without an early exit it takes a fraction of the time.
    let finite = numbers.iter().fold(true, |finite, number| finite & number.is_finite());
    if finite { Ok(()) } else { Err(Refusal::NotFinite(what)) }
}
