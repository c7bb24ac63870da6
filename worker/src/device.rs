//! Devices: which there are, and how a model gets onto one.

use crate::engine::burn::{BurnEngine, Tuning};
use crate::engine::{EngineKind, EngineOptions, Error, GradientEngine};
use crate::source::Source;
use burn::backend::Flex;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lora_rates_common::spec::Precision;
use std::fmt;
use std::panic::catch_unwind;
use std::str::FromStr;

/// Where a model is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// All cores of the processor.
    Cpu,
    /// An NVIDIA GPU by the driver's number.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = match text.split_once(':') {
            None if text == "cpu" => return Ok(Self::Cpu),
            None if text == "cuda" => Some(0),
            Some(("cuda", index)) => index.parse().ok(),
            _ => None,
        };
        index.map(Self::Cuda).ok_or_else(|| format!("{text:?} is no device; give cpu, cuda or cuda:K (K from 0)"))
    }
}

/// The first GPU if this program and this machine have one, else the processor.
pub fn best() -> Device {
    if gpus().is_ok_and(|count| count > 0) { Device::Cuda(0) } else { Device::Cpu }
}

/// All GPUs if this program and this machine have any, else the processor.
pub fn all() -> Vec<Device> {
    match gpus() {
        Ok(count @ 1..) => (0..count).map(Device::Cuda).collect(),
        Ok(0) | Err(_) => vec![Device::Cpu],
    }
}

/// Whether this program can compute there at all.
///
/// # Errors
/// Why not, and what to do.
pub fn check(device: Device) -> Result<(), String> {
    let Device::Cuda(index) = device else { return Ok(()) };
    let count = gpus()?;
    if index < count { Ok(()) } else { Err(format!("there is no cuda:{index}: this machine has {count} GPUs")) }
}

/// Whether this engine can compute there, and keep weights in eight bits if that is asked.
///
/// # Errors
/// What is missing, in one line, and what to do.
pub fn check_engine(device: Device, engine: EngineKind, fp8_base: bool) -> Result<(), String> {
    match (engine, device) {
        (EngineKind::Auto, Device::Cuda(_)) if fp8_base => libraries(),
        (EngineKind::Auto, Device::Cpu) | (EngineKind::Burn, _) if fp8_base => {
            Err("fp8_base is for engine cuda, on an NVIDIA GPU in bf16: burn can't keep weights in eight bits, use --engine cuda"
                .into())
        }
        (EngineKind::Auto | EngineKind::Burn, _) => Ok(()),
        (EngineKind::Cuda, Device::Cpu) => Err("engine cuda needs an NVIDIA GPU: use --engine burn on the CPU".into()),
        (EngineKind::Cuda, Device::Cuda(_)) => libraries(),
    }
}

/// What [`EngineKind::Auto`] means there: cuda where it can compute, else burn, and one line that says what it lacks.
fn choose(device: Device, options: &EngineOptions) -> EngineKind {
    let cuda = matches!(device, Device::Cuda(_)) && options.precision == Precision::Bf16;
    match options.engine {
        EngineKind::Auto if cuda => match libraries() {
            Ok(()) => EngineKind::Cuda,
            Err(why) => {
                tracing::warn!("{device} computes by engine burn, which is slower: {why}");
                EngineKind::Burn
            }
        },
        EngineKind::Auto => EngineKind::Burn,
        given => given,
    }
}

/// Loads a model onto a device.
///
/// # Errors
/// The device is not there, can't compute in this precision or by this engine, or a tensor can't be read.
pub fn load(device: Device, source: Source, options: EngineOptions) -> Result<Box<dyn GradientEngine>, Error> {
    let options = EngineOptions { engine: choose(device, &options), ..options };
    check_engine(device, options.engine, options.fp8_base).map_err(Error::Request)?;
    match device {
        Device::Cpu => {
            if options.precision == Precision::Bf16 {
                let why = "the CPU computes in f32 only: use --mixed_precision no, or a GPU with --device cuda:0";
                return Err(Error::Request(why.into()));
            }
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let name = format!("CPU ({threads} threads)");
            Ok(Box::new(BurnEngine::<Flex>::load(source, Default::default(), name, options, Tuning::CPU)?))
        }
        Device::Cuda(index) => {
            check(device).map_err(Error::Request)?;
            cuda(index, source, options)
        }
    }
}

/// Gives memory that nothing uses back to the device: what a model had that is no more.
pub fn free_memory(device: Device) {
    match device {
        Device::Cpu => {}
        Device::Cuda(index) => free_cuda(index),
    }
}

