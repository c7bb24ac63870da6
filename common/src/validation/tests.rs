use super::*;
use crate::dataset::Image;
use crate::dataset::buckets::{BucketOptions, Buckets};
use crate::spec::{ModelRef, NetworkRef, SearchOptions};

fn spec(images: u32, split: f64) -> SearchSpec {
    let network = NetworkRef { name: "a".into(), path: "a".into(), sha256: "ab".repeat(32), live: [true; 20] };
    let buckets = Buckets::new(&BucketOptions::default()).unwrap();
    let image = |number: u32| {
        let size = if number.is_multiple_of(3) { (512, 768) } else { (640, 640) };
        Image {
            path: number.to_string().into(),
            sha256: format!("{number:064x}"),
            caption: String::new(),
            size,
            repeats: 1 + number % 2,
            loss_weight: 1.0,
            fit: buckets.fit(size.0, size.1),
            held_out: false,
        }
    };
    let options: SearchOptions = serde_json::from_value(serde_json::json!({
        "seed": 5, "max_train_steps": 25, "train_batch_size": 3, "gradient_accumulation_steps": 1, "flip_aug": true,
        "min_timestep": 100, "max_timestep": 900, "max_token_length": serde_json::to_value(crate::tokenizer::TokenLength::T75).unwrap(),
        "noise_offset": 0.0, "application_loss_weight": 1e-4, "loss": crate::diffusion::LossOptions::default(),
        "optimizer": crate::optimizer::AdamW::default(), "learning_rate": crate::schedule::Options::default(),
        "mixed_precision": "no", "gradient_checkpointing": false, "cache_latents": true, "cache_dir": null,
        "skip_unmatched_keys": false, "penalize_dead_slots": false,
        "validation_split": split, "validate_every_n_steps": if split > 0.0 { 10 } else { 0 },
    }))
    .unwrap();
    let model = ModelRef { path: "m".into(), vae: None, digest: "cd".repeat(32) };
    SearchSpec {
        model,
        networks: vec![network],
        images: (0..images).map(image).collect(),
        options,
        sampling: Default::default(),
    }
}

#[test]
fn held_out_pictures_are_never_trained_on_and_all_others_are() {
    let spec = spec(10, 0.3);
    spec.validate().unwrap();
    let held_out = held_out(&spec);
    assert_eq!(held_out.iter().filter(|it| **it).count(), 3);
    let plan = spec.plan().unwrap();
    let mut shown = [false; 10];
    for step in 0..plan.steps_per_epoch() {
        for sample in plan.step(step).iter().flat_map(|batch| &batch.samples) {
            shown[sample.image as usize] = true;
        }
    }
    let expected: Vec<bool> = held_out.iter().map(|held_out| !held_out).collect();
    assert_eq!(shown.to_vec(), expected);
    for sample in spec.validation().unwrap().microbatches.iter().flat_map(|batch| &batch.samples) {
        assert!(held_out[sample.image as usize] && !sample.flip);
    }
}

#[test]
fn the_split_leaves_something_on_both_sides() {
    for (images, split, expected) in [(2, 0.01, 1), (2, 0.99, 1), (5, 0.5, 3), (100, 0.25, 25)] {
        let count = held_out(&spec(images, split)).into_iter().filter(|it| *it).count();
        assert_eq!(count, expected, "{images} pictures, {split}");
    }
    assert!(spec(5, 0.0).validation().is_none());
}

