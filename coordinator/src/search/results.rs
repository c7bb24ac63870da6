//! Which results count, and what becomes of a worker or a microbatch whose results do not.

use super::{Command, Refusal, Search, WorkerId};
use lora_rates_common::convert::{Gradient, SearchState};
use lora_rates_common::spec::Precision;

/// Unusable results, of one microbatch or of one worker, after which it is given up.
const MAX_FAULTS: usize = 3;

impl Search {
    /// Takes in a worker's result.
    pub(super) fn computed(&mut self, worker: WorkerId, gradient: Gradient, out: &mut Vec<Command>) {
        let at = gradient.microbatch as usize;
        match self.check(worker, &gradient) {
            Ok(()) => {
                if let Some(step) = &mut self.step {
                    step.ledger.accept(at, gradient);
                }
            }
            Err(refusal) => {
                self.refused += 1;
                let fault = refusal.is_fault();
                out.push(Command::Refused(worker, refusal.clone()));
                if fault {
                    self.fault(worker, at, &refusal, out);
                }
            }
        }
        self.assign(false, out);
        self.finish_step(out);
    }

    /// Whether a result counts. Its lease is over either way.
    fn check(&mut self, worker: WorkerId, gradient: &Gradient) -> Result<(), Refusal> {
        let (current, rates) = (self.optimizer.step, self.optimizer.rates.len());
        let step = self.step.as_mut().ok_or(Refusal::NotRunning)?;
        if gradient.step != current {
            return Err(Refusal::Step { found: gradient.step, current });
        }
        let at = gradient.microbatch as usize;
        step.ledger.returned(worker, at)?;
        let samples = step.microbatches.get(at).map_or(0, |batch| batch.samples.len());
        let parts = [("mse", &gradient.mse, samples), ("gradient", &gradient.gradient, rates)];
        for (what, numbers, expected) in parts {
            if numbers.len() != expected {
                return Err(Refusal::Shape { what, found: numbers.len(), expected });
            }
        }
        if !gradient.loss.is_finite() {
            return Err(Refusal::NotFinite("its loss"));
        }
        match parts.into_iter().find(|(_, numbers, _)| numbers.iter().any(|number| !number.is_finite())) {
            Some((what, ..)) => Err(Refusal::NotFinite(what)),
            None => Ok(()),
        }
    }

    /// A worker returned something unusable: others try the microbatch, and neither is tried forever.
    fn fault(&mut self, worker: WorkerId, at: usize, refusal: &Refusal, out: &mut Vec<Command>) {
        let spoiled = self.step.as_mut().map_or(0, |step| step.ledger.spoiled(worker, at));
        let by_worker = self.members.fault(worker) as usize;
        if spoiled < MAX_FAULTS && by_worker < MAX_FAULTS {
            return;
        }
        let advice = match self.update.spec.options.mixed_precision {
            Precision::Bf16 => "try --mixed_precision no; if it stays, the checkpoint or a network is damaged",
            Precision::F32 => "the checkpoint or a network is damaged, or the learning rate is too high",
        };
        let step = self.optimizer.step;
        let message = format!(
            "results were unusable {MAX_FAULTS} times, the last that of microbatch {at} of step {step}: {refusal}; {advice}"
        );
        if spoiled >= MAX_FAULTS {
            self.end(SearchState::Failed, Some(message), out);
        } else {
            self.failed(worker, message, out);
        }
    }
}
