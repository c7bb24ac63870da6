use super::super::{Error, MAX_CAPTION, MAX_IMAGES, MAX_NETWORKS};
use super::search;
use crate::sampling::MAX_PROMPT;
use crate::spec::SearchSpec;
use lora_rates_proto::v1;

fn message() -> v1::SearchSpec {
    (&search()).into()
}

#[test]
fn a_search_comes_back_as_it_went() {
    assert_eq!(SearchSpec::try_from(message()).unwrap(), search());

    let mut plain = search();
    plain.model.vae = None;
    plain.sampling = Default::default();
    plain.options.cache_dir = None;
    plain.options.loss = Default::default();
    plain.options.mixed_precision = Default::default();
    plain.images[0].caption.clear();
    assert_eq!(SearchSpec::try_from(v1::SearchSpec::from(&plain)).unwrap(), plain);
}

/// What one field is changed to.
type Change = fn(&mut v1::SearchSpec);

/// Every change makes the search wrong in the field named beside it.
const WRONG: &[(&str, Change)] = &[
    ("spec.model", |spec| spec.model = None),
    ("spec.model.path", |spec| model(spec).path.clear()),
    ("spec.model.path", |spec| model(spec).path = "a".repeat(5000)),
    ("spec.model.vae", |spec| model(spec).vae = Some(String::new())),
    ("spec.model.digest", |spec| model(spec).digest.truncate(63)),
    ("spec.networks", |spec| spec.networks.clear()),
    ("spec.networks", |spec| spec.networks = vec![spec.networks[0].clone(); MAX_NETWORKS + 1]),
    ("spec.networks[1].name", |spec| spec.networks[1].name.clear()),
    ("spec.networks[1].path", |spec| spec.networks[1].path.clear()),
    ("spec.networks[0].sha256", |spec| spec.networks[0].sha256 = "g".repeat(64)),
    ("spec.networks[0].sha256", |spec| spec.networks[0].sha256 = "é".repeat(32)),
    ("spec.networks[1].live", |spec| spec.networks[1].live.truncate(19)),
    ("spec.networks[1].live", |spec| spec.networks[1].live.clear()),
    ("spec.networks.live", |spec| spec.networks.iter_mut().for_each(|network| network.live = vec![false; 20])),
    ("spec.images", |spec| spec.images.clear()),
    ("spec.images", |spec| spec.images = vec![Default::default(); MAX_IMAGES + 1]),
    ("spec.images[2].path", |spec| spec.images[2].path.clear()),
    ("spec.images[2].sha256", |spec| spec.images[2].sha256.push('0')),
    ("spec.images[1].caption", |spec| spec.images[1].caption = "a".repeat(MAX_CAPTION + 1)),
    ("spec.images[1].size", |spec| spec.images[1].size = None),
    ("spec.images[1].size.width", |spec| size(&mut spec.images[1].size).width = 0),
    ("spec.images[1].size.height", |spec| size(&mut spec.images[1].size).height = u32::MAX),
    ("spec.images[0].repeats", |spec| spec.images[0].repeats = 0),
    ("spec.images[0].repeats", |spec| spec.images[0].repeats = u32::MAX),
    ("spec.images.repeats", |spec| spec.images.iter_mut().for_each(|image| image.repeats = 9_000_000)),
    ("spec.images[0].loss_weight", |spec| spec.images[0].loss_weight = f32::NAN),
    ("spec.images[0].fit", |spec| spec.images[0].fit = None),
    ("spec.images[0].fit.bucket", |spec| fit(spec).bucket = None),
    ("spec.images[0].fit.bucket.width", |spec| size(&mut fit(spec).bucket).width = 0),
    ("spec.images[0].fit.bucket.height", |spec| size(&mut fit(spec).bucket).height = 65),
    ("spec.images[0].fit.resized", |spec| fit(spec).resized = None),
    ("spec.images[0].fit.resized.width", |spec| size(&mut fit(spec).resized).width = 95),
    ("spec.images[0].fit.resized.height", |spec| size(&mut fit(spec).resized).height = 1),
    ("spec.images[0].fit.cut_x", |spec| fit(spec).cut_x = 8),
    ("spec.images[0].fit.cut_y", |spec| fit(spec).cut_y = u32::MAX),
    ("spec.images[0].fit.crop_top", |spec| fit(spec).crop_top = i32::MIN),
    ("spec.images[0].fit.crop_left", |spec| fit(spec).crop_left = i32::MAX),
    ("spec.images[0].fit.flipped_crop_top", |spec| fit(spec).flipped_crop_top = i32::MAX),
    ("spec.images[0].fit.flipped_crop_left", |spec| fit(spec).flipped_crop_left = i32::MIN),
    ("spec.sampling.prompts", |spec| sampling(spec).prompts = vec![Default::default(); 257]),
    ("spec.sampling.prompts[1].prompt", |spec| sampling(spec).prompts[1].prompt = "a".repeat(MAX_PROMPT + 1)),
    ("spec.sampling.prompts[0].negative_prompt", |spec| {
        sampling(spec).prompts[0].negative_prompt = "a".repeat(MAX_PROMPT + 1);
    }),
    ("spec.sampling.prompts[0]", |spec| sampling(spec).prompts[0].width = 65),
    ("spec.sampling.prompts[0]", |spec| sampling(spec).prompts[0].height = 1 << 20),
    ("spec.sampling.prompts[1]", |spec| sampling(spec).prompts[1].scale = f64::NAN),
    ("spec.sampling.prompts[1]", |spec| sampling(spec).prompts[1].steps = 0),
    ("spec.sampling.every_n_steps", |spec| sampling(spec).every_n_steps = u64::MAX),
    ("spec.sampling", |spec| sampling(spec).prompts.clear()),
    ("spec.options", |spec| spec.options = None),
    ("spec.options.max_train_steps", |spec| options(spec).max_train_steps = 0),
    ("spec.options.max_train_steps", |spec| options(spec).max_train_steps = u64::MAX),
    ("spec.options.train_batch_size", |spec| options(spec).train_batch_size = 0),
    ("spec.options.train_batch_size", |spec| options(spec).train_batch_size = u32::MAX),
    ("spec.options.gradient_accumulation_steps", |spec| options(spec).gradient_accumulation_steps = 0),
    ("spec.options.gradient_accumulation_steps", |spec| options(spec).gradient_accumulation_steps = u32::MAX),
    ("spec.options.max_timestep", |spec| options(spec).max_timestep = 1001),
    ("spec.options.max_timestep", |spec| options(spec).min_timestep = 990),
    ("spec.options.max_token_length", |spec| options(spec).max_token_length = 77),
    ("spec.options.noise_offset", |spec| options(spec).noise_offset = f32::INFINITY),
    ("spec.options.application_loss_weight", |spec| options(spec).application_loss_weight = -1.0),
    ("spec.options.loss", |spec| options(spec).loss = None),
    ("spec.options.loss.min_snr_gamma", |spec| loss(spec).min_snr_gamma = Some(f64::NAN)),
    ("spec.options.loss.v_pred_like_loss", |spec| loss(spec).v_pred_like_loss = Some(1.0)),
    ("spec.options.loss.v_pred_like_loss", |spec| loss(spec).v_pred_like_loss = Some(-1.0)),
    ("spec.options.loss.scale_v_pred_loss_like_noise_pred", |spec| loss(spec).v_parameterization = false),
    ("spec.options.optimizer", |spec| options(spec).optimizer = None),
    ("spec.options.optimizer.beta1", |spec| optimizer(spec).beta1 = 1.0),
    ("spec.options.optimizer.beta2", |spec| optimizer(spec).beta2 = f64::NAN),
    ("spec.options.optimizer.eps", |spec| optimizer(spec).eps = 0.0),
    ("spec.options.optimizer.weight_decay", |spec| optimizer(spec).weight_decay = f64::NEG_INFINITY),
    ("spec.options.learning_rate", |spec| options(spec).learning_rate = None),
    ("spec.options.learning_rate.learning_rate", |spec| rate(spec).learning_rate = f64::NAN),
    ("spec.options.learning_rate.lr_scheduler", |spec| rate(spec).lr_scheduler = "cosinus".into()),
    ("spec.options.learning_rate.lr_scheduler", |spec| rate(spec).lr_scheduler.clear()),
    ("spec.options.learning_rate.lr_warmup_steps", |spec| rate(spec).lr_warmup_steps = 12),
    ("spec.options.learning_rate.lr_scheduler_num_cycles", |spec| rate(spec).lr_scheduler_num_cycles = 0),
    ("spec.options.learning_rate.lr_scheduler_power", |spec| rate(spec).lr_scheduler_power = -0.5),
    ("spec.options.mixed_precision", |spec| options(spec).mixed_precision = 0),
    ("spec.options.mixed_precision", |spec| options(spec).mixed_precision = i32::MIN),
    ("spec.options.cache_dir", |spec| options(spec).cache_dir = Some(String::new())),
    ("spec.options.validation_split", |spec| options(spec).validation_split = 1.0),
    ("spec.options.validation_split", |spec| options(spec).validation_split = f64::NAN),
    ("spec.options.validate_every_n_steps", |spec| options(spec).validate_every_n_steps = 0),
    ("spec.options.validate_every_n_steps", |spec| options(spec).validate_every_n_steps = u64::MAX),
    ("spec.options.validate_every_n_steps", |spec| options(spec).validation_split = 0.0),
    ("spec.options.prune", |spec| options(spec).prune = f64::NAN),
    ("spec.options.curvature_bound", |spec| options(spec).curvature_bound = Some(-1.0)),
    ("spec.options.timestep_sampling", |spec| options(spec).timestep_sampling = "even".into()),
    ("spec.options.noise_sampling", |spec| options(spec).noise_sampling = "x".repeat(2000)),
    ("spec.options.validation_samples_per_image", |spec| options(spec).validation_samples_per_image = 4097),
    ("spec.options.early_stop", |spec| {
        (options(spec).validation_split, options(spec).validate_every_n_steps) = (0.0, 0);
    }),
];

