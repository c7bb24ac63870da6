//! What this crate's unit tests share.

use crate::search::Commit;
use lora_rates_common::convert::{
    Baseline, Draw, Drawn, Evaluate, Evaluated, Gradient, Lease, Rates, StepRecord, Validation,
};
use lora_rates_common::dataset::Image;
use lora_rates_common::dataset::buckets::Fit;
use lora_rates_common::optimizer::{AdamW, State};
use lora_rates_common::penalty;
use lora_rates_common::plan::Microbatch;
use lora_rates_common::sampling;
use lora_rates_common::schedule;
use lora_rates_common::spec::{ModelRef, NetworkRef, Precision, SearchOptions, SearchSpec};
use lora_rates_common::validation::{self, Losses};
use std::sync::Arc;

/// Two networks with dead slots, seven pictures of two buckets, 14 steps of at most three microbatches over two epochs.
pub(crate) fn spec() -> SearchSpec {
    let network = |name: &str, dead: usize| {
        let mut live = [true; 20];
        live[dead] = false;
        NetworkRef { name: name.into(), path: name.into(), sha256: "0a".repeat(32), live }
    };
    SearchSpec {
        model: ModelRef { path: "model".into(), vae: None, digest: "1b".repeat(32) },
        networks: vec![network("first", 0), network("second", 7)],
        images: (0..7).map(image).collect(),
        options: options(),
        sampling: Default::default(),
    }
}

/// [`spec`] with two held-out pictures of its seven, evaluated at the beginning, after every three steps and at the end.
pub(crate) fn validated() -> SearchSpec {
    let mut spec = spec();
    spec.options.validation_split = 0.3;
    spec.options.validate_every_n_steps = 3;
    spec
}

/// [`spec`] with pictures of two prompts, sampled at the beginning, after every five steps and at the end.
pub(crate) fn sampled() -> SearchSpec {
    let prompt = |line: &str| sampling::parse(line, sampling::Defaults::of_size(64, 64)).unwrap();
    let prompts = vec![prompt("a cat --d 9"), prompt("a dog")];
    SearchSpec { sampling: sampling::Options { prompts, every_n_steps: 5, at_first: true }, ..spec() }
}

fn image(number: u32) -> Image {
    let bucket = if number.is_multiple_of(3) { (96, 64) } else { (64, 96) };
    let fit = Fit { bucket, resized: bucket, cut: (0, 0), crop: (0, 0), crop_flipped: (0, 0) };
    let sha256 = format!("{number:064x}");
    let path = format!("{number}.png").into();
    Image {
        path,
        sha256,
        caption: "a cat".into(),
        size: bucket,
        repeats: 1 + number % 3,
        loss_weight: 1.0,
        fit,
        held_out: false,
    }
}

fn options() -> SearchOptions {
    SearchOptions {
        seed: 3,
        max_train_steps: 14,
        train_batch_size: 2,
        gradient_accumulation_steps: 3,
        flip_aug: true,
        min_timestep: 0,
        max_timestep: 1000,
        max_token_length: Default::default(),
        noise_offset: 0.0,
        application_loss_weight: 1e-4,
        loss: Default::default(),
        optimizer: AdamW::default(),
        learning_rate: schedule::Options { lr_scheduler: schedule::LrScheduler::Cosine, ..Default::default() },
        mixed_precision: Precision::F32,
        gradient_checkpointing: false,
        cache_latents: true,
        cache_dir: None,
        skip_unmatched_keys: false,
        penalize_dead_slots: false,
        validation_split: 0.0,
        validate_every_n_steps: 0,
        early_stop: 0,
        validation_samples_per_image: 0,
        timestep_sampling: Default::default(),
        noise_sampling: Default::default(),
        prune: 0.0,
        curvature: false,
        curvature_bound: None,
        fp8_base: false,
    }
}

/// A step that nobody computed, with numbers that have all their bits.
pub(crate) fn commit(step: u64) -> Commit {
    let numbers = |scale: f64| (1..=40).map(|slot| (f64::from(slot) * scale * step as f64).sin()).collect::<Vec<_>>();
    let record = StepRecord {
        step,
        loss: (step as f64).sqrt(),
        penalty: 1.0 / 3.0,
        learning_rate: 0.1,
        gradient_norm: 1e-300,
        samples: 6,
        rates: numbers(0.3),
    };
    let state = State { step, rates: numbers(0.3), m: numbers(1e-3), v: numbers(-1e-9) };
    Commit { record: Arc::new(record), state }
}

/// What a worker that is no model answers: a smooth function of the rates and of each sample.
pub(crate) fn compute(rates: &Rates, lease: &Lease) -> Gradient {
    let samples = &lease.batch.samples;
    let seeds = samples.iter().map(|sample| {
        f64::from(sample.timestep) + f64::from(sample.image) * 0.7 + (sample.noise_key.step % 97) as f64 * 0.3
            - f64::from(u8::from(sample.flip))
    });
    let seeds: Vec<f64> = seeds.collect();
    let error = |slot: usize, rate: f32, seed: f64| f64::from(rate) - (seed * 0.01 + slot as f64).sin();
    let slots = || rates.rates.iter().copied().enumerate();
    let mse: Vec<f64> =
        seeds.iter().map(|seed| slots().map(|(at, rate)| error(at, rate, *seed).powi(2)).sum()).collect();
    let count = seeds.len() as f64;
    let mean = |at, rate| seeds.iter().map(|seed| 2.0 * error(at, rate, *seed)).sum::<f64>() / count;
    Gradient {
        search_id: lease.search_id.clone(),
        step: lease.step,
        microbatch: lease.microbatch,
        loss: mse.iter().sum::<f64>() / count,
        gradient: slots().map(|(at, rate)| mean(at, rate)).collect(),
        mse,
    }
}

