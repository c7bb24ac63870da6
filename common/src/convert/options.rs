//! What a user chooses about a search, both ways. Fields are named from `spec.options`.
//!
//! Ranges that [`crate::spec::SearchSpec::validate`] knows are left to it.

use super::check::{path, path_text, required, within};
use super::{Error, MAX_ACCUMULATION, MAX_BATCH, MAX_STEPS};
use crate::diffusion::LossOptions;
use crate::optimizer::AdamW;
use crate::schedule;
use crate::spec::{Precision, SearchOptions};
use crate::tokenizer::TokenLength;
use lora_rates_proto::v1;
use std::str::FromStr;

impl From<&SearchOptions> for v1::SearchOptions {
    fn from(options: &SearchOptions) -> Self {
        Self {
            seed: options.seed,
            max_train_steps: options.max_train_steps,
            train_batch_size: options.train_batch_size,
            gradient_accumulation_steps: options.gradient_accumulation_steps,
            flip_aug: options.flip_aug,
            min_timestep: options.min_timestep,
            max_timestep: options.max_timestep,
            max_token_length: options.max_token_length.into(),
            noise_offset: options.noise_offset,
            application_loss_weight: options.application_loss_weight,
            loss: Some((&options.loss).into()),
            optimizer: Some((&options.optimizer).into()),
            learning_rate: Some((&options.learning_rate).into()),
            mixed_precision: v1::Precision::from(options.mixed_precision).into(),
            gradient_checkpointing: options.gradient_checkpointing,
            cache_latents: options.cache_latents,
            cache_dir: options.cache_dir.as_deref().map(path_text),
            skip_unmatched_keys: options.skip_unmatched_keys,
            penalize_dead_slots: options.penalize_dead_slots,
            validation_split: options.validation_split,
            validate_every_n_steps: options.validate_every_n_steps,
            early_stop: options.early_stop,
            validation_samples_per_image: options.validation_samples_per_image,
            timestep_sampling: options.timestep_sampling.name().to_owned(),
            noise_sampling: options.noise_sampling.name().to_owned(),
            prune: options.prune,
            curvature: options.curvature,
            curvature_bound: options.curvature_bound,
            fp8_base: options.fp8_base,
        }
    }
}

impl TryFrom<v1::SearchOptions> for SearchOptions {
    type Error = Error;

    fn try_from(options: v1::SearchOptions) -> Result<Self, Error> {
        let of = |name: &str| format!("spec.options.{name}");
        let count = |name: &str, value, most| within(&of(name), value, 1..=most);
        let length = TokenLength::try_from(options.max_token_length);
        Ok(Self {
            seed: options.seed,
            max_train_steps: within(&of("max_train_steps"), options.max_train_steps, 1..=MAX_STEPS)?,
            train_batch_size: count("train_batch_size", options.train_batch_size, MAX_BATCH)?,
            gradient_accumulation_steps: count(
                "gradient_accumulation_steps",
                options.gradient_accumulation_steps,
                MAX_ACCUMULATION,
            )?,
            flip_aug: options.flip_aug,
            min_timestep: options.min_timestep,
            max_timestep: options.max_timestep,
            max_token_length: length
                .map_err(|_| Error::range(&of("max_token_length"), options.max_token_length, "75, 150 or 225"))?,
            noise_offset: options.noise_offset,
            application_loss_weight: options.application_loss_weight,
            loss: required(&of("loss"), options.loss)?.into(),
            optimizer: required(&of("optimizer"), options.optimizer)?.into(),
            learning_rate: required(&of("learning_rate"), options.learning_rate)?.try_into()?,
            mixed_precision: precision(&of("mixed_precision"), options.mixed_precision)?,
            gradient_checkpointing: options.gradient_checkpointing,
            cache_latents: options.cache_latents,
            cache_dir: options.cache_dir.map(|folder| path(&of("cache_dir"), folder)).transpose()?,
            skip_unmatched_keys: options.skip_unmatched_keys,
            penalize_dead_slots: options.penalize_dead_slots,
            validation_split: options.validation_split,
            validate_every_n_steps: within(
                &of("validate_every_n_steps"),
                options.validate_every_n_steps,
                0..=MAX_STEPS,
            )?,
            early_stop: options.early_stop,
            validation_samples_per_image: options.validation_samples_per_image,
            timestep_sampling: named(&of("timestep_sampling"), &options.timestep_sampling)?,
            noise_sampling: named(&of("noise_sampling"), &options.noise_sampling)?,
            prune: options.prune,
            curvature: options.curvature,
            curvature_bound: options.curvature_bound,
            fp8_base: options.fp8_base,
        })
    }
}

