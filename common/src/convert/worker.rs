//! What workers and the coordinator tell each other, both ways.

use super::check::{by_rate, length, name, rates, words};
use super::{Error, Failed, Gradient, Hello, Lease, Prepare, Progress, Rates, check};
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
        Self { protocol: PROTOCOL, name: hello.name.clone(), device: hello.device.clone() }
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
        Ok(Self { name, device: words(hello.device, MAX_NAME) })
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
        let sample = |sample: &PlanSample| v1::Sample {
            image: sample.image,
            repeat: sample.repeat,
            flip: sample.flip,
            timestep: sample.timestep,
            noise_step: sample.noise_key.step,
            noise_sample: sample.noise_key.sample,
        };
        let samples = lease.batch.samples.iter().map(sample).collect();
        Self { search_id: lease.search_id.clone(), step: lease.step, microbatch: lease.microbatch, samples }
    }
}

/// A lease within a search, whose pictures and seed it refers to.
///
/// # Errors
/// When it has no samples or too many, names pictures that the search has not, or mixes buckets.
pub fn lease(lease: v1::Lease, spec: &SearchSpec) -> Result<Lease, Error> {
    length("lease.samples", lease.samples.len(), "samples", 1..=MAX_BATCH as usize)?;
    let mut bucket = None;
    let mut samples = Vec::with_capacity(lease.samples.len());
    for (place, sample) in lease.samples.iter().enumerate() {
        let (of_sample, sample) = plan_sample(&format!("lease.samples[{place}]"), sample, spec)?;
        let of_batch = *bucket.get_or_insert(of_sample);
        if of_sample != of_batch {
            let field = format!("lease.samples[{place}].image");
            let expected = format!("of the bucket of the samples before it, {of_batch:?}, not {of_sample:?}");
            return Err(Error::range(&field, sample.image, expected));
        }
        samples.push(sample);
    }
    Ok(Lease {
        search_id: name("lease.search_id", lease.search_id)?,
        step: check::within("lease.step", lease.step, 0..=LAST_STEP)?,
        microbatch: lease.microbatch,
        batch: Microbatch { bucket: check::required("lease.samples", bucket)?, samples },
    })
}

/// A sample and its picture's bucket.
fn plan_sample(field: &str, sample: &v1::Sample, spec: &SearchSpec) -> Result<((u32, u32), PlanSample), Error> {
    let image = usize::try_from(sample.image).ok().and_then(|number| spec.images.get(number));
    let image = image
        .ok_or_else(|| Error::range(&format!("{field}.image"), sample.image, format!("below {}", spec.images.len())))?;
    check::within(&format!("{field}.timestep"), sample.timestep, 0..=TIMESTEPS - 1)?;
    let noise_key = Key { seed: spec.options.seed, step: sample.noise_step, sample: sample.noise_sample };
    let v1::Sample { image: number, repeat, flip, timestep, .. } = *sample;
    Ok((image.fit.bucket, PlanSample { image: number, repeat, flip, timestep, noise_key }))
}
