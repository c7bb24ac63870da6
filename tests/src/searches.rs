//! Searches over pictures and networks that are no such things: synthetic workers never look into them.

use lora_rates_common::convert::BlobKey;
use lora_rates_common::dataset::Image;
use lora_rates_common::dataset::buckets::Fit;
use lora_rates_common::optimizer::AdamW;
use lora_rates_common::schedule::{self, LrScheduler};
use lora_rates_common::spec::{ModelRef, NetworkRef, Precision, SearchOptions, SearchSpec, hex};
use sha2::{Digest, Sha256};

/// How large a search is.
#[derive(Clone, Debug)]
pub struct Size {
    /// Decides the numbers; searches of different seeds have different trajectories.
    pub seed: u64,
    /// Networks, of twenty rates each.
    pub networks: usize,
    /// Pictures, in two buckets, with one to three repeats.
    pub images: u32,
    /// Steps.
    pub steps: u64,
    /// Samples of a microbatch, at most.
    pub batch: u32,
    /// Microbatches of a step, at most.
    pub microbatches: u32,
    /// Steps between two evaluations on a third of the pictures; 0 for none.
    pub validate_every: u64,
}

impl Default for Size {
    /// Two networks, nine pictures, 40 steps of at most four microbatches of two samples, no evaluations.
    fn default() -> Self {
        Self { seed: 3, networks: 2, images: 9, steps: 40, batch: 2, microbatches: 4, validate_every: 0 }
    }
}

impl Size {
    /// The search. Its files are those of [`Self::files`].
    #[must_use]
    pub fn spec(&self) -> SearchSpec {
        SearchSpec {
            model: ModelRef { path: "model".into(), vae: None, digest: "1b".repeat(32) },
            networks: (0..self.networks).map(network).collect(),
            images: (0..self.images).map(image).collect(),
            options: self.options(),
            sampling: Default::default(),
        }
    }

    /// Its pictures and networks: their keys and their bytes.
    #[must_use]
    pub fn files(&self) -> Vec<(BlobKey, Vec<u8>)> {
        let names = (0..self.networks).map(network_name).chain((0..self.images).map(image_name));
        names.map(|name| (BlobKey::File(digest(&name)), name.into_bytes())).collect()
    }

    fn options(&self) -> SearchOptions {
        let validates = self.validate_every > 0;
        SearchOptions {
            seed: self.seed,
            max_train_steps: self.steps,
            train_batch_size: self.batch,
            gradient_accumulation_steps: self.microbatches,
            flip_aug: true,
            min_timestep: 0,
            max_timestep: 1000,
            max_token_length: Default::default(),
            noise_offset: 0.0,
            application_loss_weight: 1e-4,
            loss: Default::default(),
            optimizer: AdamW::default(),
            learning_rate: schedule::Options { lr_scheduler: LrScheduler::Cosine, ..Default::default() },
            mixed_precision: Precision::F32,
            gradient_checkpointing: false,
            cache_latents: true,
            cache_dir: None,
            skip_unmatched_keys: false,
            penalize_dead_slots: false,
            validation_split: if validates { 0.34 } else { 0.0 },
            validate_every_n_steps: self.validate_every,
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
}

/// A network with one dead slot.
fn network(number: usize) -> NetworkRef {
    let mut live = [true; 20];
    live[number % 20] = false;
    let name = network_name(number);
    NetworkRef { path: format!("{name}.safetensors").into(), sha256: digest(&name), name, live }
}

fn network_name(number: usize) -> String {
    format!("network-{number}")
}

fn image(number: u32) -> Image {
    let bucket = if number.is_multiple_of(3) { (96, 64) } else { (64, 96) };
    let fit = Fit { bucket, resized: bucket, cut: (0, 0), crop: (0, 0), crop_flipped: (0, 0) };
    let name = image_name(number);
    Image {
        path: format!("{name}.png").into(),
        sha256: digest(&name),
        caption: "a cat".into(),
        size: bucket,
        repeats: 1 + number % 3,
        loss_weight: 1.0,
        fit,
        held_out: false,
    }
}

fn image_name(number: u32) -> String {
    format!("picture-{number}")
}

fn digest(name: &str) -> String {
    hex(&Sha256::digest(name))
}
