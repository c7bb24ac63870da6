//! `lora-rates sweep`: many searches over the same pictures, and which of them are worth having.

mod follow;
mod grid;
mod pareto;
mod rows;
mod submit;

pub(crate) use grid::{Axes, Subsets};

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::listing::terminal_width;
use crate::output::{file, json, stdout::print};
use crate::progress::note;
use crate::remote::{Remote, upload};
use crate::search::inputs::{self, Inputs};
use crate::search::local::{Local, Workers};
use crate::search::{block_on, describe, devices, on};
use crate::settings::{self, Settings};
use anyhow::{Context as _, anyhow};
use follow::{End, follow};
use grid::Point;
use lora_rates_common::convert::SearchStatus;
use lora_rates_common::spec::SearchSpec;
use rows::{Row, mark_front};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use submit::Submission;
use tokio::task::spawn_blocking;

/// Searches that share model, pictures and most options.
#[derive(Debug)]
struct Sweep {
    settings: Settings,
    /// With all networks.
    base: SearchSpec,
    points: Vec<Point>,
}

impl Sweep {
    /// The search of a point.
    ///
    /// # Errors
    /// It makes no sense.
    fn spec(&self, point: &Point) -> Result<SearchSpec, Failure> {
        let mut spec = self.base.clone();
        spec.networks = point.networks.iter().filter_map(|place| self.base.networks.get(*place).cloned()).collect();
        spec.options.application_loss_weight = point.application_loss_weight;
        spec.options.learning_rate.learning_rate = point.learning_rate;
        let spec = inputs::with_seed(spec, &self.settings, point.seed)?;
        spec.validate().with_context(|| format!("search {point}"))?;
        Ok(spec)
    }

    /// A row for each search, the front marked.
    fn rows(&self, known: &BTreeMap<usize, SearchStatus>) -> Result<Vec<Row>, Failure> {
        let rows = self.points.iter().enumerate();
        let rows = rows.map(|(place, point)| Ok(Row::new(point, &self.spec(point)?, known.get(&place))));
        let mut rows = rows.collect::<Result<Vec<Row>, Failure>>()?;
        mark_front(&mut rows);
        Ok(rows)
    }
}

/// Makes all searches of the grid, or finds those that were made before, and watches them until all have ended.
///
/// # Errors
/// Settings or files that make no sense, a coordinator that refuses, searches that failed; [`Failure::Interrupted`]
/// when the user stopped it or no longer follows it.
pub(crate) fn run(settings: Settings, axes: &Axes) -> Result<(), Failure> {
    check(&settings, axes)?;
    block_on(async {
        let mut interrupts = Interrupts::listen().context("can't listen for Ctrl-C")?;
        let started = tokio::select! {
            started = start(settings, axes) => started?,
            () = interrupts.asked() => {
                note("stopped before anything was submitted");
                return Err(Failure::Interrupted);
            }
        };
        let Started { sweep, place, remote } = started;
        let sweep = Arc::new(sweep);
        let mut submission = Submission::start(&remote, &sweep);
        let (local, workers) = place.map(|Here { local, workers }| (local, workers)).unzip();
        let gone = async {
            match workers {
                Some(workers) => workers.gone().await,
                None => std::future::pending().await,
            }
        };
        let mut known = BTreeMap::new();
        let end = follow(&remote, &sweep, &mut submission, &mut known, &mut interrupts, gone).await;
        drop((submission, remote));
        if let Some(local) = local {
            local.shut_down().await;
        }
        // Whatever is known by now is worth having, also if the rest failed.
        let rows = sweep.rows(&known)?;
        write(&sweep.settings, &rows)?;
        finish(&sweep.settings, &rows, end?)
    })
}

/// Refuses what can be seen to be wrong before any file is opened.
fn check(settings: &Settings, axes: &Axes) -> Result<(), Failure> {
    if settings.options.validation_split == 0.0 && settings.dataset.validation_data_dir.is_none() {
        let what = "a sweep compares held-out losses; give the part of the pictures that is held out, such as \
                    0.2, or --validation_data_dir";
        return Err(Failure::usage(settings::Error::Missing { option: "validation_split", what }));
    }
    if let Some(samples) = &settings.samples {
        let (option, value) = ("sample_prompts", samples.prompts.display().to_string());
        let why = "a sweep samples no pictures; `lora-rates sample` does, at the rates that it finds".to_owned();
        return Err(Failure::usage(settings::Error::Unsupported { option, value, why }));
    }
    for &application_loss_weight in &axes.application_loss_weights {
        for &learning_rate in &axes.learning_rates {
            let mut one = settings.clone();
            one.options.application_loss_weight = application_loss_weight;
            one.options.learning_rate.learning_rate = learning_rate;
            one.validate().map_err(Failure::usage)?;
        }
    }
    // The names don't change the number.
    let names = vec![String::new(); settings.networks.len()];
    if axes.points(&names).map_err(Failure::usage)?.is_empty() {
        let what = "with these networks it has no set at all; give --subsets all or more networks";
        return Err(Failure::usage(settings::Error::Missing { option: "subsets", what }));
    }
    Ok(())
}