/// Bytes of the device's memory in use, by whomever, and in all; `None` where nobody can say.
pub fn memory(device: Device) -> Option<(u64, u64)> {
    match device {
        Device::Cpu => None,
        Device::Cuda(index) => driver::memory(index),
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize, source: Source, options: EngineOptions) -> Result<Box<dyn GradientEngine>, Error> {
    use crate::engine::burn::Around;
    use crate::engine::cuda::CudaEngine;
    use crate::engine::cuda::device::Gpu;
    use burn::backend::cuda::{Cuda, CudaDevice};
    let device = CudaDevice::new(index);
    if options.engine == EngineKind::Cuda {
        if options.precision == Precision::F32 {
            let why = "engine cuda computes in bfloat16: add --mixed_precision bf16, or use --engine burn";
            return Err(Error::Request(why.into()));
        }
        let gpu = Gpu::open(index)?;
        let around = Around::<Cuda>::load(source, device, format!("cuda:{index}, engine cuda"), options, Tuning::GPU)?;
        return Ok(Box::new(CudaEngine::load(gpu, around, options)?));
    }
    Ok(Box::new(BurnEngine::<Cuda>::load(source, device, format!("cuda:{index}"), options, Tuning::GPU)?))
}

/// Whether it still computes: after some failures a GPU's context, or burn's runtime on it, never does again in this
/// process.
pub fn works(device: Device) -> bool {
    catch_unwind(|| match device {
        Device::Cpu => adds::<Flex>(&Default::default()),
        Device::Cuda(index) => adds_on_cuda(index),
    })
    .unwrap_or(false)
}

/// Whether it knows that two and two are four.
fn adds<B: Backend>(device: &B::Device) -> bool {
    let two = Tensor::<B, 1>::full([64], 2.0, device);
    let sums = (two.clone() + two).into_data().to_vec::<f32>();
    sums.is_ok_and(|sums| sums.len() == 64 && sums.iter().all(|sum| *sum == 4.0))
}

#[cfg(feature = "cuda")]
fn libraries() -> Result<(), String> {
    crate::engine::cuda::device::present().map_err(|error| error.to_string())
}

#[cfg(not(feature = "cuda"))]
fn libraries() -> Result<(), String> {
    Err("this program was built without CUDA, and without engine cuda: build it with `--features cuda`".into())
}

#[cfg(feature = "cuda")]
fn adds_on_cuda(index: usize) -> bool {
    use burn::backend::cuda::{Cuda, CudaDevice};
    adds::<Cuda>(&CudaDevice::new(index))
}

#[cfg(not(feature = "cuda"))]
fn adds_on_cuda(_: usize) -> bool {
    false
}

#[cfg(feature = "cuda")]
fn free_cuda(index: usize) {
    use burn::backend::cuda::{Cuda, CudaDevice};
    <Cuda as Backend>::memory_cleanup(&CudaDevice::new(index));
}

#[cfg(not(feature = "cuda"))]
fn free_cuda(_: usize) {}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize, _: Source, _: EngineOptions) -> Result<Box<dyn GradientEngine>, Error> {
    // Without the feature no GPU is ever counted.
    gpus().map_err(Error::Request).and(Err(Error::Request("there is no GPU".into())))
}

/// How many GPUs there are, or why there are none.
fn gpus() -> Result<usize, String> {
    driver::count()
}

#[cfg(feature = "cuda")]
mod driver {
    //! What the NVIDIA driver says, if there is one.

    use cudarc::driver::{CudaContext, sys};

    pub(super) fn count() -> Result<usize, String> {
        // SAFETY: it only tries to load the driver's library, which has no preconditions.
        #[allow(unsafe_code)]
        let present = unsafe { sys::is_culib_present() };
        if !present {
            return Err("there is no NVIDIA driver on this machine (libcuda.so was not found): use --device cpu".into());
        }
        let count = CudaContext::device_count();
        count.map(|count| usize::try_from(count).unwrap_or(0)).map_err(|e| format!("the NVIDIA driver failed: {e}"))
    }

    pub(super) fn memory(index: usize) -> Option<(u64, u64)> {
        count().ok().filter(|count| index < *count)?;
        let (free, total) = CudaContext::new(index).ok()?.mem_get_info().ok()?;
        Some(((total - free) as u64, total as u64))
    }
}

#[cfg(not(feature = "cuda"))]
mod driver {
    pub(super) fn count() -> Result<usize, String> {
        Err("this program was built without CUDA: build it with `--features cuda`, or use --device cpu".into())
    }

    pub(super) fn memory(_: usize) -> Option<(u64, u64)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_works_and_a_gpu_that_is_not_there_does_not() {
        assert!(works(Device::Cpu));
        assert!(!works(Device::Cuda(99)));
    }

    #[test]
    fn engine_cuda_says_what_it_lacks() {
        for engine in [EngineKind::Auto, EngineKind::Burn] {
            assert_eq!(check_engine(Device::Cpu, engine, false), Ok(()));
            assert!(check_engine(Device::Cpu, engine, true).unwrap_err().contains("--engine cuda"));
        }
        let auto = |device, precision| choose(device, &EngineOptions { precision, ..Default::default() });
        assert_eq!(auto(Device::Cpu, Precision::Bf16), EngineKind::Burn);
        assert_eq!(auto(Device::Cuda(0), Precision::F32), EngineKind::Burn, "cuda computes in bfloat16 alone");
        let there = if libraries().is_ok() { EngineKind::Cuda } else { EngineKind::Burn };
        assert_eq!(auto(Device::Cuda(0), Precision::Bf16), there);
        assert!(check_engine(Device::Cpu, EngineKind::Cuda, false).unwrap_err().contains("NVIDIA GPU"));
        for engine in [EngineKind::Auto, EngineKind::Burn, EngineKind::Cuda] {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        assert!("fast".parse::<EngineKind>().unwrap_err().contains("auto, burn or cuda"));
    }

    #[test]
    fn devices_are_read_and_printed_alike() {
        for text in ["cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<Device>().map(|device| device.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cpu:0", "cuda:x"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
