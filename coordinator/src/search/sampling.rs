//! The sample pictures of a search: when they are due, who samples them, and what they come to.
//!
//! They follow the evaluation of their step and never touch the trajectory: a picture that can't be sampled, or with
//! which workers are lost, is noted as such, and the search goes on.

use super::{Search, WorkerId};
use crate::ledger::Ledger;
use lora_rates_common::convert::SamplePicture;
use lora_rates_common::sampling::Options;
use lora_rates_common::spec::SearchSpec;
use std::sync::Arc;

/// Workers that may be lost while they sample a picture before it is given up.
const MAX_LOSSES: u32 = 3;

/// Which pictures there have been.
pub(super) struct Samplings {
    options: Options,
    /// The search's seed, for prompts without one.
    seed: u64,
    /// Steps done before the last ones.
    last: Option<u64>,
}

impl Samplings {
    /// Those of a search of which these are stored.
    pub(super) fn new(spec: &SearchSpec, last: Option<u64>) -> Self {
        Self { options: spec.sampling.clone(), seed: spec.options.seed, last }
    }

    /// Those of a step are stored.
    pub(super) fn done(&mut self, step: u64) {
        self.last = Some(step);
    }
}

/// The pictures of one step.
pub(super) struct Sampling {
    /// What they are sampled under.
    pub(super) rates: Vec<f32>,
    /// Each picture's digest, or why there is none.
    pub(super) ledger: Ledger<Result<String, String>>,
    seeds: Vec<u64>,
    /// Workers that were lost while they had this one in hand.
    losses: Vec<u32>,
}

impl Sampling {
    /// A worker is lost. It was busy with the oldest that it held: if that happens again and again, it is the picture's
    /// fault.
    pub(super) fn lose(&mut self, worker: WorkerId) {
        let Some(at) = self.ledger.leases.oldest(worker) else { return };
        let Some(losses) = self.losses.get_mut(at) else { return };
        *losses += 1;
        if *losses >= MAX_LOSSES {
            let why = format!("{losses} workers were lost while they sampled it; try a smaller picture");
            self.ledger.accept(at, Err(why));
        }
    }

    /// What a complete round comes to.
    pub(super) fn pictures(&self, step: u64) -> Arc<[SamplePicture]> {
        let results = self.ledger.results().unwrap_or_default();
        let pictures = (0..).zip(&self.seeds).zip(results);
        pictures.map(|((item, &seed), result)| SamplePicture { step, item, seed, result: result.clone() }).collect()
    }
}

impl Search {
    /// Whether pictures are to be sampled under the rates as they are.
    pub(super) fn is_sampling_due(&self) -> bool {
        let (step, samplings) = (self.optimizer.step, &self.samplings);
        let last = step >= self.max_steps() || self.validations.enough().is_some();
        samplings.options.is_due(step, last) && samplings.last.is_none_or(|last| last < step)
    }

    pub(super) fn begin_sampling(&self, workers: Vec<WorkerId>) -> Sampling {
        let Samplings { options, seed, .. } = &self.samplings;
        let seeds: Vec<u64> = options.prompts.iter().map(|prompt| prompt.seed.unwrap_or(*seed)).collect();
        let ledger = Ledger::new(seeds.len(), workers).once();
        Sampling { rates: self.rates().rates, ledger, losses: vec![0; seeds.len()], seeds }
    }
}
