//! What workers and the coordinator tell each other, both ways.

use super::check::{by_rate, length, name, rates, words};
use super::service::memory;
use super::{Encode, Encoded, Error, Evaluate, Evaluated, Failed, Gradient, Heartbeat, Hello};
use super::{Lease, Prepare, Progress, Rates, check};
use super::{MAX_BATCH, MAX_MESSAGE, MAX_NAME, MAX_STEPS};
use crate::diffusion::TIMESTEPS;
use crate::noise::Key;
use crate::plan::{Microbatch, PlanSample};
use crate::spec::SearchSpec;
use lora_rates_proto::{PROTOCOL, v1};

/// The last step there may be, counted from 0.
const LAST_STEP: u64 = MAX_STEPS - 1;

impl From<&Hello> for v1::Hello {
    fn from(hello: &Hello) -> Self {
        let Hello { name, device, memory } = hello.clone();
        Self { protocol: PROTOCOL, name, device, memory: memory.map(Into::into) }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Error;

    fn try_from(hello: v1::Hello) -> Result<Self, Error> {
        if hello.protocol != PROTOCOL {
            let expected = format!("{PROTOCOL}: worker and coordinator must be of versions that go together");
            return Err(Error::range("hello.protocol", hello.protocol, expected));
        }
        let name = name("hello.name", hello.name)?;
        Ok(Self { name, device: words(hello.device, MAX_NAME), memory: memory(hello.memory) })
    }
}

impl From<&Heartbeat> for v1::Heartbeat {
    fn from(heartbeat: &Heartbeat) -> Self {
        Self { idle_ms: heartbeat.idle_ms, memory: heartbeat.memory.map(Into::into) }
    }
}

impl From<v1::Heartbeat> for Heartbeat {
    fn from(heartbeat: v1::Heartbeat) -> Self {
        Self { idle_ms: heartbeat.idle_ms, memory: memory(heartbeat.memory) }
    }
}

impl From<&Progress> for v1::Progress {
    fn from(progress: &Progress) -> Self {
        Self {
            search_id: progress.search_id.clone(),
            activity: progress.activity.clone(),
            done: progress.done,
            total: progress.total,
        }
    }
}

impl TryFrom<v1::Progress> for Progress {
    type Error = Error;

    fn try_from(progress: v1::Progress) -> Result<Self, Error> {
        let search_id = name("progress.search_id", progress.search_id)?;
        let activity = words(progress.activity, MAX_NAME);
        Ok(Self { search_id, activity, done: progress.done, total: progress.total })
    }
}

impl From<Gradient> for v1::Gradient {
    fn from(gradient: Gradient) -> Self {
        let Gradient { search_id, step, microbatch, mse, loss, gradient } = gradient;
        Self { search_id, step, microbatch, mse, loss, gradient }
    }
}

impl TryFrom<v1::Gradient> for Gradient {
    type Error = Error;

    fn try_from(gradient: v1::Gradient) -> Result<Self, Error> {
        let v1::Gradient { search_id, step, microbatch, mse, loss, gradient } = gradient;
        length("gradient.mse", mse.len(), "numbers", 1..=MAX_BATCH as usize)?;
        by_rate("gradient.gradient", gradient.len())?;
        let search_id = name("gradient.search_id", search_id)?;
        let step = check::within("gradient.step", step, 0..=LAST_STEP)?;
        Ok(Self { search_id, step, microbatch, mse, loss, gradient })
    }
}

impl From<Failed> for v1::Failed {
    fn from(failed: Failed) -> Self {
        Self { search_id: failed.search_id, message: failed.message }
    }
}

impl TryFrom<v1::Failed> for Failed {
    type Error = Error;

    fn try_from(failed: v1::Failed) -> Result<Self, Error> {
        let search_id = name("failed.search_id", failed.search_id)?;
        Ok(Self { search_id, message: words(failed.message, MAX_MESSAGE) })
    }
}

impl From<&Prepare> for v1::Prepare {
    fn from(prepare: &Prepare) -> Self {
        Self { search_id: prepare.search_id.clone(), spec: Some(prepare.spec.as_ref().into()) }
    }
}

impl TryFrom<v1::Prepare> for Prepare {
    type Error = Error;

    fn try_from(prepare: v1::Prepare) -> Result<Self, Error> {
        let search_id = name("prepare.search_id", prepare.search_id)?;
        let spec: SearchSpec = check::required("spec", prepare.spec)?.try_into()?;
        Ok(Self { search_id, spec: spec.into() })
    }
}

impl From<Rates> for v1::Rates {
    fn from(rates: Rates) -> Self {
        Self { search_id: rates.search_id, step: rates.step, rates: rates.rates }
    }
}

impl TryFrom<v1::Rates> for Rates {
    type Error = Error;

