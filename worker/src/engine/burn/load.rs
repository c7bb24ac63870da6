//! Parameters on the device, tensor by tensor, straight from where they are stored.

use super::Tuning;
use super::conv::{Conv, Way};
use super::norm::Norm;
use super::ops::{BurnOps, Table};
use super::precision::Storage;
use super::rated::Linear;
use crate::engine::Error;
use crate::ops::{ConvShape, Loader};
use crate::source::Source;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// Loads parameters of one precision to one device.
pub(super) struct BurnLoader<'a, B: Backend> {
    pub(super) source: &'a Source,
    pub(super) device: &'a B::Device,
    /// Of the weights; norms are kept in f32.
    pub(super) dtype: DType,
    pub(super) tuning: Tuning,
}

impl<B: Backend> BurnLoader<'_, B> {
    fn storage(&self) -> Storage {
        Storage { large: self.dtype, small: self.tuning.small }
    }

    fn read<const D: usize>(&self, name: String, shape: [usize; D], dtype: DType) -> Result<Tensor<B, D>, Error> {
        let data = self.source.read(&name, &shape, dtype)?;
        Ok(Tensor::from_data(data, (self.device, dtype)))
    }
}

impl<B: Backend> Loader for BurnLoader<'_, B> {
    type Ops = BurnOps<B>;
    type Error = Error;

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear<B>, Error> {
        Ok(Linear {
            name: name.to_owned(),
            storage: self.storage(),
            weight: self.read(format!("{name}.weight"), [outputs, inputs], self.dtype)?,
            bias: match bias {
                true => Some(self.read(format!("{name}.bias"), [outputs], self.dtype)?),
                false => None,
            },
        })
    }

    fn joined(&mut self, names: &[String], inputs: usize, outputs: usize) -> Result<Vec<Linear<B>>, Error> {
        names.iter().map(|name| self.linear(name, inputs, outputs, false)).collect()
    }

    fn conv(&mut self, name: &str, shape: ConvShape) -> Result<Conv<B>, Error> {
        let ConvShape { inputs, outputs, kernel, .. } = shape;
        Ok(Conv {
            name: name.to_owned(),
            weight: self.read(format!("{name}.weight"), [outputs, inputs, kernel, kernel], self.dtype)?,
            bias: self.read(format!("{name}.bias"), [outputs], self.dtype)?,
            way: Way { shape, unfold: self.tuning.unfold },
            storage: self.storage(),
        })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm<B>, Error> {
        Ok(Norm {
            scale: self.read(format!("{name}.weight"), [width], DType::F32)?,
            shift: self.read(format!("{name}.bias"), [width], DType::F32)?,
            storage: self.storage(),
        })
    }

    fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<Table<B>, Error> {
        Ok(Table(self.read(format!("{name}.weight"), [rows, width], self.dtype)?))
    }
}
