//! The held-out loss over a search, and how it compares.

use lora_rates_common::convert::{Baseline, Validation};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// All evaluations on held-out pictures, by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validations(BTreeMap<u64, Arc<Validation>>);

impl Validations {
    /// Takes one in. One of a step that is there already is the same again.
    pub fn add(&mut self, validation: Arc<Validation>) {
        self.0.entry(validation.step).or_insert(validation);
    }

    /// In the order of their steps.
    pub fn all(&self) -> impl Iterator<Item = &Validation> {
        self.0.values().map(AsRef::as_ref)
    }

    /// The one of the lowest loss, the first of several.
    pub fn best(&self) -> Option<&Validation> {
        self.all().min_by(|a, b| a.loss.total_cmp(&b.loss))
    }

    /// The one after the most steps.
    pub fn last(&self) -> Option<&Validation> {
        self.0.values().next_back().map(AsRef::as_ref)
    }

    /// The losses with all live rates at one value.
    pub fn baselines(&self) -> &[Baseline] {
        self.0.values().map(|validation| &validation.baselines[..]).find(|it| !it.is_empty()).unwrap_or_default()
    }

    /// A line for each loss that there is to compare; nothing without evaluations.
    pub fn table(&self) -> String {
        let (Some(last), Some(best)) = (self.last(), self.best()) else { return String::new() };
        let row = |what: String, loss, error| (what, format!("{loss:.5} ± {error:.5}"));
        let mut rows = vec![
            row(format!("last, after step {}", last.step), last.loss, last.standard_error),
            row(format!("best, after step {}", best.step), best.loss, best.standard_error),
        ];
        let all = |it: &Baseline| row(format!("all rates {}", it.rate), it.loss, it.standard_error);
        rows.extend(self.baselines().iter().map(all));
        let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or_default();
        let mut text = format!("held-out loss, {} samples\n", last.samples);
        for (what, loss) in rows {
            // Writing to a String can't fail.
            let _ = writeln!(text, "  {what:<width$}  {loss}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(step: u64, loss: f64, baselines: &[f64]) -> Arc<Validation> {
        let baseline = |rate: &f64| Baseline { rate: *rate, loss: 1.0 + rate, standard_error: 0.25 };
        let baselines = baselines.iter().map(baseline).collect();
        Arc::new(Validation { step, loss, standard_error: 0.5, samples: 32, rates: vec![loss; 20], baselines })
    }

    #[test]
    fn the_first_of_the_lowest_losses_is_the_best() {
        let mut validations = Validations::default();
        assert_eq!((validations.best(), validations.table()), (None, String::new()));
        for (step, loss) in [(0, 3.0), (200, 1.0), (100, 1.0), (300, 2.0), (300, 0.0)] {
            validations.add(validation(step, loss, if step == 0 { &[0.0, 0.5] } else { &[] }));
        }
        assert_eq!(validations.best().map(|best| best.step), Some(100));
        assert_eq!(validations.last().map(|last| (last.step, last.loss)), Some((300, 2.0)));
        assert_eq!(
            validations.table(),
            "held-out loss, 32 samples\n  last, after step 300  2.00000 ± 0.50000\n  best, after step 100  1.00000 ± \
             0.50000\n  all rates 0           1.00000 ± 0.25000\n  all rates 0.5         1.50000 ± 0.25000\n"
        );
    }
}