#[test]
fn timesteps_are_stratified_and_noise_is_of_its_own() {
    let spec = spec(10, 0.3);
    let validation = spec.validation().unwrap();
    let mut keys = std::collections::BTreeSet::new();
    let mut timesteps = std::collections::BTreeMap::<u32, Vec<u32>>::new();
    for batch in &validation.microbatches {
        assert!(batch.samples.len() <= 3);
        for sample in &batch.samples {
            assert_eq!(spec.images[sample.image as usize].fit.bucket, batch.bucket);
            assert!(sample.noise_key.step > crate::convert::MAX_STEPS);
            keys.insert((sample.noise_key.step, sample.noise_key.sample));
            timesteps.entry(sample.image).or_default().push(sample.timestep);
        }
    }
    assert_eq!((keys.len(), timesteps.len()), (validation.samples(), 3));
    for mut of_picture in timesteps.into_values() {
        assert_eq!(of_picture.len(), 11);
        of_picture.sort_unstable();
        let width = 800.0 / 11.0;
        for (stratum, timestep) in of_picture.iter().enumerate() {
            let low = 100.0 + stratum as f64 * width;
            assert!((low.floor()..low + width).contains(&f64::from(*timestep)), "{timestep} in stratum {stratum}");
        }
    }
    assert_eq!(spec.validation().unwrap(), validation);
}

#[test]
fn evaluations_are_at_the_beginning_every_so_often_and_at_the_end() {
    let validation = spec(10, 0.3).validation().unwrap();
    let due: Vec<u64> = (0..=25).filter(|step| validation.is_due(*step, 25)).collect();
    assert_eq!(due, [0, 10, 20, 25]);
}

#[test]
fn pictures_of_a_folder_of_their_own_are_held_out_and_no_others() {
    let mut spec = spec(6, 0.0);
    let plain = spec.fingerprint();
    spec.images[4].held_out = true;
    spec.images[5].held_out = true;
    spec.options.validate_every_n_steps = 10;
    spec.options.validation_samples_per_image = 5;
    spec.validate().unwrap();
    assert_eq!(held_out(&spec), [false, false, false, false, true, true]);
    assert_eq!(spec.validation().unwrap().samples(), 10);
    assert_ne!(spec.fingerprint(), plain);
    spec.options.validation_split = 0.5;
    let error = spec.validate().unwrap_err().to_string();
    assert!(error.contains("0 with held-out pictures of their own"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |change: fn(&mut SearchSpec), part: &str| {
        let mut spec = spec(10, 0.3);
        change(&mut spec);
        let error = spec.validate().unwrap_err().to_string();
        assert!(error.starts_with(part), "{error}");
    };
    refused(|spec| spec.options.validation_split = 1.0, "validation_split is 1");
    refused(|spec| spec.options.validation_split = f64::NAN, "validation_split is NaN");
    refused(|spec| spec.options.validation_split = -0.1, "validation_split is -0.1");
    refused(|spec| spec.options.validate_every_n_steps = 0, "validate_every_n_steps is 0");
    refused(|spec| spec.options.validation_split = 0.0, "validate_every_n_steps is 10");
    refused(|spec| spec.images.truncate(1), "validation_split is 0.3");
    refused(
        |spec| {
            spec.options.validation_split = 0.0;
            spec.options.validate_every_n_steps = 0;
            spec.options.early_stop = 2;
        },
        "early_stop is 2",
    );
    refused(|spec| spec.options.validation_samples_per_image = 4097, "validation_samples_per_image is 4097");
    refused(
        |spec| {
            spec.options.validation_split = 0.0;
            spec.options.validate_every_n_steps = 0;
            spec.options.validation_samples_per_image = 2;
        },
        "validation_samples_per_image is 2",
    );
}

#[test]
fn encodings_mirror_only_what_is_trained_on() {
    let spec = spec(10, 0.3);
    let encodings = spec.encodings();
    assert_eq!(encodings.len(), 10 + 7);
    let keys: std::collections::BTreeSet<_> =
        encodings.iter().map(|(image, flip)| spec.encoding_key(*image, *flip).unwrap()).collect();
    assert_eq!(keys.len(), 17);
    assert_eq!(spec.encoding_key(10, false), None);
}

#[test]
fn searches_without_held_out_pictures_keep_their_fingerprints() {
    let text = serde_json::to_string(&spec(3, 0.0).options).unwrap();
    assert!(!text.contains("validat") && !text.contains("early_stop"), "{text}");
    let image = serde_json::to_string(&spec(3, 0.0).images[0]).unwrap();
    assert!(!image.contains("held_out"), "{image}");
}
