use super::*;
use crate::engine::loss::judge;
use lora_rates_common::diffusion::LossOptions;

/// Five samples of different errors, timesteps and weights.
fn batch() -> Microbatch {
    let numbers = |scale: f32| (0..5 * 16).map(|at| (at as f32 * scale).sin()).collect();
    Microbatch {
        height: 2,
        width: 2,
        latents: numbers(0.7),
        noise: numbers(1.3),
        timesteps: vec![10, 300, 550, 700, 999],
        prompts: Vec::new(),
        time_ids: vec![[1.0; 6]; 5],
        loss_weights: vec![1.0, 0.5, 2.0, 0.0, 3.0],
    }
}

/// A device with room for so many samples. Its "model" predicts the latents times the one rate there is.
struct Device {
    room: usize,
    asked: Vec<usize>,
}

impl Device {
    fn compute(&mut self, batch: &Microbatch) -> Result<Gradient, Error> {
        self.asked.push(batch.timesteps.len());
        if batch.timesteps.len() > self.room {
            return Err(Error::of_device("can't allocate buffer of size: 99\nbacktrace"));
        }
        let rate = 0.5;
        let prediction: Vec<f32> = batch.latents.iter().map(|x| x * rate).collect();
        let options = LossOptions { min_snr_gamma: Some(5.0), ..LossOptions::default() };
        let judged = judge(batch, &options, &prediction)?;
        let grad = judged.grad.iter().zip(&batch.latents).map(|(g, x)| f64::from(*g) * f64::from(*x)).sum();
        Ok(Gradient { prediction, mse: judged.mse, loss: judged.loss, grad: vec![grad] })
    }
}

fn gradient(parts: &mut Parts, room: usize) -> (Result<Gradient, Error>, Vec<usize>, Vec<usize>) {
    let mut device = Device { room, asked: Vec::new() };
    let mut told = Vec::new();
    let result = parts.gradient(&batch(), |part| device.compute(part), |size| told.push(size));
    (result, device.asked, told)
}

#[test]
fn in_parts_the_gradient_is_that_of_the_whole() {
    let (whole, asked, told) = gradient(&mut Parts::default(), 5);
    let whole = whole.unwrap();
    assert_eq!((asked, told), (vec![5], vec![]));
    for room in 1..5 {
        let (parted, ..) = gradient(&mut Parts::default(), room);
        let parted = parted.unwrap();
        assert_eq!(parted.mse, whole.mse);
        assert_eq!(parted.prediction, whole.prediction);
        assert!((parted.loss / whole.loss - 1.0).abs() < 1e-12, "room for {room}: {} {}", parted.loss, whole.loss);
        assert!((parted.grad[0] / whole.grad[0] - 1.0).abs() < 1e-6, "room for {room}");
    }
}

#[test]
fn the_size_that_fits_is_remembered() {
    let mut parts = Parts::default();
    let (_, asked, told) = gradient(&mut parts, 2);
    assert_eq!(asked, [5, 3, 2, 2, 1]);
    assert_eq!(told, [3, 2]);
    assert_eq!(parts.limit(), Some(2));
    let (_, asked, told) = gradient(&mut parts, 2);
    assert_eq!(asked, [2, 2, 1]);
    assert!(told.is_empty());
}

#[test]
fn memory_that_runs_out_in_the_middle_costs_no_part() {
    let mut sizes = Vec::new();
    let mut parts = Parts { limit: Some(2), ..Parts::default() };
    let losses = parts.losses(
        &batch(),
        |part| {
            sizes.push(part.timesteps.len());
            if sizes.len() == 2 { Err(Error::OutOfMemory("full".into())) } else { Ok(part.loss_weights.clone()) }
        },
        |_| (),
    );
    assert_eq!(losses.unwrap(), batch().loss_weights);
    assert_eq!(sizes, [2, 2, 1, 1, 1]);
}

#[test]
fn one_sample_that_does_not_fit_is_an_error() {
    let (result, asked, _) = gradient(&mut Parts::default(), 0);
    assert!(matches!(result, Err(Error::OutOfMemory(_))));
    assert_eq!(asked, [5, 3, 2, 1]);
}

#[test]
fn other_errors_are_not_tried_again() {
    let mut calls = 0;
    let mut fail = |error: fn() -> Error| {
        Parts { limit: Some(2), ..Parts::default() }
            .losses(
                &batch(),
                |_| {
                    calls += 1;
                    Err(error())
                },
                |_| (),
            )
            .unwrap_err()
    };
    assert!(matches!(fail(|| Error::Device("broken".into())), Error::Device(_)));
    assert!(matches!(fail(|| Error::NotFinite { sample: 1, timestep: 3 }), Error::NotFinite { sample: 1, .. }));
    assert_eq!(calls, 2);
}

#[test]
fn failures_of_memory_are_told_from_others() {
    for words in [
        "CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\"",
        "An IO error: can't allocate buffer of size: 137438953472\n  0: backtrace",
        "called `Result::unwrap()` on an `Err` value: BufferTooBig { size: 5 }",
    ] {
        assert!(matches!(Error::of_device(words), Error::OutOfMemory(said) if !said.contains('\n')), "{words}");
    }
    assert!(matches!(Error::of_device("CUDA_ERROR_ILLEGAL_ADDRESS"), Error::Device(_)));
}
