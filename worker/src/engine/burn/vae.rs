//! The autoencoder, always in f32: its activations overflow fp16, and bf16 blurs what it encodes.

use super::Tuning;
use super::load::BurnLoader;
use super::ops::BurnOps;
use super::{node::Tracked, read};
use crate::engine::{Error, Moments};
use crate::sdxl::vae::{Decoder, Encoder};
use crate::source::Source;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use lora_rates_common::picture::Pixels;

pub(super) struct Vae<B: Backend> {
    encoder: Encoder<BurnOps<B>>,
    decoder: Decoder<BurnOps<B>>,
    latent: usize,
    device: B::Device,
}

impl<B: Backend> Vae<B> {
    pub(super) fn load(source: &Source, device: &B::Device) -> Result<Self, Error> {
        let mut loader = BurnLoader::<B> { source, device, dtype: DType::F32, tuning: Tuning::CPU };
        let config = &source.config().vae;
        Ok(Self {
            encoder: Encoder::load(&mut loader, config)?,
            decoder: Decoder::load(&mut loader, config)?,
            latent: config.latent,
            device: device.clone(),
        })
    }

    pub(super) fn encode(&self, pixels: &Pixels) -> Result<Moments, Error> {
        let [height, width] = [pixels.height as usize, pixels.width as usize];
        let x = self.image(pixels.data.clone(), [1, 3, height, width])?;
        let moments = self.encoder.forward(&BurnOps::base(), x).inner();
        let [_, _, height, width] = moments.dims();
        let mut values = read(moments)?;
        let half = self.latent * height * width;
        for logvar in values.iter_mut().skip(half) {
            *logvar = logvar.clamp(-30.0, 20.0);
        }
        Ok(Moments { height, width, values })
    }

    pub(super) fn decode(&self, latents: &[f32], height: usize, width: usize) -> Result<Vec<f32>, Error> {
        let x = self.image(latents.to_vec(), [1, self.latent, height, width])?;
        read(self.decoder.forward(&BurnOps::base(), x).inner())
    }

    fn image(&self, values: Vec<f32>, shape: [usize; 4]) -> Result<Tracked<B, 4>, Error> {
        let wanted: usize = shape.iter().product();
        if values.len() != wanted {
            return Err(Error::Request(format!("a picture has {} numbers instead of {wanted}", values.len())));
        }
        let data = TensorData::new(values, shape);
        Ok(Tensor::from_inner(Tensor::<B, 4>::from_data(data, (&self.device, DType::F32))))
    }
}
