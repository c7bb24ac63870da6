//! What was measured at the end of a search: rates that can be left out, and rates that the data don't determine.

use super::Subject;
use super::report::{NetworkReport, networks};
use lora_rates_common::block::{BLOCKS, Block};
use lora_rates_common::conclusion::{Conclusion, Curvature, Trial};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A conclusion, by the names of networks and blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConclusionReport {
    /// Held-out loss of the rates that the search ended with.
    pub loss: f64,
    /// Of the loss.
    pub standard_error: f64,
    /// The thresholds that were tried, the largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prune: Vec<Trial>,
    /// The result of pruning: the rates with those set to 0 that are not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Vec<NetworkReport>>,
    /// How the held-out loss bends with each rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curvature: Vec<CurvatureReport>,
    /// Below it, or below two standard errors, the data don't determine a rate.
    pub curvature_bound: f64,
    /// Blocks of each network whose rates the data don't determine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_determined: BTreeMap<String, Vec<String>>,
}

/// Of one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvatureReport {
    /// Name of the network.
    pub network: String,
    /// Name of the block.
    pub block: String,
    /// Per square of the rate.
    pub curvature: f64,
    /// Over the held-out pictures.
    pub standard_error: f64,
    /// Whether the data determine the rate.
    pub determined: bool,
}

impl ConclusionReport {
    /// A conclusion about this search.
    pub fn new(subject: &Subject, conclusion: &Conclusion) -> Self {
        let mut not_determined: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let curvature: Vec<CurvatureReport> =
            conclusion.curvatures.iter().filter_map(|of_slot| named(subject, of_slot)).collect();
        for it in curvature.iter().filter(|it| !it.determined) {
            not_determined.entry(it.network.clone()).or_default().push(it.block.clone());
        }
        Self {
            loss: conclusion.loss,
            standard_error: conclusion.standard_error,
            prune: conclusion.trials.clone(),
            pruned: conclusion.pruned.as_ref().map(|rates| networks(subject, rates)),
            curvature,
            curvature_bound: conclusion.curvature_bound,
            not_determined,
        }
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Self { loss, standard_error, curvature_bound, .. } = self;
        // Writing to a String can't fail.
        if !self.prune.is_empty() {
            let _ = writeln!(text, "pruned, held-out loss {loss:.5} ± {standard_error:.5} before");
        }
        for trial in &self.prune {
            let Trial { threshold, removed, loss, standard_error, rise, rise_error, .. } = trial;
            let rates = if *removed == 1 { "rate" } else { "rates" };
            let _ = writeln!(
                text,
                "  {removed} {rates} below {threshold} to 0: {loss:.5} ± {standard_error:.5}, {rise:+.5} ± \
                 {rise_error:.5}: {}",
                if trial.is_harmless() { "not needed" } else { "needed" },
            );
        }
        if !self.prune.is_empty() && self.pruned.is_none() {
            text += "  nothing is pruned: every threshold lets the loss rise\n";
        }
        if !self.curvature.is_empty() {
            let determined = self.curvature.iter().filter(|it| it.determined).count();
            let _ = writeln!(
                text,
                "the data determine {determined} of {} rates (curvature of the held-out loss of at least \
                 {curvature_bound} and two standard errors)",
                self.curvature.len()
            );
        }
        for (network, blocks) in &self.not_determined {
            let _ = writeln!(text, "  not determined, {network}: {}", blocks.join(" "));
        }
        text
    }
}

fn named(subject: &Subject, of_slot: &Curvature) -> Option<CurvatureReport> {
    let Curvature { slot, curvature, standard_error, determined } = *of_slot;
    let slot = usize::try_from(slot).ok()?;
    let network = subject.networks.get(slot / BLOCKS)?.name.clone();
    let block = Block::all().nth(slot % BLOCKS)?.name().to_owned();
    Some(CurvatureReport { network, block, curvature, standard_error, determined })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_named_and_what_is_not_determined_is_said() {
        let subject = Subject::named([("a".to_owned(), "0".into()), ("b".to_owned(), "1".into())], 1);
        let trial = |threshold, rise| Trial {
            threshold,
            removed: 2,
            loss: 0.5 + rise,
            standard_error: 0.1,
            rise,
            rise_error: 0.01,
            saved: 0.001,
        };
        let curvature = |slot, determined| Curvature { slot, curvature: 0.25, standard_error: 0.1, determined };
        let conclusion = Conclusion {
            loss: 0.5,
            standard_error: 0.1,
            trials: vec![trial(0.1, 0.02), trial(0.05, -0.001)],
            pruned: Some(vec![0.25; 40]),
            curvatures: vec![curvature(0, true), curvature(10, false), curvature(39, false)],
            curvature_bound: 0.001,
        };
        let report = ConclusionReport::new(&subject, &conclusion);
        assert_eq!(report.pruned.as_ref().unwrap()[1].rates["MID"], Some(0.25));
        assert_eq!(
            report.text(),
            "pruned, held-out loss 0.50000 ± 0.10000 before\n  2 rates below 0.1 to 0: 0.52000 ± 0.10000, +0.02000 ± \
             0.01000: needed\n  2 rates below 0.05 to 0: 0.49900 ± 0.10000, -0.00100 ± 0.01000: not needed\nthe data \
             determine 1 of 3 rates (curvature of the held-out loss of at least 0.001 and two standard errors)\n  not \
             determined, a: MID\n  not determined, b: OUT08\n"
        );
    }
}
