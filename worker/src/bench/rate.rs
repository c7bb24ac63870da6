//! What a device reaches in a matrix product and in copying: the ceilings that everything else is held against.

use super::Error;
use crate::device::Device;
use burn::backend::Flex;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use lora_rates_common::spec::Precision;
use std::time::Instant;

/// Runs, of which the fastest counts.
const RUNS: usize = 8;

/// Operations per second of a square product, the best of several: through burn, and on a GPU by cuBLASLt where that is
/// faster.
pub(super) fn matmul(device: Device, precision: Precision) -> Result<f64, Error> {
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    match device {
        Device::Cpu => square::<Flex>(&Default::default(), 1024, dtype),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            use burn::backend::cuda::{Cuda, CudaDevice};
            let ours = square::<Cuda>(&CudaDevice::new(index), 8192, dtype)?;
            // Without cuBLASLt there is burn's product alone.
            let theirs = crate::engine::cuda::device::rate::matmul(index, 8192).unwrap_or(0.0);
            Ok(if precision == Precision::Bf16 { ours.max(theirs) } else { ours })
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(Error::Request("this program was built without CUDA".into())),
    }
}

/// Bytes per second that an elementwise operation reads and writes, the best of several.
pub(super) fn copy(device: Device) -> Result<f64, Error> {
    match device {
        Device::Cpu => add::<Flex>(&Default::default(), 1 << 24),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            use burn::backend::cuda::{Cuda, CudaDevice};
            add::<Cuda>(&CudaDevice::new(index), 1 << 28)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(Error::Request("this program was built without CUDA".into())),
    }
}

fn add<B: Backend>(device: &B::Device, count: usize) -> Result<f64, Error> {
    let x = Tensor::<B, 1>::zeros([count], (device, DType::F32));
    let best = fastest::<B, 1>(device, || x.clone() + 1.0)?;
    Ok(2.0 * 4.0 * count as f64 / best)
}

/// Seconds of the fastest of several runs.
fn fastest<B: Backend, const D: usize>(device: &B::Device, run: impl Fn() -> Tensor<B, D>) -> Result<f64, Error> {
    let failed = |e: burn::tensor::backend::ExecutionError| Error::Request(format!("the device failed: {e}"));
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        B::sync(device).map_err(failed)?;
        let begin = Instant::now();
        let result = run();
        // Lazily executed backends begin when the queue is emptied.
        B::sync(device).map_err(failed)?;
        best = best.min(begin.elapsed().as_secs_f64());
        drop(result);
    }
    Ok(best)
}

fn square<B: Backend>(device: &B::Device, side: usize, dtype: DType) -> Result<f64, Error> {
    let random = || Tensor::<B, 2>::random([side, side], Distribution::Uniform(-1.0, 1.0), (device, dtype));
    let (a, b) = (random(), random());
    let best = fastest::<B, 2>(device, || a.clone().matmul(b.clone()))?;
    Ok(2.0 * (side as f64).powi(3) / best)
}