/// One of an option's names; its default where none is given.
fn named<T: FromStr<Err = String> + Default>(field: &str, name: &str) -> Result<T, Error> {
    if name.is_empty() {
        return Ok(T::default());
    }
    super::check::length(field, name.len(), "bytes", 1..=super::MAX_NAME)?;
    name.parse().map_err(|expected| Error::range(field, format!("{name:?}"), expected))
}

impl From<Precision> for v1::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

fn precision(field: &str, number: i32) -> Result<Precision, Error> {
    match v1::Precision::try_from(number) {
        Ok(v1::Precision::F32) => Ok(Precision::F32),
        Ok(v1::Precision::Bf16) => Ok(Precision::Bf16),
        Ok(v1::Precision::Unspecified) | Err(_) => Err(Error::range(field, number, "1 (f32) or 2 (bf16)")),
    }
}

impl From<&LossOptions> for v1::LossOptions {
    fn from(options: &LossOptions) -> Self {
        Self {
            v_parameterization: options.v_parameterization,
            min_snr_gamma: options.min_snr_gamma,
            debiased_estimation_loss: options.debiased_estimation,
            scale_v_pred_loss_like_noise_pred: options.scale_v_pred_loss_like_noise_pred,
            v_pred_like_loss: options.v_pred_like_loss,
        }
    }
}

impl From<v1::LossOptions> for LossOptions {
    fn from(options: v1::LossOptions) -> Self {
        Self {
            v_parameterization: options.v_parameterization,
            min_snr_gamma: options.min_snr_gamma,
            debiased_estimation: options.debiased_estimation_loss,
            scale_v_pred_loss_like_noise_pred: options.scale_v_pred_loss_like_noise_pred,
            v_pred_like_loss: options.v_pred_like_loss,
        }
    }
}

impl From<&AdamW> for v1::AdamW {
    fn from(options: &AdamW) -> Self {
        let AdamW { betas: (beta1, beta2), eps, weight_decay } = *options;
        Self { beta1, beta2, eps, weight_decay }
    }
}

impl From<v1::AdamW> for AdamW {
    fn from(options: v1::AdamW) -> Self {
        let v1::AdamW { beta1, beta2, eps, weight_decay } = options;
        Self { betas: (beta1, beta2), eps, weight_decay }
    }
}

impl From<&schedule::Options> for v1::LearningRate {
    fn from(options: &schedule::Options) -> Self {
        Self {
            learning_rate: options.learning_rate,
            lr_scheduler: options.lr_scheduler.name().to_owned(),
            lr_warmup_steps: options.lr_warmup_steps,
            lr_scheduler_num_cycles: options.lr_scheduler_num_cycles,
            lr_scheduler_power: options.lr_scheduler_power,
        }
    }
}

impl TryFrom<v1::LearningRate> for schedule::Options {
    type Error = Error;

    fn try_from(options: v1::LearningRate) -> Result<Self, Error> {
        let field = "spec.options.learning_rate.lr_scheduler";
        super::check::length(field, options.lr_scheduler.len(), "bytes", 1..=super::MAX_NAME)?;
        Ok(Self {
            learning_rate: options.learning_rate,
            lr_scheduler: options.lr_scheduler.parse().map_err(|error: schedule::Error| Error::spec(field, error))?,
            lr_warmup_steps: options.lr_warmup_steps,
            lr_scheduler_num_cycles: options.lr_scheduler_num_cycles,
            lr_scheduler_power: options.lr_scheduler_power,
        })
    }
}
