use super::*;
use crate::options::{Options, Resolution};
use lora_rates_common::schedule::LrScheduler;

/// What must be given, and nothing else.
fn least() -> Options {
    Options {
        pretrained_model_name_or_path: Some("model".into()),
        network_weights: Some(vec!["a".into()]),
        train_data_dir: Some("pictures".into()),
        ..Options::default()
    }
}

fn refusal(change: impl FnOnce(&mut Options)) -> String {
    let mut options = least();
    change(&mut options);
    let message = Settings::resolve(&options, Existing::Refuse).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message} is more than one line");
    message
}

#[test]
fn defaults_are_the_references_but_for_the_learning_rate() {
    let settings = Settings::resolve(&least(), Existing::Refuse).unwrap();
    let buckets = &settings.dataset.buckets;
    assert_eq!((buckets.resolution, buckets.enable), ((1024, 1024), false));
    assert_eq!((buckets.min, buckets.max, buckets.step, buckets.no_upscale), (256, 1024, 64, false));
    assert_eq!(settings.dataset.caption_extension, ".caption");
    let options = &settings.options;
    assert_eq!((options.max_train_steps, options.train_batch_size, options.gradient_accumulation_steps), (1600, 1, 1));
    assert_eq!((options.min_timestep, options.max_timestep, options.noise_offset), (0, 1000, 0.0));
    assert_eq!((options.application_loss_weight, options.learning_rate.learning_rate), (1e-4, 0.1));
    assert_eq!(options.learning_rate.lr_scheduler, LrScheduler::Constant);
    assert!(options.cache_latents && options.cache_dir.is_none());
    assert_eq!((settings.seed, settings.devices, settings.max_train_epochs), (None, Vec::new(), None));
    assert_eq!((settings.output_dir, settings.output_name), ("./output".into(), "rates".to_owned()));
}

#[test]
fn what_must_be_given_is_asked_for_by_name() {
    assert!(refusal(|o| o.pretrained_model_name_or_path = None).contains("--pretrained_model_name_or_path is missing"));
    assert!(refusal(|o| o.network_weights = None).contains("--network_weights is missing"));
    assert!(refusal(|o| o.network_weights = Some(Vec::new())).contains("--network_weights is missing"));
    assert!(refusal(|o| o.train_data_dir = None).contains("--train_data_dir is missing"));
}

#[test]
fn numbers_out_of_range_name_their_option() {
    for (option, message) in [
        ("train_batch_size", refusal(|o| o.train_batch_size = Some(0))),
        ("gradient_accumulation_steps", refusal(|o| o.gradient_accumulation_steps = Some(0))),
        ("max_train_steps", refusal(|o| o.max_train_steps = Some(0))),
        ("max_train_epochs", refusal(|o| o.max_train_epochs = Some(0))),
        ("save_every_n_steps", refusal(|o| o.save_every_n_steps = Some(0))),
        ("max_timestep", refusal(|o| o.max_timestep = Some(1001))),
        ("max_timestep", refusal(|o| o.max_timestep = Some(0))),
        ("min_timestep", refusal(|o| o.min_timestep = Some(1000))),
        ("application_loss_weight", refusal(|o| o.application_loss_weight = Some(-1.0))),
        ("application_loss_weight", refusal(|o| o.application_loss_weight = Some(f64::NAN))),
        ("noise_offset", refusal(|o| o.noise_offset = Some(f32::INFINITY))),
        ("learning_rate", refusal(|o| o.learning_rate = Some(-0.1))),
        ("lr_warmup_steps", refusal(|o| o.lr_warmup_steps = Some(10))),
        ("min_snr_gamma", refusal(|o| o.min_snr_gamma = Some(0.0))),
        ("v_parameterization", refusal(|o| o.scale_v_pred_loss_like_noise_pred = Some(true))),
        ("weight_decay", refusal(|o| o.optimizer_args = Some(vec!["weight_decay=-1".into()]))),
        ("resolution", refusal(|o| o.resolution = Some(Resolution { width: 0, height: 0 }))),
        ("step", refusal(|o| (o.enable_bucket, o.bucket_reso_steps) = (Some(true), Some(7)))),
    ] {
        assert!(message.contains(option), "{message} doesn't name {option}");
    }
}

#[test]
fn what_is_not_supported_is_refused_with_the_reason() {
    assert!(refusal(|o| o.mixed_precision = Some("fp16".into())).contains("exceed the range of fp16: use bf16"));
    assert!(refusal(|o| o.mixed_precision = Some("fp8".into())).contains("no (f32) or bf16"));
    assert!(refusal(|o| o.timestep_sampling = Some("even".into())).contains("uniform or stratified"));
    assert!(refusal(|o| o.noise_sampling = Some("none".into())).contains("independent or antithetic"));
    assert!(refusal(|o| o.network_module = Some("lycoris.kohya".into())).contains("networks.lora"));
    assert!(refusal(|o| o.optimizer_type = Some("Lion".into())).contains("AdamW"));
    assert!(refusal(|o| o.device = Some(vec!["tpu".into()])).contains("--device"));
    for name in ["", "a/b", "..", ".hidden", "a\0b"] {
        assert!(refusal(|o| o.output_name = Some(name.into())).contains("--output_name"), "{name:?}");
    }
}