    fn try_from(message: v1::Rates) -> Result<Self, Error> {
        Ok(Self {
            search_id: name("rates.search_id", message.search_id)?,
            step: check::within("rates.step", message.step, 0..=LAST_STEP)?,
            rates: rates("rates.rates", message.rates)?,
        })
    }
}

impl From<&Lease> for v1::Lease {
    fn from(lease: &Lease) -> Self {
        let samples = lease.batch.samples.iter().map(sample_message).collect();
        Self { search_id: lease.search_id.clone(), step: lease.step, microbatch: lease.microbatch, samples }
    }
}

fn sample_message(sample: &PlanSample) -> v1::Sample {
    v1::Sample {
        image: sample.image,
        repeat: sample.repeat,
        flip: sample.flip,
        timestep: sample.timestep,
        noise_step: sample.noise_key.step,
        noise_sample: sample.noise_key.sample,
        negated: sample.negated,
    }
}

/// A lease within a search, whose pictures and seed it refers to.
///
/// # Errors
/// When it has no samples or too many, names pictures that the search has not, or mixes buckets.
pub fn lease(lease: v1::Lease, spec: &SearchSpec) -> Result<Lease, Error> {
    Ok(Lease {
        search_id: name("lease.search_id", lease.search_id)?,
        step: check::within("lease.step", lease.step, 0..=LAST_STEP)?,
        microbatch: lease.microbatch,
        batch: microbatch("lease.samples", &lease.samples, spec)?,
    })
}

/// Samples of one bucket.
fn microbatch(field: &str, messages: &[v1::Sample], spec: &SearchSpec) -> Result<Microbatch, Error> {
    length(field, messages.len(), "samples", 1..=MAX_BATCH as usize)?;
    let mut bucket = None;
    let mut samples = Vec::with_capacity(messages.len());
    for (place, sample) in messages.iter().enumerate() {
        let (of_sample, sample) = plan_sample(&format!("{field}[{place}]"), sample, spec)?;
        let of_batch = *bucket.get_or_insert(of_sample);
        if of_sample != of_batch {
            let field = format!("{field}[{place}].image");
            let expected = format!("of the bucket of the samples before it, {of_batch:?}, not {of_sample:?}");
            return Err(Error::range(&field, sample.image, expected));
        }
        samples.push(sample);
    }
    Ok(Microbatch { bucket: check::required(field, bucket)?, samples })
}

impl From<&Evaluate> for v1::Evaluate {
    fn from(evaluate: &Evaluate) -> Self {
        let samples = evaluate.batch.samples.iter().map(sample_message).collect();
        let Evaluate { search_id, step, item, rates, .. } = evaluate.clone();
        Self { search_id, step, item, rates, samples }
    }
}

/// An evaluation within a search, whose pictures and seed it refers to.
///
/// # Errors
/// As for [`lease`], and when a rate is not finite.
pub fn evaluate(evaluate: v1::Evaluate, spec: &SearchSpec) -> Result<Evaluate, Error> {
    Ok(Evaluate {
        search_id: name("evaluate.search_id", evaluate.search_id)?,
        step: check::within("evaluate.step", evaluate.step, 0..=MAX_STEPS)?,
        item: evaluate.item,
        rates: rates("evaluate.rates", evaluate.rates)?,
        batch: microbatch("evaluate.samples", &evaluate.samples, spec)?,
    })
}

impl From<Evaluated> for v1::Evaluated {
    fn from(evaluated: Evaluated) -> Self {
        let Evaluated { search_id, step, item, losses } = evaluated;
        Self { search_id, step, item, losses }
    }
}

impl TryFrom<v1::Evaluated> for Evaluated {
    type Error = Error;

    fn try_from(evaluated: v1::Evaluated) -> Result<Self, Error> {
        let v1::Evaluated { search_id, step, item, losses } = evaluated;
        length("evaluated.losses", losses.len(), "numbers", 1..=MAX_BATCH as usize)?;
        let search_id = name("evaluated.search_id", search_id)?;
        Ok(Self { search_id, step: check::within("evaluated.step", step, 0..=MAX_STEPS)?, item, losses })
    }
}

impl From<Encode> for v1::Encode {
    fn from(Encode { search_id, image, flip }: Encode) -> Self {
        Self { search_id, image, flip }
    }
}

/// A picture to encode within a search.
///
/// # Errors
/// When the search has no such picture.
pub fn encode(message: v1::Encode, spec: &SearchSpec) -> Result<Encode, Error> {
    let v1::Encode { search_id, image, flip } = message;
    let known = usize::try_from(image).is_ok_and(|number| number < spec.images.len());
    if !known {
        return Err(Error::range("encode.image", image, format!("below {}", spec.images.len())));
    }
    Ok(Encode { search_id: name("encode.search_id", search_id)?, image, flip })
}

impl From<Encoded> for v1::Encoded {
    fn from(Encoded { search_id, image, flip }: Encoded) -> Self {
        Self { search_id, image, flip }
    }
}

impl TryFrom<v1::Encoded> for Encoded {
    type Error = Error;

    fn try_from(encoded: v1::Encoded) -> Result<Self, Error> {
        let v1::Encoded { search_id, image, flip } = encoded;
        Ok(Self { search_id: name("encoded.search_id", search_id)?, image, flip })
    }
}

/// A sample and its picture's bucket.
fn plan_sample(field: &str, sample: &v1::Sample, spec: &SearchSpec) -> Result<((u32, u32), PlanSample), Error> {
    let image = usize::try_from(sample.image).ok().and_then(|number| spec.images.get(number));
    let image = image
        .ok_or_else(|| Error::range(&format!("{field}.image"), sample.image, format!("below {}", spec.images.len())))?;
    check::within(&format!("{field}.timestep"), sample.timestep, 0..=TIMESTEPS - 1)?;
    let noise_key = Key { seed: spec.options.seed, step: sample.noise_step, sample: sample.noise_sample };
    let v1::Sample { image: number, repeat, flip, timestep, negated, .. } = *sample;
    Ok((image.fit.bucket, PlanSample { image: number, repeat, flip, timestep, noise_key, negated }))
}
