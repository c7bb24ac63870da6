//! What becomes of a search's steps: history, saved rates, and in the end the report.

use super::follow::End;
use crate::failure::Failure;
use crate::output::listing::terminal_width;
use crate::output::report::{Report, StepReport};
use crate::output::stdout::print;
use crate::output::{ConclusionReport, NetworkRates, Subject, Validations, block_weight, json, table, weights};
use crate::progress::note;
use anyhow::{Context as _, anyhow};
use lora_rates_common::conclusion::Conclusion;
use lora_rates_common::convert::{StepRecord, Validation};
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// A finished search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps that were made.
    pub step: u64,
    /// The 20 N rates after the last of them.
    pub rates: Vec<f64>,
    /// What every step came to.
    pub history: Vec<StepReport>,
    /// The measurements on held-out pictures.
    pub validations: Validations,
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// The sample pictures, in their order.
    pub pictures: Vec<PathBuf>,
}

/// Where results are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The folder.
    pub(crate) output_dir: PathBuf,
    /// What the files' names begin with.
    pub(crate) output_name: String,
    /// Save the rates every so many steps.
    pub(crate) save_every: Option<u64>,
}

impl Place {
    /// Makes the folder, if it is missing.
    ///
    /// # Errors
    /// The operating system refuses.
    fn make(&self) -> anyhow::Result<()> {
        let folder = &self.output_dir;
        std::fs::create_dir_all(folder).with_context(|| format!("can't make {}; check --output_dir", folder.display()))
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.output_dir.join(format!("{}{ending}", self.output_name))
    }
}

/// Collects what a search comes to.
#[derive(Debug)]
pub(crate) struct Results {
    subject: Subject,
    /// None: nothing is written.
    place: Option<Place>,
    /// Whether standard output is for JSON.
    json: bool,
    rates: Vec<f64>,
    history: Vec<StepReport>,
    validations: Validations,
    pictures: Vec<PathBuf>,
    conclusion: Option<Arc<Conclusion>>,
}

impl Results {
    /// For a search of which nothing is known but what it begins with.
    pub(crate) fn new(subject: impl Into<Subject>, rates: Vec<f64>, place: Option<Place>, json: bool) -> Self {
        let (history, validations, pictures) = Default::default();
        Self { subject: subject.into(), place, json, rates, history, validations, pictures, conclusion: None }
    }

    /// Whether standard output is for JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Takes in a step; saves its rates if it is time for that.
    ///
    /// # Errors
    /// The rates can't be saved.
    pub(crate) fn add(&mut self, record: &StepRecord) -> Result<(), Failure> {
        self.history.push(record.into());
        self.rates.clone_from(&record.rates);
        let due = |place: &&Place| place.save_every.is_some_and(|every| record.step.is_multiple_of(every));
        if let Some(place) = self.place.as_ref().filter(due) {
            place.make()?;
            weights::save(&place.path(&format!("-step{:08}.safetensors", record.step)), &record.rates)?;
        }
        Ok(())
    }

    /// Takes in a measurement on the held-out pictures. Returns whether it is the best so far.
    pub(crate) fn add_validation(&mut self, validation: &Arc<Validation>) -> bool {
        self.validations.add(Arc::clone(validation));
        self.validations.best().is_some_and(|best| best.step == validation.step)
    }

    /// Where a sample picture goes, if anything is written: of this step, prompt and seed.
    pub(crate) fn picture_path(&self, step: u64, item: u32, seed: u64) -> Option<PathBuf> {
        let Place { output_dir, output_name, .. } = self.place.as_ref()?;
        Some(output_dir.join("sample").join(format!("{output_name}_{step:06}_{item:02}_{seed}.png")))
    }

    /// Takes in a sample picture. Returns whether it is new: after a break, the last ones are told of again.
    pub(crate) fn add_picture(&mut self, path: PathBuf) -> bool {
        let new = !self.pictures.contains(&path);
        if new {
            self.pictures.push(path);
        }
        new
    }

    /// Takes in what was measured at the end.
    pub(crate) fn conclude(&mut self, conclusion: &Arc<Conclusion>) {
        self.conclusion = Some(Arc::clone(conclusion));
    }

