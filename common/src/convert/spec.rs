//! What a search is made of, both ways. Fields are named from `spec`.

use super::check::{length, name, path, path_text, required, sha256, text, within};
use super::{Error, MAX_CAPTION, MAX_IMAGES, MAX_NETWORKS};
use crate::block::BLOCKS;
use crate::dataset::Image;
use crate::dataset::buckets::{Fit, MULTIPLE};
use crate::picture::MAX_SIDE;
use crate::spec::{self, ModelRef, NetworkRef, SearchSpec};
use crate::{diffusion, optimizer, plan, sampling, schedule};
use lora_rates_proto::v1;

impl From<&SearchSpec> for v1::SearchSpec {
    fn from(spec: &SearchSpec) -> Self {
        Self {
            model: Some((&spec.model).into()),
            networks: spec.networks.iter().map(Into::into).collect(),
            images: spec.images.iter().map(Into::into).collect(),
            options: Some((&spec.options).into()),
            sampling: (spec.sampling != sampling::Options::default()).then(|| (&spec.sampling).into()),
        }
    }
}

impl TryFrom<v1::SearchSpec> for SearchSpec {
    type Error = Error;

    fn try_from(spec: v1::SearchSpec) -> Result<Self, Error> {
        length("spec.networks", spec.networks.len(), "networks", 1..=MAX_NETWORKS)?;
        length("spec.images", spec.images.len(), "pictures", 1..=MAX_IMAGES)?;
        let networks = spec.networks.into_iter().enumerate();
        let images = spec.images.into_iter().enumerate();
        let spec = Self {
            model: model(required("spec.model", spec.model)?)?,
            networks: networks
                .map(|(at, it)| network(&format!("spec.networks[{at}]"), it))
                .collect::<Result<_, _>>()?,
            images: images.map(|(at, it)| image(&format!("spec.images[{at}]"), it)).collect::<Result<_, _>>()?,
            options: required("spec.options", spec.options)?.try_into()?,
            sampling: spec.sampling.map(sampling::Options::try_from).transpose()?.unwrap_or_default(),
        };
        spec.validate().map_err(|error| Error::spec(field_of(&error), error))?;
        Ok(spec)
    }
}

/// The request's part that a search's own check found wrong.
fn field_of(error: &spec::Error) -> String {
    let field = match error {
        spec::Error::NoNetworks => "networks",
        spec::Error::NothingLive => "networks.live",
        spec::Error::Range { name: "loss_weight", .. } => "images.loss_weight",
        spec::Error::Range { name, .. } => return format!("spec.options.{name}"),
        spec::Error::Loss(diffusion::Error::Range { name, .. }) => return format!("spec.options.loss.{name}"),
        spec::Error::Loss(diffusion::Error::NeedsVelocity) => "options.loss.scale_v_pred_loss_like_noise_pred",
        spec::Error::Loss(diffusion::Error::AlreadyVelocity) => "options.loss.v_pred_like_loss",
        spec::Error::Loss(diffusion::Error::Timestep(_)) => "options.loss",
        spec::Error::Optimizer(error) => optimizer_field(error),
        spec::Error::Schedule(error) => schedule_field(error),
        spec::Error::Plan(error) => plan_field(error),
        spec::Error::Sampling(_) => "sampling",
    };
    format!("spec.{field}")
}

fn optimizer_field(error: &optimizer::Error) -> &'static str {
    match error {
        optimizer::Error::Range { name: "first beta", .. } => "options.optimizer.beta1",
        optimizer::Error::Range { name: "second beta", .. } => "options.optimizer.beta2",
        optimizer::Error::Range { name: "eps", .. } => "options.optimizer.eps",
        optimizer::Error::Range { name: "weight_decay", .. } => "options.optimizer.weight_decay",
        _ => "options.optimizer",
    }
}

fn schedule_field(error: &schedule::Error) -> &'static str {
    match error {
        schedule::Error::UnknownScheduler(_) => "options.learning_rate.lr_scheduler",
        schedule::Error::LearningRate(_) | schedule::Error::BelowPolynomialEnd(_) => {
            "options.learning_rate.learning_rate"
        }
        schedule::Error::Power(_) => "options.learning_rate.lr_scheduler_power",
        schedule::Error::NoCycles => "options.learning_rate.lr_scheduler_num_cycles",
        schedule::Error::NoUpdates => "options.max_train_steps",
        schedule::Error::NeedlessWarmup(_) | schedule::Error::EndlessWarmup { .. } => {
            "options.learning_rate.lr_warmup_steps"
        }
    }
}

fn plan_field(error: &plan::Error) -> &'static str {
    match error {
        plan::Error::NoImages => "images",
        plan::Error::TooManySamples(_) => "images.repeats",
        plan::Error::NoBatch => "options.train_batch_size",
        plan::Error::NoAccumulation => "options.gradient_accumulation_steps",
        plan::Error::Timesteps { .. } => "options.max_timestep",
    }
}