#[test]
fn held_out_pictures_are_measured_every_hundred_steps_unless_told() {
    let resolve = |options: Options| Settings::resolve(&options, Existing::Refuse).unwrap().options;
    let split = Options { validation_split: Some(0.25), ..least() };
    let options = resolve(Options { early_stop: Some(3), ..split.clone() });
    assert_eq!((options.validate_every_n_steps, options.early_stop), (100, 3));
    assert_eq!(resolve(Options { validate_every_n_steps: Some(7), ..split.clone() }).validate_every_n_steps, 7);
    assert_eq!(resolve(least()).validate_every_n_steps, 0);
    let message = refusal(|o| o.validate_every_n_steps = Some(10));
    assert!(message.contains("--validate_every_n_steps needs --validation_split"), "{message}");
    assert!(refusal(|o| o.validation_samples_per_image = Some(1)).contains("needs --validation_split"));
    let own = Options { validation_data_dir: Some("held".into()), ..least() };
    let own = Settings::resolve(&own, Existing::Refuse).unwrap();
    assert_eq!((own.options.validate_every_n_steps, own.options.validation_split), (100, 0.0));
    let both = |o: &mut Options| (o.validation_data_dir, o.validation_split) = (Some("held".into()), Some(0.5));
    assert!(refusal(both).contains("--validation_split and --validation_data_dir exclude each other"));
    assert!(refusal(|o| o.early_stop = Some(1)).contains("--early_stop needs --validation_split"));
    for split in [1.0, -0.1, f64::NAN] {
        assert!(refusal(|o| o.validation_split = Some(split)).contains("--validation_split is"));
    }
    let zero = refusal(|o| (o.validation_split, o.validate_every_n_steps) = (Some(0.5), Some(0)));
    assert!(zero.contains("--validate_every_n_steps is 0"), "{zero}");
}

#[test]
fn a_coordinator_refuses_what_is_for_this_machine() {
    let target = || Target { url: "http://host:1".to_owned(), access: Default::default() };
    let resolve = |options: Options| Settings::resolve_for(&options, Existing::Refuse, Some(target()));
    assert_eq!(resolve(least()).unwrap().coordinator, Some(target()));
    for (option, options) in [
        ("--device cpu:", Options { device: Some(vec!["cpu".into()]), ..least() }),
        ("--cache_latents_to_disk", Options { cache_latents_to_disk: Some(true), ..least() }),
        ("--cache_dir", Options { cache_dir: Some("c".into()), ..least() }),
        ("--pretrained_model_name_or_path", Options { pretrained_model_name_or_path: Some("/m".into()), ..least() }),
        ("--vae ../v", Options { vae: Some("../v".into()), ..least() }),
    ] {
        let message = resolve(options).unwrap_err().to_string();
        assert!(message.contains(option) && message.contains("with --coordinator"), "{message}");
    }
}

#[test]
fn every_device_gets_a_worker_and_the_output_name_is_the_name() {
    let devices = vec!["cuda:0".into(), "cuda:1".into()];
    let options = Options { device: Some(devices), output_name: Some("x".into()), ..least() };
    let settings = Settings::resolve(&options, Existing::Refuse).unwrap();
    assert_eq!(settings.devices, [Device::Cuda(0), Device::Cuda(1)]);
    assert_eq!(settings.name, "x");
    assert!(refusal(|o| o.device = Some(vec!["cpu".into(); 65])).contains("--device is 65 devices"));
    assert!(refusal(|o| o.name = Some(String::new())).contains("--name"));
}

#[test]
fn latents_go_to_disk_only_when_asked_for() {
    let resolve = |options: Options| Settings::resolve(&options, Existing::Refuse).unwrap().options.cache_dir;
    let to_disk = Options { cache_latents_to_disk: Some(true), output_dir: Some("out".into()), ..least() };
    assert_eq!(resolve(to_disk.clone()), Some("out/cache".into()));
    assert_eq!(resolve(Options { cache_dir: Some("elsewhere".into()), ..to_disk }), Some("elsewhere".into()));
    assert!(refusal(|o| o.cache_dir = Some("c".into())).contains("--cache_latents_to_disk"));
    let both = refusal(|o| (o.cache_latents, o.cache_latents_to_disk) = (Some(false), Some(true)));
    assert!(both.contains("exclude each other"));
}

#[test]
fn epochs_leave_the_number_of_steps_open() {
    let options = Options { max_train_epochs: Some(3), lr_warmup_steps: Some(5000), ..least() };
    let options = Options { lr_scheduler: Some(LrScheduler::Cosine), ..options };
    assert_eq!(Settings::resolve(&options, Existing::Resume).unwrap().max_train_epochs, Some(3));
}
