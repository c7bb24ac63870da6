//! What a device's matrix product reaches: the rate that everything else is measured against.

use super::Error;
use crate::device::Device;
use burn::backend::Flex;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use lora_rates_common::spec::Precision;
use std::time::Instant;

/// Operations per second of a square product through burn, the best of several.
pub(super) fn matmul(device: Device, precision: Precision) -> Result<f64, Error> {
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    match device {
        Device::Cpu => square::<Flex>(&Default::default(), 1024, dtype),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            use burn::backend::cuda::{Cuda, CudaDevice};
            square::<Cuda>(&CudaDevice::new(index), 8192, dtype)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(Error::Request("this program was built without CUDA".into())),
    }
}

fn square<B: Backend>(device: &B::Device, side: usize, dtype: DType) -> Result<f64, Error> {
    let failed = |e: burn::tensor::backend::ExecutionError| Error::Request(format!("the matrix product failed: {e}"));
    let random = || Tensor::<B, 2>::random([side, side], Distribution::Uniform(-1.0, 1.0), (device, dtype));
    let (a, b) = (random(), random());
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        B::sync(device).map_err(failed)?;
        let begin = Instant::now();
        let product = a.clone().matmul(b.clone());
        // Lazily executed backends begin when the queue is emptied.
        B::sync(device).map_err(failed)?;
        best = best.min(begin.elapsed().as_secs_f64());
        drop(product);
    }
    Ok(2.0 * (side as f64).powi(3) / best)
}
