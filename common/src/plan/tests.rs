use super::*;
use std::collections::HashSet;

fn options() -> PlanOptions {
    PlanOptions {
        batch_size: 4,
        accumulation: 3,
        seed: 42,
        flip_aug: true,
        min_timestep: 0,
        max_timestep: 1000,
        timestep_sampling: TimestepSampling::Uniform,
        noise_sampling: NoiseSampling::Independent,
    }
}

/// 37 images in three buckets, repeated one to three times; the last one never.
fn images() -> Vec<PlanImage> {
    let buckets = [(1024, 1024), (832, 1216), (1216, 832)];
    let image =
        |i: u32| PlanImage { bucket: buckets[(i * i % 3) as usize], repeats: if i == 37 { 0 } else { 1 + i % 3 } };
    (0..38).map(image).collect()
}

fn plan() -> Plan {
    Plan::new(&images(), &options()).unwrap()
}

fn samples_of_epoch(plan: &Plan, epoch: u64) -> Vec<(u32, u32)> {
    let steps = epoch * plan.steps_per_epoch()..(epoch + 1) * plan.steps_per_epoch();
    let samples = steps.flat_map(|step| plan.step(step)).flat_map(|batch| batch.samples);
    samples.map(|sample| (sample.image, sample.repeat)).collect()
}

