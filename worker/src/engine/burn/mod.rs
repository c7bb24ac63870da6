//! The engine in burn: any device that burn has, gradients by its autodiff.

mod activation;
mod around;
mod attach;
mod attention;
mod checkpointed;
mod conv;
mod gradient;
mod layout;
mod load;
mod node;
mod norm;
mod ops;
mod precision;
mod rated;
mod text;
mod vae;

pub use around::Around;
pub use ops::BurnOps;

use super::{EncodedText, EngineOptions, Error, Gradient, GradientEngine, Microbatch, Moments, Shown};
use crate::sdxl::unet::Unet;
use crate::source::Source;
use attach::Attached;
use burn::tensor::DType;
use burn::tensor::backend::Backend;
use load::BurnLoader;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::network::Network;
use lora_rates_common::picture::Pixels;
use lora_rates_common::spec::Precision;
use lora_rates_common::tokenizer::Tokens;
use std::cell::OnceCell;
use text::TextEncoders;
use vae::Vae;

/// What suits a kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The UNet's convolutions are computed as products of matrices.
    pub unfold: bool,
    /// Activations of fewer numbers stay in f32 whatever the precision.
    pub small: usize,
}

impl Tuning {
    /// A processor.
    pub const CPU: Self = Self { unfold: false, small: 0 };
    /// A GPU. Below a million numbers its time goes into launching, not into computing.
    pub const GPU: Self = Self { unfold: true, small: 1 << 20 };
}

/// A model on a burn device.
pub struct BurnEngine<B: Backend> {
    source: Source,
    device: B::Device,
    name: String,
    options: EngineOptions,
    tuning: Tuning,
    /// Empty until it is first needed, where another engine has a UNet of its own.
    unet: OnceCell<Unet<BurnOps<B>>>,
    text: TextEncoders<B>,
    vae: Option<Vae<B>>,
    attached: Attached<B>,
}

impl<B: Backend> BurnEngine<B> {
    /// Loads UNet and text encoders; the VAE follows when it is first needed.
    ///
    /// # Errors
    /// A tensor can't be read.
    pub fn load(
        source: Source,
        device: B::Device,
        name: String,
        options: EngineOptions,
        tuning: Tuning,
    ) -> Result<Self, Error> {
        let engine = Self::without_unet(source, device, name, options, tuning)?;
        engine.unet()?;
        Ok(engine)
    }

    /// Loads the text encoders alone.
    fn without_unet(
        source: Source,
        device: B::Device,
        name: String,
        options: EngineOptions,
        tuning: Tuning,
    ) -> Result<Self, Error> {
        let dtype = dtype(options.precision);
        let text = TextEncoders::load(&mut BurnLoader::<B> { source: &source, device: &device, dtype, tuning })?;
        let attached = Attached::none();
        Ok(Self { source, device, name, options, tuning, unet: OnceCell::new(), text, vae: None, attached })
    }

    fn unet(&self) -> Result<&Unet<BurnOps<B>>, Error> {
        if let Some(unet) = self.unet.get() {
            return Ok(unet);
        }
        let (source, device) = (&self.source, &self.device);
        let mut loader = BurnLoader::<B> { source, device, dtype: self.dtype(), tuning: self.tuning };
        let unet = Unet::load(&mut loader, &self.source.config().unet)?;
        Ok(self.unet.get_or_init(|| unet))
    }

    fn dtype(&self) -> DType {
        dtype(self.options.precision)
    }

    fn vae(&mut self) -> Result<&Vae<B>, Error> {
        let vae = match self.vae.take() {
            Some(vae) => vae,
            None => Vae::load(&self.source, &self.device)?,
        };
        Ok(self.vae.insert(vae))
    }
}

impl<B: Backend> GradientEngine for BurnEngine<B> {
    fn device(&self) -> String {
        self.name.clone()
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        B::sync(&self.device).map_err(|e| Error::of_device(e.to_string()))
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        self.vae()?.encode(pixels)
    }

    fn decode(&mut self, latents: &[f32], height: usize, width: usize) -> Result<Vec<f32>, Error> {
        self.vae()?.decode(latents, height, width)
    }

    fn release_vae(&mut self) {
        self.vae = None;
    }

    fn attach(&mut self, networks: &[Network]) -> Result<(), Error> {
        self.attached = Attached::none();
        self.attached = Attached::new(networks, |_| true, &self.device, self.dtype())?;
        Ok(())
    }

    fn encode_text(&mut self, prompts: &[Tokens], rates: &[f32]) -> Result<EncodedText, Error> {
        let pass = gradient::Pass::new(self, rates, false)?;
        if !self.attached.touches_text {
            return self.text.recall(prompts);
        }
        let text = pass.text(self, prompts)?;
        Ok(EncodedText { context: read(text.context.inner())?, pooled: read(text.pooled.inner())? })
    }

    fn touches_text(&self) -> bool {
        self.attached.touches_text
    }

    fn remember_text(&mut self, prompt: Tokens, encoded: EncodedText) -> Result<(), Error> {
        self.text.remember(prompt, encoded)
    }

    fn predict(&mut self, shown: &Shown<'_>, rates: &[f32]) -> Result<Vec<f32>, Error> {
        gradient::predict(self, shown, rates)
    }

    fn gradient(&mut self, batch: &Microbatch, rates: &[f32], options: &LossOptions) -> Result<Gradient, Error> {
        gradient::gradient(self, batch, rates, options)
    }

    fn free_memory(&mut self) {
        B::memory_cleanup(&self.device);
    }
}

fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// All elements of a tensor on the host, in f32.
fn read<B: Backend, const D: usize>(x: burn::tensor::Tensor<B, D>) -> Result<Vec<f32>, Error> {
    let data = x.try_into_data().map_err(|e| Error::of_device(e.to_string()))?;
    data.convert::<f32>().into_vec().map_err(|e| Error::Device(format!("{e:?}")))
}
