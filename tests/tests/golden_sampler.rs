//! Sample pictures on the CPU in f32, against diffusers' Euler scheduler from the same noise.

use lora_rates_common::sampling::Euler;
use lora_rates_tests::golden::{Numbers, close, engine, engine_with};
use lora_rates_worker::sampler::{self, Task};

const BOUND: f64 = 1e-4;

/// What the fixture's generator sampled.
fn task(numbers: &Numbers, velocity: bool) -> Task {
    let shape = numbers.shape("noise");
    Task {
        prompts: numbers.prompts("ids_clip_l", "ids_clip_g").try_into().expect("two prompts"),
        latent: (shape[2], shape[3]),
        time_ids: numbers.time_ids("time_ids")[0],
        noise: numbers.singles("noise"),
        scale: numbers.floats("scale")[0],
        course: Euler::new(numbers.timesteps("timesteps").len() as u32).expect("a course"),
        velocity,
    }
}

#[test]
fn timesteps_and_sigmas_are_those_of_diffusers() {
    let numbers = Numbers::below("euler/euler.safetensors");
    let course = task(&numbers, false).course;
    assert_eq!(course.timesteps(), numbers.timesteps("timesteps"));
    close("sigmas", course.sigmas(), &numbers.floats("sigmas"), 1e-6);
}

#[test]
fn pictures_are_those_of_diffusers_for_noise_and_for_velocity() {
    let numbers = Numbers::below("euler/euler.safetensors");
    let mut engine = engine(false);
    for (kind, velocity) in [("epsilon", false), ("v_prediction", true)] {
        let task = task(&numbers, velocity);
        let latents = sampler::latents(&mut engine, &task, &[], &mut |_, _| true).expect("latents").expect("all steps");
        close(&format!("{kind} latents"), &latents, &numbers.floats(&format!("{kind}/latents")), BOUND);
        let picture = sampler::decode(&mut engine, &latents, task.latent).expect("a picture");
        assert_eq!((picture.width, picture.height), (96, 64));
        close(&format!("{kind} picture"), &picture.data, &numbers.floats(&format!("{kind}/picture")), BOUND);
    }
}

#[test]
fn networks_change_the_picture_by_their_rates_those_of_the_text_encoders_too() {
    let numbers = Numbers::below("euler/euler.safetensors");
    let task = Task { course: Euler::new(2).expect("a course"), ..task(&numbers, false) };
    let mut engine = engine_with(&["L2_unet_te.safetensors"], false);
    let mut latents = |rates: &[f32]| {
        sampler::latents(&mut engine, &task, rates, &mut |_, _| true).expect("latents").expect("all steps")
    };
    let none = latents(&[0.0; 20]);
    let mut base = [0.0; 20];
    base[0] = 1.0;
    let by_text = latents(&base);
    assert_ne!(by_text, none);
    assert_ne!(latents(&[1.0; 20]), by_text);
    assert_eq!(latents(&[0.0; 20]), none);
}

#[test]
fn a_picture_that_nobody_wants_any_more_is_left() {
    let numbers = Numbers::below("euler/euler.safetensors");
    let mut seen = Vec::new();
    let mut goes_on = |done, total| {
        seen.push((done, total));
        done < 2
    };
    let left = sampler::picture(&mut engine(false), &task(&numbers, false), &[], &mut goes_on).expect("no error");
    assert_eq!((left, seen), (None, vec![(0, 12), (1, 12), (2, 12)]));
}