#[test]
fn every_epoch_shows_each_image_exactly_as_often_as_it_is_repeated() {
    let expected: Vec<_> =
        (0..).zip(images()).flat_map(|(i, image)| (0..image.repeats).map(move |repeat| (i, repeat))).collect();
    for epoch in [0, 1, 17] {
        let mut seen = samples_of_epoch(&plan(), epoch);
        assert_ne!(seen, expected, "not shuffled");
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_batch_holds_one_bucket_and_only_a_buckets_last_is_short() {
    let (plan, images) = (plan(), images());
    let mut short = HashSet::new();
    for batch in (0..plan.steps_per_epoch()).flat_map(|step| plan.step(step)) {
        assert!((1..=4).contains(&batch.samples.len()));
        assert!(batch.samples.iter().all(|sample| images[sample.image as usize].bucket == batch.bucket));
        assert!(batch.samples.len() == 4 || short.insert(batch.bucket), "a second short batch of {:?}", batch.bucket);
    }
}

#[test]
fn an_epochs_last_step_takes_what_is_left() {
    let plan = plan();
    let steps = plan.steps_per_epoch();
    let counts: Vec<_> = (0..steps).map(|step| plan.step(step).len() as u64).collect();
    assert_eq!(counts.iter().sum::<u64>(), plan.batches_per_epoch());
    assert!(counts[..counts.len() - 1].iter().all(|count| *count == 3));
    assert_eq!(steps, plan.batches_per_epoch().div_ceil(3));
    assert_ne!(plan.batches_per_epoch() % 3, 0, "the images should leave a rest");
    assert_eq!([plan.epoch_of(0), plan.epoch_of(steps - 1), plan.epoch_of(steps)], [0, 0, 1]);
}

#[test]
fn a_step_is_the_same_whatever_was_asked_before_and_by_whom() {
    let forward: Vec<_> = (0..30).map(|step| plan().step(step)).collect();
    let plan = plan();
    let mut backward: Vec<_> = (0..30).rev().map(|step| plan.step(step)).collect();
    backward.reverse();
    assert_eq!(forward, backward);
}

#[test]
fn epochs_and_seeds_differ() {
    let other = Plan::new(&images(), &PlanOptions { seed: 43, ..options() }).unwrap();
    assert_ne!(samples_of_epoch(&plan(), 0), samples_of_epoch(&plan(), 1));
    assert_ne!(samples_of_epoch(&plan(), 0), samples_of_epoch(&other, 0));
    assert_ne!(plan().step(0)[0].samples[0].timestep, other.step(0)[0].samples[0].timestep);
}

/// Batch size and accumulation change a sample's company, not its noise.
#[test]
fn what_a_sample_draws_depends_on_seed_step_and_sample_alone() {
    let one = PlanOptions { batch_size: 7, accumulation: 100, ..options() };
    let draws = |plan: Plan| -> HashSet<_> { plan.step(0).into_iter().flat_map(|batch| batch.samples).collect() };
    let whole_epoch = draws(Plan::new(&images(), &one).unwrap());
    assert_eq!(whole_epoch.len() as u64, images().iter().map(|image| u64::from(image.repeats)).sum::<u64>());
    assert!(draws(plan()).is_subset(&whole_epoch));
    let keys: HashSet<_> = whole_epoch.iter().map(|sample| sample.noise_key).collect();
    assert_eq!(keys.len(), whole_epoch.len(), "two samples share their noise");
}

#[test]
fn samples_are_flipped_only_when_asked_and_timesteps_stay_in_range() {
    let narrow = PlanOptions { flip_aug: false, min_timestep: 200, max_timestep: 203, ..options() };
    let plain = Plan::new(&images(), &narrow).unwrap();
    let samples =
        |plan: &Plan| -> Vec<_> { (0..20).flat_map(|step| plan.step(step)).flat_map(|b| b.samples).collect() };
    assert!(samples(&plain).iter().all(|sample| !sample.flip && (200..203).contains(&sample.timestep)));
    let flipped = samples(&plan()).iter().filter(|sample| sample.flip).count();
    assert!(flipped * 3 > samples(&plan()).len() && flipped * 3 < 2 * samples(&plan()).len());
}

#[test]
fn the_last_step_of_all_is_planned_without_overflow() {
    let plan = Plan::new(&images()[..1], &PlanOptions { batch_size: u32::MAX, accumulation: u32::MAX, ..options() });
    assert_eq!(plan.unwrap().step(u64::MAX).len(), 1);
}

#[test]
fn what_can_not_be_planned_is_refused() {
    let refused = |images: &[PlanImage], change: &dyn Fn(&mut PlanOptions)| {
        let mut options = options();
        change(&mut options);
        Plan::new(images, &options).unwrap_err()
    };
    let image = |repeats| PlanImage { bucket: (64, 64), repeats };
    assert_eq!(refused(&[], &|_| ()), Error::NoImages);
    assert_eq!(refused(&[image(0)], &|_| ()), Error::NoImages);
    assert_eq!(refused(&[image(u32::MAX)], &|_| ()), Error::TooManySamples(u32::MAX.into()));
    assert_eq!(refused(&[image(1)], &|o| o.batch_size = 0), Error::NoBatch);
    assert_eq!(refused(&[image(1)], &|o| o.accumulation = 0), Error::NoAccumulation);
    assert_eq!(refused(&[image(1)], &|o| o.max_timestep = 1001), Error::Timesteps { min: 0, max: 1001 });
    assert_eq!(refused(&[image(1)], &|o| o.min_timestep = 1000), Error::Timesteps { min: 1000, max: 1000 });
}

fn timesteps(batches: &[Microbatch]) -> Vec<u32> {
    batches.iter().flat_map(|batch| &batch.samples).map(|sample| sample.timestep).collect()
}

#[test]
fn stratified_timesteps_of_a_step_are_one_of_each_part_of_the_range() {
    let options = PlanOptions { timestep_sampling: TimestepSampling::Stratified, min_timestep: 37, ..options() };
    let (plan, uniform) = (Plan::new(&images(), &options).unwrap(), self::plan());
    let mut orders = HashSet::new();
    for step in 0..40 {
        let batches = plan.step(step);
        assert_eq!(batches, plan.step(step));
        let mut drawn = timesteps(&batches);
        let order: Vec<u32> = drawn.clone();
        drawn.sort_unstable();
        let width = 963.0 / drawn.len() as f64;
        for (part, timestep) in drawn.iter().enumerate() {
            let low = 37.0 + part as f64 * width;
            assert!((low.floor()..low + width).contains(&f64::from(*timestep)), "{timestep} in part {part}");
        }
        orders.insert(order.iter().map(|it| drawn.binary_search(it).unwrap_or(0)).collect::<Vec<_>>());
        // Nothing else of a sample changes.
        let keys = |batches: &[Microbatch]| -> Vec<_> {
            batches
                .iter()
                .flat_map(|batch| &batch.samples)
                .map(|it| (it.image, it.repeat, it.flip, it.noise_key))
                .collect()
        };
        assert_eq!(keys(&batches), keys(&uniform.step(step)));
    }
    assert!(orders.len() > 35, "the parts are not in random order");
}

/// Chi-square of every place in a step: by itself a stratified timestep is uniform, also where parts are no whole number
/// of timesteps.
#[test]
fn a_stratified_timestep_by_itself_is_uniform() {
    let options = PlanOptions {
        batch_size: 3,
        accumulation: 1,
        timestep_sampling: TimestepSampling::Stratified,
        min_timestep: 5,
        max_timestep: 15,
        ..options()
    };
    let plan = Plan::new(&[PlanImage { bucket: (64, 64), repeats: 3 }], &options).unwrap();
    const STEPS: u32 = 20_000;
    let mut counts = [[0_u32; 10]; 3];
    for step in 0..STEPS {
        for (place, timestep) in timesteps(&plan.step(step.into())).into_iter().enumerate() {
            counts[place][(timestep - 5) as usize] += 1;
        }
    }
    let expected = f64::from(STEPS) / 10.0;
    for counts in counts {
        let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        // 9 degrees of freedom: one time in 10,000 it is over 33.7.
        assert!(chi < 33.7, "{chi}: {counts:?}");
    }
}

#[test]
fn every_second_antithetic_epoch_mirrors_the_one_before_it() {
    for timestep_sampling in [TimestepSampling::Uniform, TimestepSampling::Stratified] {
        let options = PlanOptions {
            noise_sampling: NoiseSampling::Antithetic,
            min_timestep: 10,
            max_timestep: 900,
            timestep_sampling,
            ..options()
        };
        let plan = Plan::new(&images(), &options).unwrap();
        let plain = PlanOptions { noise_sampling: NoiseSampling::Independent, ..options };
        let plain = Plan::new(&images(), &plain).unwrap();
        let steps = plan.steps_per_epoch();
        for step in (0..steps).chain(2 * steps..3 * steps) {
            let (first, second) = (plan.step(step), plan.step(step + steps));
            assert_eq!(first, plain.step(step));
            let mirrored =
                |sample: &PlanSample| PlanSample { negated: true, timestep: 909 - sample.timestep, ..*sample };
            let expected: Vec<Vec<PlanSample>> =
                first.iter().map(|batch| batch.samples.iter().map(mirrored).collect()).collect();
            assert_eq!(second.into_iter().map(|batch| batch.samples).collect::<Vec<_>>(), expected);
        }
        assert_ne!(plan.step(0), plan.step(2 * steps));
    }
}
