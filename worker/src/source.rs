//! Where a model's weights come from: a checkpoint, or a generator of random ones.

use crate::engine::Error;
use burn::tensor::{DType, TensorData};
use half::{bf16, f16};
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::random;
use lora_rates_common::tensor_file::{Dtype, TensorView};

/// A model's weights by canonical name.
#[derive(Debug)]
pub enum Source {
    /// A memory-mapped checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// Random weights of these sizes, made as they are asked for.
    Random(Box<SdxlConfig>, u64),
}

impl Source {
    /// Sizes of the model.
    pub fn config(&self) -> &SdxlConfig {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.config(),
            Self::Random(config, _) => config,
        }
    }

    /// One tensor, as `dtype` (F32 or BF16). Only this tensor is copied.
    ///
    /// # Errors
    /// It is missing, or has another shape.
    pub fn read(&self, name: &str, shape: &[usize], dtype: DType) -> Result<TensorData, Error> {
        match self {
            Self::Checkpoint(checkpoint) => {
                let stored = checkpoint.tensor(name)?;
                if stored.shape != shape {
                    return Err(Error::Request(format!("{name} has shape {:?} instead of {shape:?}", stored.shape)));
                }
                let data = stored.bytes();
                convert(&TensorView { data: &data, ..stored.view.clone() }, shape, dtype)
            }
            Self::Random(_, seed) => {
                let values = random::tensor(name, shape, *seed);
                Ok(TensorData::new(values, shape.to_vec()).convert_dtype(dtype))
            }
        }
    }
}

/// The elements of a stored tensor as `dtype`, in the order of the file.
///
/// # Errors
/// The stored type is none of F16, BF16, F32, F64.
pub fn convert(view: &TensorView<'_>, shape: &[usize], dtype: DType) -> Result<TensorData, Error> {
    let same = match view.dtype {
        Dtype::F32 => dtype == DType::F32,
        Dtype::BF16 => dtype == DType::BF16,
        _ => false,
    };
    if same {
        return Ok(TensorData::from_bytes_vec(view.data.to_vec(), shape.to_vec(), dtype));
    }
    if (view.dtype, dtype) == (Dtype::F16, DType::BF16) {
        // Straight from one half to the other: no f32 copy of the tensor in between.
        let halves = view.data.as_chunks::<2>().0.iter();
        let values: Vec<bf16> = halves.map(|bytes| bf16::from_f32(f16::from_le_bytes(*bytes).to_f32())).collect();
        return Ok(TensorData::new(values, shape.to_vec()));
    }
    Ok(TensorData::new(view.to_f32()?, shape.to_vec()).convert_dtype(dtype))
}