#[test]
fn every_wrong_field_is_refused_by_its_name() {
    for (number, (field, change)) in WRONG.iter().enumerate() {
        let mut spec = message();
        change(&mut spec);
        let error = SearchSpec::try_from(spec).expect_err(field);
        assert_eq!(error.field(), *field, "change {number}: {error}");
        assert!(error.to_string().starts_with(field), "change {number}: {error}");
        assert!(error.to_string().len() < 400, "change {number}: {error}");
    }
}

#[test]
fn a_digest_in_capitals_is_the_same_digest() {
    let mut spec = message();
    spec.networks[0].sha256 = spec.networks[0].sha256.to_uppercase();
    assert_eq!(SearchSpec::try_from(spec).unwrap().fingerprint(), search().fingerprint());
}

#[test]
fn an_error_says_what_was_found_and_what_is_asked() {
    let mut spec = message();
    options(&mut spec).train_batch_size = 0;
    let error = SearchSpec::try_from(spec).unwrap_err();
    assert!(matches!(error, Error::Range { .. }));
    assert_eq!(error.to_string(), "spec.options.train_batch_size is 0; it must be from 1 to 4096");
}

fn model(spec: &mut v1::SearchSpec) -> &mut v1::ModelRef {
    spec.model.as_mut().unwrap()
}

fn sampling(spec: &mut v1::SearchSpec) -> &mut v1::SamplingOptions {
    spec.sampling.as_mut().unwrap()
}

fn options(spec: &mut v1::SearchSpec) -> &mut v1::SearchOptions {
    spec.options.as_mut().unwrap()
}

fn loss(spec: &mut v1::SearchSpec) -> &mut v1::LossOptions {
    options(spec).loss.as_mut().unwrap()
}

fn optimizer(spec: &mut v1::SearchSpec) -> &mut v1::AdamW {
    options(spec).optimizer.as_mut().unwrap()
}

fn rate(spec: &mut v1::SearchSpec) -> &mut v1::LearningRate {
    options(spec).learning_rate.as_mut().unwrap()
}

fn fit(spec: &mut v1::SearchSpec) -> &mut v1::Fit {
    spec.images[0].fit.as_mut().unwrap()
}

fn size(size: &mut Option<v1::Size>) -> &mut v1::Size {
    size.as_mut().unwrap()
}
