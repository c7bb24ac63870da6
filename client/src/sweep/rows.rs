//! What a sweep came to: a row for each search, as table, JSON and CSV.

use super::grid::Point;
use super::pareto;
use crate::output::Subject;
use crate::output::listing::Listing;
use crate::output::report::{NetworkReport, networks};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::convert::{SearchStatus, Validation};
use lora_rates_common::spec::SearchSpec;
use serde::Serialize;
use std::fmt::Write as _;

/// One search of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// What is different about it.
    pub(super) label: String,
    /// None: not submitted yet.
    pub(super) search_id: Option<String>,
    pub(super) seed: u64,
    pub(super) application_loss_weight: f64,
    pub(super) learning_rate: f64,
    /// Names of its networks.
    pub(super) networks: Vec<String>,
    /// Lowest held-out loss; none before the first evaluation.
    pub(super) held_out_loss: Option<f64>,
    pub(super) standard_error: Option<f64>,
    /// Steps done when it was measured.
    pub(super) best_step: Option<u64>,
    /// Sum of the absolute live rates of that measurement, over all networks.
    pub(super) total_rate: Option<f64>,
    /// Whether no other search has both a lower loss and a lower total rate.
    pub(super) pareto: bool,
    pub(super) step: u64,
    pub(super) max_train_steps: u64,
    pub(super) state: String,
    /// Why it failed, or ended before its last step.
    pub(super) why: Option<String>,
    /// The rates of that measurement.
    pub(super) best: Vec<NetworkReport>,
}

impl Row {
    /// A search of the sweep as it stands.
    pub(super) fn new(point: &Point, spec: &SearchSpec, status: Option<&SearchStatus>) -> Self {
        let best = status.and_then(|status| status.best.as_deref());
        Self {
            label: point.label.clone(),
            search_id: status.map(|status| status.search_id.clone()),
            seed: point.seed,
            application_loss_weight: point.application_loss_weight,
            learning_rate: point.learning_rate,
            networks: spec.networks.iter().map(|network| network.name.clone()).collect(),
            held_out_loss: best.map(|best| best.loss),
            standard_error: best.map(|best| best.standard_error),
            best_step: best.map(|best| best.step),
            total_rate: best.map(|best| total_rate(spec, best)),
            pareto: false,
            step: status.map_or(0, |status| status.step),
            max_train_steps: spec.options.max_train_steps,
            state: status.map_or("waiting", |status| status.state.name()).to_owned(),
            why: status.and_then(|status| status.failure.clone()),
            best: best.map(|best| networks(&Subject::from(bare(spec)), &best.rates)).unwrap_or_default(),
        }
    }
}

/// The specification without its pictures, of which there may be many.
fn bare(spec: &SearchSpec) -> SearchSpec {
    let SearchSpec { model, networks, options, sampling, .. } = spec;
    let (model, networks, options) = (model.clone(), networks.clone(), options.clone());
    SearchSpec { model, networks, images: Vec::new(), options, sampling: sampling.clone() }
}

/// Sum of the absolute values of all rates that have an effect.
fn total_rate(spec: &SearchSpec, best: &Validation) -> f64 {
    let networks = spec.networks.iter().zip(best.rates.chunks(BLOCKS));
    let live = networks.flat_map(|(network, rates)| rates.iter().zip(network.live));
    live.filter(|(_, live)| *live).map(|(rate, _)| rate.abs()).sum()
}

/// Marks the searches on the Pareto front of held-out loss against total rate.
pub(super) fn mark_front(rows: &mut [Row]) {
    let points: Vec<_> = rows.iter().map(|row| row.held_out_loss.zip(row.total_rate)).collect();
    rows.iter_mut().zip(pareto::front(&points)).for_each(|(row, on)| row.pareto = on);
}

/// The rows as a table, the lowest loss first.
pub(super) fn table(rows: &[Row], width: Option<usize>) -> String {
    let headings =
        ["", "LABEL", "SEED", "WEIGHT", "LR", "NETWORKS", "HELD-OUT LOSS (BEST)", "TOTAL RATE", "STEPS", "STATE"];
    let mut listing = Listing::new(&headings, &[2, 3, 4, 6, 7, 8]);
    let mut sorted: Vec<&Row> = rows.iter().collect();
    let loss = |row: &Row| row.held_out_loss.unwrap_or(f64::INFINITY);
    sorted.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
    for row in sorted {
        let loss = row.held_out_loss.zip(row.standard_error);
        listing.row([
            if row.pareto { "*" } else { "" }.to_owned(),
            row.label.clone(),
            row.seed.to_string(),
            row.application_loss_weight.to_string(),
            row.learning_rate.to_string(),
            row.networks.join(", "),
            loss.map(|(loss, error)| format!("{loss:.5} ± {error:.5}")).unwrap_or_default(),
            row.total_rate.map(|rate| format!("{rate:.3}")).unwrap_or_default(),
            format!("{}/{}", row.step, row.max_train_steps),
            row.state.clone(),
        ]);
    }
    listing.text(width)
}