/// A coordinator and workers in this process.
struct Here {
    local: Local,
    workers: Workers,
}

struct Started {
    sweep: Sweep,
    /// None: the sweep is elsewhere.
    place: Option<Here>,
    remote: Remote,
}

/// Opens everything, and connects to the coordinator or starts one here.
async fn start(settings: Settings, axes: &Axes) -> Result<Started, Failure> {
    let elsewhere = match &settings.coordinator {
        Some(target) => {
            let remote = Remote::connect(target).await?;
            let model = describe(&remote, &settings).await?;
            Some((target.clone(), remote, model))
        }
        None => None,
    };
    let model = elsewhere.as_ref().map(|(_, _, model)| model.clone());
    let (to_open, axes) = (settings.clone(), axes.clone());
    let opened = spawn_blocking(move || {
        let model = match model {
            Some(model) => model,
            None => inputs::open_model(&to_open)?,
        };
        let devices = devices(&to_open)?;
        let seed = axes.seeds.first().copied().unwrap_or_default();
        let Inputs { spec: base, report } = inputs::open(&to_open, seed, &model)?;
        let names: Vec<String> = base.networks.iter().map(|network| network.name.clone()).collect();
        let points = axes.points(&names).map_err(Failure::usage)?;
        let sweep = Sweep { settings: to_open, base, points };
        // Nothing is submitted unless all of it makes sense.
        sweep.points.iter().try_for_each(|point| sweep.spec(point).map(drop))?;
        Ok::<_, Failure>((sweep, report, devices))
    });
    let (sweep, report, devices) = opened.await.map_err(|_| anyhow!("opening the files failed"))??;
    let report: Vec<&str> = report.lines().filter(|line| !line.starts_with(inputs::HELD_OUT)).collect();
    let count = sweep.points.len();
    let by =
        elsewhere.as_ref().map_or_else(|| format!("on {}", on(&devices)), |(target, ..)| format!("by {}", target.url));
    note(&format!("{}\n{count} searches, {by}", report.join("\n")));
    if let Some((target, remote, _)) = elsewhere {
        upload(&target, &sweep.base).await?;
        return Ok(Started { sweep, place: None, remote });
    }
    let folder = settings.output_dir.join(format!("{}-sweep-state", settings.output_name));
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}; check --output_dir", folder.display()))?;
    // Searches of an earlier grid stay paused.
    let local = Local::start_paused(&folder).await?;
    let workers = local.work(&devices, settings.engine);
    let remote = local.remote().clone();
    Ok(Started { sweep, place: Some(Here { local, workers }), remote })
}

/// Writes the rows to OUTPUT_DIR/NAME-sweep.json and .csv.
fn write(settings: &Settings, rows: &[Row]) -> Result<(), Failure> {
    let path =
        |ending: &str| -> PathBuf { settings.output_dir.join(format!("{}-sweep.{ending}", settings.output_name)) };
    let (all, table) = (path("json"), path("csv"));
    let text = serde_json::to_string_pretty(rows)? + "\n";
    std::fs::create_dir_all(&settings.output_dir)
        .and_then(|()| file::replace(&all, text.as_bytes()))
        .and_then(|()| file::replace(&table, rows::csv(rows).as_bytes()))
        .with_context(|| format!("can't write {}; check --output_dir", all.display()))?;
    note(&format!("wrote {} and {}", all.display(), table.display()));
    Ok(())
}

/// Prints the rows, and says how it ended.
fn finish(settings: &Settings, rows: &[Row], end: End) -> Result<(), Failure> {
    if settings.json {
        rows.iter().try_for_each(|row| json::line(&serde_json::to_value(row)?))?;
    } else {
        print(&rows::table(rows, terminal_width()))?;
    }
    if end == End::Interrupted {
        let waiting = rows.iter().filter(|row| row.search_id.is_none()).count();
        let more = if waiting > 0 { format!(" ({waiting} searches are not submitted yet)") } else { String::new() };
        note(&match &settings.coordinator {
            None => "stopped: every step so far is kept; the same command goes on from there".to_owned(),
            Some(_) => format!("the searches go on without this terminal; the same command comes back to them{more}"),
        });
        return Err(Failure::Interrupted);
    }
    let failed: Vec<&Row> = rows.iter().filter(|row| row.state != "finished").collect();
    if let Some(first) = failed.first() {
        let why = first.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        return Err(Failure::Run(anyhow!(
            "{} of {} searches did not finish, the first is {}: it is {}{why}; the same command with --resume goes on \
             with those that failed or are paused, --overwrite starts them anew",
            failed.len(),
            rows.len(),
            first.label,
            first.state
        )));
    }
    Ok(())
}
