//! What becomes of a search's steps: history, saved rates, and in the end the report.

use super::watch::End;
use crate::failure::Failure;
use crate::output::report::{Report, StepReport};
use crate::output::stdout::print;
use crate::output::{NetworkRates, block_weight, table, weights};
use crate::progress::note;
use crate::settings::Settings;
use anyhow::{Context as _, anyhow};
use lora_rates_common::convert::StepRecord;
use lora_rates_common::spec::SearchSpec;
use std::fmt::Write as _;
use std::path::PathBuf;

/// A finished search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What was searched.
    pub spec: SearchSpec,
    /// The 20 N rates.
    pub rates: Vec<f64>,
    /// What every step came to.
    pub history: Vec<StepReport>,
    /// The file of rates.
    pub weights: PathBuf,
    /// The report.
    pub report: PathBuf,
}

/// Collects what a search comes to.
#[derive(Debug)]
pub(super) struct Results {
    output_dir: PathBuf,
    output_name: String,
    save_every: Option<u64>,
    spec: SearchSpec,
    rates: Vec<f64>,
    history: Vec<StepReport>,
}

impl Results {
    /// For a search that has made no step yet.
    pub(super) fn new(settings: &Settings, spec: SearchSpec) -> Self {
        let (output_dir, output_name) = (settings.output_dir.clone(), settings.output_name.clone());
        let rates = spec.initial_rates();
        Self { output_dir, output_name, save_every: settings.save_every_n_steps, spec, rates, history: Vec::new() }
    }

    /// Takes in a step; saves its rates if it is time for that.
    ///
    /// # Errors
    /// The rates can't be saved.
    pub(super) fn add(&mut self, record: &StepRecord) -> Result<(), Failure> {
        self.history.push(record.into());
        self.rates.clone_from(&record.rates);
        if self.save_every.is_some_and(|every| record.step.is_multiple_of(every)) {
            let path = self.path(&format!("-step{:08}.safetensors", record.step));
            weights::save(&path, &record.rates)?;
        }
        Ok(())
    }

    /// Writes and prints the rates as they are.
    ///
    /// # Errors
    /// A file can't be written; [`Failure::Interrupted`] if the user stopped the search, after all is written.
    pub(super) fn write(self, end: End) -> Result<Outcome, Failure> {
        let (step, steps) = (self.history.len(), self.spec.options.max_train_steps);
        let failed = |why: &str| Failure::Run(anyhow!("the search failed at step {step} of {steps}: {why}"));
        match end {
            End::Failed(why) if step == 0 => return Err(failed(&why)),
            End::Failed(why) => {
                self.save(false)?;
                return Err(failed(&why));
            }
            End::Finished | End::Stopped => {}
        }
        let (weights, report) = self.save(end == End::Finished)?;
        let networks = NetworkRates::of(&self.spec.networks, &self.rates);
        print(&format!("{}{}", table::table(&networks), lines(&networks)))?;
        if end == End::Stopped {
            note(&format!("stopped at step {step} of {steps}; the same command with --resume goes on from there"));
            return Err(Failure::Interrupted);
        }
        let Self { spec, rates, history, .. } = self;
        Ok(Outcome { spec, rates, history, weights, report })
    }

    /// Writes the rates and the report, and says where.
    fn save(&self, finished: bool) -> Result<(PathBuf, PathBuf), Failure> {
        let (weights, report) = (self.path(".safetensors"), self.path(".json"));
        weights::save(&weights, &self.rates)?;
        let content = Report::new(&self.spec, finished, &self.rates, self.history.clone());
        content.save(&report).with_context(|| format!("can't write {}; check --output_dir", report.display()))?;
        note(&format!("wrote {} and {}", weights.display(), report.display()));
        Ok((weights, report))
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.output_dir.join(format!("{}{ending}", self.output_name))
    }
}

/// For each network the line of the reference and that of other programs.
fn lines(networks: &[NetworkRates<'_>]) -> String {
    let mut text = String::new();
    for (number, network) in networks.iter().enumerate() {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", block_weight::reference_line(number, network));
    }
    for network in networks {
        let _ = writeln!(text, "{}", block_weight::preset(network));
    }
    text
}
