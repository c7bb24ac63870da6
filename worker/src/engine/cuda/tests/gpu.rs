//! On a GPU, where there is one; else each test says that it was skipped.

use super::kernels::{Subject, judge, largest_errors};
use super::single::{ATTENTIONS, NORMS, attention, norms, rate_gradient};
use super::*;
use crate::device;
use crate::engine::cuda::device::Gpu;
use crate::engine::cuda::executor::Executor;
use crate::engine::cuda::parameters::Parameters;
use crate::engine::cuda::plan::{Buffer, Heads, Program, SideBySide, Wanted};
use crate::engine::cuda::tape::{Case, Shape};
use lora_rates_common::diffusion::LossOptions;

/// The first GPU with its libraries.
fn gpu() -> Option<Gpu> {
    let device = device::Device::Cuda(0);
    match device::check(device).and_then(|()| device::check_engine(device, EngineKind::Cuda, false)) {
        Ok(()) => Some(Gpu::open(0).unwrap()),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

struct OnGpu {
    gpu: Gpu,
    ready: Option<<Gpu as Executor>::Prepared>,
}

impl OnGpu {
    fn ready(&mut self) -> (&mut Gpu, &mut <Gpu as Executor>::Prepared) {
        (&mut self.gpu, self.ready.as_mut().unwrap())
    }
}

impl Subject for OnGpu {
    fn prepare(&mut self, program: &Program, parameters: &Parameters, values: &[Vec<f32>]) {
        for (id, parameter) in parameters.iter() {
            self.gpu.store(id, parameter, &values[id.0]).unwrap();
        }
        let mut ready = self.gpu.prepare(program.clone()).unwrap();
        self.gpu.begin(&mut ready).unwrap();
        self.ready = Some(ready);
    }

    fn write(&mut self, _: &Program, buffer: Buffer, values: &[f32]) {
        let (gpu, ready) = self.ready();
        gpu.write(ready, buffer, values).unwrap();
    }

    fn read(&mut self, _: &Program, buffer: Buffer) -> Vec<f32> {
        let (gpu, ready) = self.ready();
        gpu.read(ready, buffer).unwrap()
    }

    fn run(&mut self, at: usize) {
        let (gpu, ready) = self.ready();
        gpu.run_one(ready, at).unwrap();
    }
}

#[test]
fn the_gpu_gives_what_the_reference_gives_for_every_instruction() {
    let Some(gpu) = gpu() else { return };
    let wanted = Wanted { rates: true, conditions: true, checkpointing: false, merging: true };
    let case = Case { batch: 2, height: 20, width: 12, tokens: 77 };
    judge(&largest_errors(&mut OnGpu { gpu, ready: None }, case, wanted, |_| true, false));
}

/// On which cuDNN and our own kernels meet tiles of the real model's number, which no simulation could pay for.
#[test]
fn the_gpu_is_right_at_the_sizes_of_the_real_model() {
    let Some(gpu) = gpu() else { return };
    let mut subject = OnGpu { gpu, ready: None };
    let real = [(1024, 1024, false, SideBySide::All), (1024, 77, false, SideBySide::Keys)];
    for (queries, keys, causal, side_by_side) in ATTENTIONS.into_iter().chain(real) {
        attention(&mut subject, Heads { batch: 2, heads: 2, size: 64, queries, keys, causal, side_by_side });
    }
    for channels in NORMS {
        norms(&mut subject, Shape { batch: 2, height: 32, width: 32, channels });
    }
    for (rows, rank) in [(1, 8), (77, 40), (4096, 32), (4096, 128)] {
        rate_gradient(&mut subject, rows, rank);
    }
}

#[test]
fn the_gpu_unpacks_weights_of_eight_bits_as_the_reference_does() {
    let Some(gpu) = gpu() else { return };
    let wanted = Wanted { rates: true, conditions: true, checkpointing: false, merging: false };
    let case = Case { batch: 1, height: 8, width: 8, tokens: 77 };
    judge(&largest_errors(&mut OnGpu { gpu, ready: None }, case, wanted, |_| true, true));
}

#[test]
fn the_gpu_has_the_gradient_of_the_reference_and_the_same_bits_every_time() {
    let Some(first) = gpu() else { return };
    let batch = microbatch(2, (16, 16), TokenLength::T75);
    let networks = golden_networks(&["L1_attention", "L2_unet_te", "L3_locon"]);
    let around = || Around::load(golden(), Default::default(), "CPU".into(), options(), Tuning::CPU).unwrap();
    let mut on_gpu = CudaEngine::<Gpu, Flex>::load(first, around(), options()).unwrap();
    on_gpu.attach(&networks).unwrap();
    let rates = rates(networks.len());
    // The first run is no graph, the second captures it, the third replays it.
    let [run, captured, replayed] = [0; 3].map(|_| on_gpu.gradient(&batch, &rates, &LossOptions::default()).unwrap());
    assert_eq!((&run.prediction, &run.grad), (&captured.prediction, &captured.grad));
    assert_eq!((&run.prediction, &run.grad), (&replayed.prediction, &replayed.grad));
    // A larger program moves the arena, and the first comes back to the same bits.
    let larger = microbatch(3, (32, 24), TokenLength::T75);
    on_gpu.gradient(&larger, &rates, &LossOptions::default()).unwrap();
    let back = on_gpu.gradient(&batch, &rates, &LossOptions::default()).unwrap();
    assert_eq!((&run.prediction, &run.grad), (&back.prediction, &back.grad));
    let parts = on_gpu.breakdown(&batch, &rates, &LossOptions::default()).unwrap().unwrap();
    eprintln!("{parts:?}");
    eprintln!("refused by the libraries: {:#?}", on_gpu.executor().refused());
    assert!(on_gpu.executor().refused().iter().all(|refused| !refused.contains("Heads")), "attention is not cuDNN's");
    let mut exact = taped(golden(), Reference::exact(), false);
    exact.attach(&networks).unwrap();
    let want = exact.gradient(&batch, &rates, &LossOptions::default()).unwrap();
    let prediction = error(&run.prediction, &want.prediction);
    assert!(prediction < 3e-2, "the prediction is off by {prediction:.1e}");
    for (network, (got, want)) in run.grad.chunks(BLOCKS).zip(want.grad.chunks(BLOCKS)).enumerate() {
        let (cosine, error) = (cosine(got, want), error(got, want));
        eprintln!("network {network}: cosine {cosine}, error {error:.1e}");
        assert!(cosine > 0.99 && error < 0.15, "network {network}: cosine {cosine}, error {error:.1e}");
    }
    let mut again = CudaEngine::<Gpu, Flex>::load(
        gpu().unwrap(),
        around(),
        EngineOptions { gradient_checkpointing: true, ..options() },
    )
    .unwrap();
    again.attach(&networks).unwrap();
    let computed = again.gradient(&batch, &rates, &LossOptions::default()).unwrap();
    assert_eq!(computed.grad, run.grad, "activation checkpointing changes no bit");
}
