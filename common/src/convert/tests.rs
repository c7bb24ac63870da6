mod messages;
mod sampled;
mod service;
mod spec;

use crate::dataset::Image;
use crate::dataset::buckets::Fit;
use crate::diffusion::LossOptions;
use crate::noise::Key;
use crate::optimizer::AdamW;
use crate::plan::{NoiseSampling, TimestepSampling};
use crate::sampling;
use crate::schedule::{LrScheduler, Options};
use crate::spec::{ModelRef, NetworkRef, Precision, SearchOptions, SearchSpec};
use crate::tokenizer::TokenLength;

/// A search whose every field differs from its default.
fn search() -> SearchSpec {
    let mut live = [false; 20];
    live[3] = true;
    let network = |name: &str| NetworkRef { name: name.into(), path: name.into(), sha256: "0a".repeat(32), live };
    SearchSpec {
        model: ModelRef { path: "model".into(), vae: Some("vae".into()), digest: "1b".repeat(32) },
        networks: vec![network("first"), network("second")],
        images: vec![image(1, (96, 64)), image(2, (96, 64)), image(3, (64, 96))],
        options: options(),
        sampling: sampling::Options {
            prompts: vec![
                sampling::parse("a cat --n a dog --d 7", sampling::Defaults::of_size(64, 96)).unwrap(),
                sampling::parse("a house", sampling::Defaults::of_size(32, 32)).unwrap(),
            ],
            every_n_steps: 10,
            at_first: true,
        },
    }
}

fn image(repeats: u32, bucket: (u32, u32)) -> Image {
    Image {
        path: format!("{repeats}.png").into(),
        sha256: "2c".repeat(32),
        caption: "a café".into(),
        size: (100, 120),
        repeats,
        loss_weight: 0.3,
        fit: Fit { bucket, resized: (bucket.0 + 7, bucket.1 + 9), cut: (3, 4), crop: (5, -6), crop_flipped: (7, -8) },
        held_out: false,
    }
}

fn options() -> SearchOptions {
    SearchOptions {
        seed: u64::MAX,
        max_train_steps: 12,
        train_batch_size: 2,
        gradient_accumulation_steps: 3,
        flip_aug: true,
        min_timestep: 10,
        max_timestep: 990,
        max_token_length: TokenLength::T225,
        noise_offset: 0.05,
        application_loss_weight: 1e-4,
        loss: LossOptions {
            v_parameterization: true,
            min_snr_gamma: Some(5.0),
            debiased_estimation: true,
            scale_v_pred_loss_like_noise_pred: true,
            v_pred_like_loss: None,
        },
        optimizer: AdamW { betas: (0.8, 0.99), eps: 1e-7, weight_decay: 0.02 },
        learning_rate: Options {
            learning_rate: 0.2,
            lr_scheduler: LrScheduler::CosineWithRestarts,
            lr_warmup_steps: 2,
            lr_scheduler_num_cycles: 3,
            lr_scheduler_power: 2.0,
        },
        mixed_precision: Precision::Bf16,
        gradient_checkpointing: true,
        cache_latents: true,
        cache_dir: Some("cache".into()),
        skip_unmatched_keys: true,
        penalize_dead_slots: true,
        validation_split: 0.25,
        validate_every_n_steps: 5,
        early_stop: 3,
        validation_samples_per_image: 6,
        timestep_sampling: TimestepSampling::Stratified,
        noise_sampling: NoiseSampling::Antithetic,
        prune: 0.05,
        curvature: true,
        curvature_bound: Some(1e-3),
        fp8_base: true,
    }
}

fn key(step: u64, sample: u64) -> Key {
    Key { seed: u64::MAX, step, sample }
}