    /// Writes and prints the rates as they are.
    ///
    /// # Errors
    /// A file can't be written; [`Failure::Interrupted`] if the user stopped the search or no longer follows it, after
    /// all is written.
    pub(crate) fn write(self, end: End) -> Result<Outcome, Failure> {
        let (step, steps) = (self.history.last().map_or(0, |record| record.step), self.subject.steps());
        let early = match end {
            End::Detached => return Err(Failure::Interrupted),
            End::Broken { what, why } => {
                if step > 0 {
                    self.save(false, None)?;
                }
                return Err(Failure::Run(anyhow!("the search {what} at step {step} of {steps}: {why}")));
            }
            End::Stopped => {
                self.save(false, None)?;
                self.print()?;
                note(&format!("stopped at step {step} of {steps}; the same command with --resume goes on from there"));
                return Err(Failure::Interrupted);
            }
            End::Finished(early) => early,
        };
        if let Some(early) = &early {
            note(early);
        }
        let files = self.save(true, early)?;
        self.print()?;
        let Self { rates, history, validations, pictures, .. } = self;
        Ok(Outcome { step, rates, history, validations, files, pictures })
    }

    /// Writes the rates and the report, and says where.
    fn save(&self, finished: bool, early: Option<String>) -> Result<Vec<PathBuf>, Failure> {
        let Some(place) = &self.place else { return Ok(Vec::new()) };
        place.make()?;
        let (weights, report) = (place.path(".safetensors"), place.path(".json"));
        weights::save(&weights, &self.rates)?;
        let mut files = vec![weights];
        if let Some(best) = self.validations.best() {
            let path = place.path("-best.safetensors");
            weights::save(&path, &best.rates)?;
            files.push(path);
        }
        if let Some(pruned) = self.conclusion.as_deref().and_then(|it| it.pruned.as_ref()) {
            let path = place.path("-pruned.safetensors");
            weights::save(&path, pruned)?;
            files.push(path);
        }
        let mut content = Report::new(&self.subject, finished, &self.rates, self.history.clone(), &self.validations);
        content.stopped_early = early;
        content.conclusion = self.conclusion.as_deref().map(|it| ConclusionReport::new(&self.subject, it));
        content.save(&report).with_context(|| format!("can't write {}; check --output_dir", report.display()))?;
        files.push(report);
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        note(&format!("wrote {}", and(&names)));
        if self.json {
            json::line(&json!({ "event": "written", "finished": finished, "files": names }))?;
        }
        Ok(files)
    }

    /// The rates, how they compare, and the lines for other programs, on standard output unless that is for JSON.
    fn print(&self) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let networks = self.subject.with_rates(&self.rates);
        let width = terminal_width();
        let mut text = table::table(&networks, width);
        let comparison = self.validations.table();
        let last = self.history.last().map_or(0, |record| record.step);
        if let Some(best) = self.validations.best().filter(|best| best.step != last) {
            let networks = self.subject.with_rates(&best.rates);
            // Writing to a String can't fail.
            let _ = write!(text, "best, after step {}\n{}", best.step, table::table(&networks, width));
            text += &comparison;
            let _ = writeln!(text, "{}best, after step {}", lines(&self.subject.with_rates(&self.rates)), best.step);
            text += &lines(&networks);
        } else {
            text += &comparison;
            text += &lines(&networks);
        }
        if let Some(conclusion) = &self.conclusion {
            text += &ConclusionReport::new(&self.subject, conclusion).text();
            if let Some(pruned) = &conclusion.pruned {
                let networks = self.subject.with_rates(pruned);
                // Writing to a String can't fail.
                let _ = write!(text, "pruned\n{}{}", table::table(&networks, width), lines(&networks));
            }
        }
        Ok(print(&text)?)
    }
}

/// `a`, `a and b`, `a, b and c`.
fn and(names: &[String]) -> String {
    match names {
        [names @ .., last] if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        names => names.join(""),
    }
}

/// For each network the line of the reference and that of other programs.
pub(crate) fn lines(networks: &[NetworkRates<'_>]) -> String {
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