impl From<&ModelRef> for v1::ModelRef {
    fn from(model: &ModelRef) -> Self {
        let vae = model.vae.as_deref().map(path_text);
        Self { path: path_text(&model.path), vae, digest: model.digest.clone() }
    }
}

fn model(model: v1::ModelRef) -> Result<ModelRef, Error> {
    Ok(ModelRef {
        path: path("spec.model.path", model.path)?,
        vae: model.vae.map(|vae| path("spec.model.vae", vae)).transpose()?,
        digest: sha256("spec.model.digest", model.digest)?,
    })
}

impl From<&NetworkRef> for v1::NetworkRef {
    fn from(network: &NetworkRef) -> Self {
        Self {
            name: network.name.clone(),
            path: path_text(&network.path),
            sha256: network.sha256.clone(),
            live: network.live.to_vec(),
        }
    }
}

fn network(field: &str, network: v1::NetworkRef) -> Result<NetworkRef, Error> {
    let found = network.live.len();
    let live = <[bool; BLOCKS]>::try_from(network.live).map_err(|_| Error::Length {
        field: format!("{field}.live"),
        found,
        unit: "flags",
        expected: BLOCKS.to_string(),
    })?;
    Ok(NetworkRef {
        name: name(&format!("{field}.name"), network.name)?,
        path: path(&format!("{field}.path"), network.path)?,
        sha256: sha256(&format!("{field}.sha256"), network.sha256)?,
        live,
    })
}

impl From<&Image> for v1::ImageRef {
    fn from(image: &Image) -> Self {
        Self {
            path: path_text(&image.path),
            sha256: image.sha256.clone(),
            caption: image.caption.clone(),
            size: Some(size_message(image.size)),
            repeats: image.repeats,
            loss_weight: image.loss_weight,
            fit: Some((&image.fit).into()),
            held_out: image.held_out,
        }
    }
}

fn image(field: &str, image: v1::ImageRef) -> Result<Image, Error> {
    let weight = format!("{field}.loss_weight");
    super::check::finite(&weight, image.loss_weight.into())?;
    Ok(Image {
        path: path(&format!("{field}.path"), image.path)?,
        sha256: sha256(&format!("{field}.sha256"), image.sha256)?,
        caption: text(&format!("{field}.caption"), image.caption, MAX_CAPTION)?,
        size: size(&format!("{field}.size"), image.size)?,
        repeats: within(&format!("{field}.repeats"), image.repeats, 1..=plan::MAX_SAMPLES as u32)?,
        loss_weight: image.loss_weight,
        fit: fit(&format!("{field}.fit"), required(&format!("{field}.fit"), image.fit)?)?,
        held_out: image.held_out,
    })
}

fn size_message((width, height): (u32, u32)) -> v1::Size {
    v1::Size { width, height }
}

/// A size in pixels, neither empty nor larger than a picture may be.
fn size(field: &str, size: Option<v1::Size>) -> Result<(u32, u32), Error> {
    let v1::Size { width, height } = required(field, size)?;
    let side = |name: &str, side| within(&format!("{field}.{name}"), side, 1..=MAX_SIDE);
    Ok((side("width", width)?, side("height", height)?))
}

impl From<&Fit> for v1::Fit {
    fn from(fit: &Fit) -> Self {
        Self {
            bucket: Some(size_message(fit.bucket)),
            resized: Some(size_message(fit.resized)),
            cut_x: fit.cut.0,
            cut_y: fit.cut.1,
            crop_top: fit.crop.0,
            crop_left: fit.crop.1,
            flipped_crop_top: fit.crop_flipped.0,
            flipped_crop_left: fit.crop_flipped.1,
        }
    }
}

fn fit(field: &str, fit: v1::Fit) -> Result<Fit, Error> {
    let of = |name: &str| format!("{field}.{name}");
    let bucket = size(&of("bucket"), fit.bucket)?;
    for (name, side) in [("bucket.width", bucket.0), ("bucket.height", bucket.1)] {
        if !side.is_multiple_of(MULTIPLE) {
            return Err(Error::range(&of(name), side, format!("a multiple of {MULTIPLE}")));
        }
    }
    let resized = size(&of("resized"), fit.resized)?;
    let room = |name: &str, resized: u32, bucket: u32| {
        let expected = format!("at least the bucket's {bucket}");
        resized.checked_sub(bucket).ok_or_else(|| Error::range(&of(name), resized, expected))
    };
    let room = (room("resized.width", resized.0, bucket.0)?, room("resized.height", resized.1, bucket.1)?);
    let crop = |name: &str, edge: i32| within(&of(name), edge, -(MAX_SIDE as i32)..=MAX_SIDE as i32);
    Ok(Fit {
        bucket,
        resized,
        cut: (within(&of("cut_x"), fit.cut_x, 0..=room.0)?, within(&of("cut_y"), fit.cut_y, 0..=room.1)?),
        crop: (crop("crop_top", fit.crop_top)?, crop("crop_left", fit.crop_left)?),
        crop_flipped: (
            crop("flipped_crop_top", fit.flipped_crop_top)?,
            crop("flipped_crop_left", fit.flipped_crop_left)?,
        ),
    })
}
