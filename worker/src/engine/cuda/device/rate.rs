//! What the matrix units reach: the ceiling that the engine's products are held against.

use super::memory::{Memory, encode};
use super::products::{self, Places, Products};
use super::{Error, driver, present};
use crate::engine::cuda::launch::{Address, Product};
use crate::engine::cuda::tape::Element;
use cudarc::driver::CudaContext;
use lora_rates_common::sdxl::random;
use std::time::Instant;

/// Runs, of which the fastest counts.
const RUNS: usize = 8;

/// Operations per second of a product of two square bfloat16 matrices by cuBLASLt. Their numbers are random: of zeros
/// the same product is faster, because it draws less power.
///
/// # Errors
/// [`Error::Library`], [`Error::OutOfMemory`], [`Error::Device`].
pub fn matmul(index: usize, side: usize) -> Result<f64, Error> {
    present()?;
    let context = CudaContext::new(index).map_err(driver)?;
    let stream = context.new_stream().map_err(driver)?;
    let mut products = Products::new(&stream, &context.name().map_err(driver)?)?;
    let matrix = |seed| -> Result<Memory, Error> {
        let mut memory = Memory::new(&stream, 2 * side * side)?;
        memory.write(&stream, 0, &encode(&random::uniform("matrix", seed, 1.0, side * side), Element::Narrow))?;
        Ok(memory)
    };
    let [x, weight, out] = [matrix(0)?, matrix(1)?, matrix(2)?];
    let workspace = Memory::new(&stream, products::WORKSPACE)?;
    let product = Product {
        x: Address::Null,
        weight: Address::Null,
        transposed: true,
        bias: None,
        addend: None,
        out: Address::Null,
        wide: false,
        rows: side,
        inner: side,
        columns: side,
        parts: 1,
        below: false,
    };
    let places = Places { x: x.at(0)?, weight: weight.at(0)?, bias: 0, addend: 0, out: out.at(0)? };
    products.prepare(&stream, &product, &places, &workspace)?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        stream.synchronize().map_err(driver)?;
        let begin = Instant::now();
        products.run(&stream, &product, &places, &workspace)?;
        stream.synchronize().map_err(driver)?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(2.0 * (side as f64).powi(3) / best)
}