/// The rows as comma-separated values with a line of headings.
pub(super) fn csv(rows: &[Row]) -> String {
    let mut text = "label,search_id,seed,application_loss_weight,learning_rate,networks,held_out_loss,standard_error,\
                    best_step,total_rate,pareto,step,max_train_steps,state,why\n"
        .to_owned();
    fn or_empty(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    for row in rows {
        let cells = [
            quoted(&row.label),
            quoted(row.search_id.as_deref().unwrap_or_default()),
            row.seed.to_string(),
            row.application_loss_weight.to_string(),
            row.learning_rate.to_string(),
            quoted(&row.networks.join(" ")),
            or_empty(row.held_out_loss),
            or_empty(row.standard_error),
            or_empty(row.best_step),
            or_empty(row.total_rate),
            row.pareto.to_string(),
            row.step.to_string(),
            row.max_train_steps.to_string(),
            quoted(&row.state),
            quoted(row.why.as_deref().unwrap_or_default()),
        ];
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", cells.join(","));
    }
    text
}

/// A cell as RFC 4180 wants it.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use lora_rates_common::convert::SearchState;
    use lora_rates_common::spec::{ModelRef, NetworkRef};
    use std::sync::Arc;

    fn spec() -> SearchSpec {
        let network = |name: &str, live| NetworkRef {
            name: name.to_owned(),
            path: "/n".into(),
            sha256: "ab".repeat(32),
            live: [live; BLOCKS],
        };
        SearchSpec {
            model: ModelRef { path: "/m".into(), vae: None, digest: "cd".repeat(32) },
            networks: vec![network("a,b", true), network("dead", false)],
            images: Vec::new(),
            options: Settings::default().options,
            sampling: Default::default(),
        }
    }

    fn row(label: &str, loss: Option<f64>, rate: f64) -> Row {
        let point = Point {
            label: label.to_owned(),
            networks: vec![0, 1],
            application_loss_weight: 1e-4,
            learning_rate: 0.1,
            seed: 7,
        };
        let best = loss.map(|loss| {
            let rates = [[rate; BLOCKS], [9.0; BLOCKS]].concat();
            Arc::new(Validation { step: 5, loss, standard_error: 0.5, samples: 32, rates, baselines: Vec::new() })
        });
        let status = SearchStatus {
            search_id: format!("id of {label}"),
            state: SearchState::Finished,
            step: 10,
            max_train_steps: 1600,
            rates: Vec::new(),
            failure: Some("stopped \"early\"".to_owned()),
            name: String::new(),
            workers: 0,
            created_ms: 0,
            networks: Vec::new(),
            best,
            conclusion: None,
        };
        Row::new(&point, &spec(), Some(&status))
    }

    #[test]
    fn the_total_counts_absolute_live_rates_only() {
        assert_eq!(row("x", Some(1.0), -0.25).total_rate, Some(5.0));
        assert_eq!(row("x", None, 1.0).total_rate, None);
    }

    #[test]
    fn the_front_is_marked_and_the_lowest_loss_comes_first() {
        let mut rows = [
            row("high", Some(2.0), 0.1),
            row("bad", Some(3.0), 0.2),
            row("low", Some(1.0), 0.5),
            row("none", None, 0.0),
        ];
        mark_front(&mut rows);
        assert_eq!(rows.each_ref().map(|row| row.pareto), [true, false, true, false]);
        let text = table(&rows, None);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..2], ["*", "low"]);
        assert_eq!(lines[2][..2], ["*", "high"]);
        assert_eq!(lines[3][0], "bad");
        assert_eq!(lines[4][0], "none");
        assert!(text.contains("1.00000 ± 0.50000") && text.contains("10.000") && text.contains("10/1600"));
    }

    #[test]
    fn comma_separated_values_quote_what_needs_it() {
        let text = csv(&[row("all,w1", Some(1.5), 0.5), row("plain", None, 0.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "\"all,w1\",\"id of all,w1\",7,0.0001,0.1,\"a,b dead\",1.5,0.5,5,10,false,10,1600,finished,\"stopped \"\"early\"\"\""
        );
        assert!(lines[2].starts_with("plain,id of plain,7,0.0001,0.1,\"a,b dead\",,,,,false,"), "{}", lines[2]);
        let heads = lines[0].split(',').count();
        assert_eq!(heads, 15);
    }
}