/// What a worker that is no model answers to an evaluation.
pub(crate) fn evaluate(evaluate: &Evaluate) -> Evaluated {
    let Evaluate { search_id, step, item, rates, batch } = evaluate.clone();
    let rates = Rates { search_id: search_id.clone(), step, rates };
    let lease = Lease { search_id: search_id.clone(), step, microbatch: item, batch };
    Evaluated { losses: compute(&rates, &lease).mse, search_id, step, item }
}

/// What a worker that is no model answers when a picture is to be sampled: the picture of an odd prompt can't be.
pub(crate) fn drawn(draw: &Draw) -> Drawn {
    let Draw { search_id, step, item, rates } = draw.clone();
    let digest = rates.iter().fold(step, |digest, rate| digest.rotate_left(5) ^ u64::from(rate.to_bits()));
    let result = if item.is_multiple_of(2) { Ok(format!("{digest:064x}")) } else { Err("too large".to_owned()) };
    Drawn { search_id, step, item, result }
}

/// The evaluation of these rates by the definition.
fn validation(spec: &SearchSpec, step: u64, rates: &[f64], baselines: bool) -> Validation {
    let fixed = spec.validation().unwrap();
    let mean_at = |rates: Vec<f32>| {
        let of_batch = |batch: &Microbatch| {
            let (search_id, batch) = ("s".into(), batch.clone());
            evaluate(&Evaluate { search_id, step, item: 0, rates: rates.clone(), batch }).losses
        };
        Losses::new(&fixed.microbatches, &fixed.microbatches.iter().flat_map(of_batch).collect::<Vec<f64>>()).mean()
    };
    let (loss, standard_error) = mean_at(rates.iter().map(|rate| *rate as f32).collect());
    let baseline = |rate: f64| {
        let (loss, standard_error) = mean_at(spec.live().iter().map(|live| f32::from(*live) * rate as f32).collect());
        Baseline { rate, loss, standard_error }
    };
    let baselines = if baselines { validation::BASELINES.into_iter().map(baseline).collect() } else { Vec::new() };
    let samples = fixed.samples() as u32;
    Validation { step, loss, standard_error, samples, rates: rates.to_vec(), baselines }
}

/// All evaluations of a search by the definition, of the rates before the first of these steps and after each.
pub(crate) fn validations(spec: &SearchSpec, records: &[StepRecord]) -> Vec<Validation> {
    let (every, end) = (spec.options.validate_every_n_steps, spec.options.max_train_steps);
    let initial = (0, spec.initial_rates());
    let states = std::iter::once(initial).chain(records.iter().map(|record| (record.step, record.rates.clone())));
    let due = states.filter(|(step, _)| every > 0 && (step % every == 0 || *step == end));
    due.map(|(step, rates)| validation(spec, step, &rates, step == 0)).collect()
}

/// The trajectory by the definition, without coordinator or workers.
pub(crate) fn trajectory(spec: &SearchSpec) -> Vec<StepRecord> {
    let (plan, schedule, live) = (spec.plan().unwrap(), spec.schedule().unwrap(), spec.live());
    let count = live.len();
    let mut state = State { step: 0, m: vec![0.0; count], v: vec![0.0; count], rates: spec.initial_rates() };
    let mut records = Vec::new();
    for step in 0..spec.options.max_train_steps {
        let rates = Rates { search_id: "s".into(), step, rates: state.rates.iter().map(|rate| *rate as f32).collect() };
        let batches = plan.step(step);
        let samples: usize = batches.iter().map(|batch| batch.samples.len()).sum();
        let lease = |(at, batch)| Lease { search_id: "s".into(), step, microbatch: at, batch };
        let results: Vec<_> = (0..).zip(batches).map(lease).map(|lease| compute(&rates, &lease)).collect();
        let count = results.len() as f64;
        let of_penalty = penalty::live_gradient(&state.rates, spec.options.application_loss_weight, &live);
        let mean = |slot: usize| results.iter().fold(0.0, |sum, it| sum + it.gradient[slot]) / count;
        let gradient: Vec<f64> = (0..live.len()).map(|slot| mean(slot) + of_penalty[slot]).collect();
        let penalty = penalty::live_value(&state.rates, &live);
        spec.options.optimizer.step(&mut state, &gradient, schedule.rate(step), &live).unwrap();
        let of_live = (0..live.len()).filter(|slot| live[*slot]);
        records.push(StepRecord {
            step: step + 1,
            loss: results.iter().map(|it| it.loss).sum::<f64>() / count,
            penalty,
            learning_rate: schedule.rate(step),
            gradient_norm: of_live.map(|slot| gradient[slot] * gradient[slot]).sum::<f64>().sqrt(),
            samples: samples as u32,
            rates: state.rates.clone(),
        });
    }
    records
}

/// All numbers of a trajectory, to the bit.
pub(crate) fn bits(records: &[StepRecord]) -> Vec<u64> {
    let of = |it: &StepRecord| {
        let scalars = [it.loss, it.penalty, it.learning_rate, it.gradient_norm];
        scalars.into_iter().chain(it.rates.clone()).map(f64::to_bits).collect::<Vec<_>>()
    };
    records.iter().flat_map(of).collect()
}
