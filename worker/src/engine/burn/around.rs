//! What surrounds the UNet, for an engine that has a UNet of its own: text encoders with their networks, and the VAE.

use super::gradient::Pass;
use super::text::Text;
use super::{Attached, BurnEngine, Tuning, read};
use crate::engine::columns::is_text;
use crate::engine::{EncodedText, EngineOptions, Error, GradientEngine, Moments};
use crate::source::Source;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use lora_rates_common::network::Network;
use lora_rates_common::picture::Pixels;
use lora_rates_common::tokenizer::Tokens;

/// A model without its UNet on a burn device.
pub struct Around<B: Backend>(BurnEngine<B>);

/// Prompts encoded under the networks, with what is needed to pull a gradient back through the encoders.
pub(in crate::engine) struct HeldText<B: Backend> {
    /// Nothing where no network changes the encoders.
    graph: Option<(Pass<B>, Text<B>)>,
    pub(in crate::engine) encoded: EncodedText,
}

impl<B: Backend> Around<B> {
    /// Loads the text encoders; the VAE follows when it is first needed.
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
        Ok(Self(BurnEngine::without_unet(source, device, name, options, tuning)?))
    }

    pub(in crate::engine) fn source(&self) -> &Source {
        &self.0.source
    }

    pub(in crate::engine) fn device(&self) -> String {
        self.0.device()
    }

    pub(in crate::engine) fn synchronize(&mut self) -> Result<(), Error> {
        self.0.synchronize()
    }

    pub(in crate::engine) fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        self.0.encode(pixels)
    }

    pub(in crate::engine) fn decode(
        &mut self,
        latents: &[f32],
        height: usize,
        width: usize,
    ) -> Result<Vec<f32>, Error> {
        self.0.decode(latents, height, width)
    }

    pub(in crate::engine) fn release_vae(&mut self) {
        self.0.release_vae();
    }

    pub(in crate::engine) fn free_memory(&mut self) {
        self.0.free_memory();
    }

    /// Attaches the networks' modules on the text encoders alone.
    pub(in crate::engine) fn attach(&mut self, networks: &[Network]) -> Result<(), Error> {
        self.0.attached = Attached::none();
        self.0.attached = Attached::new(networks, is_text, &self.0.device, self.0.dtype())?;
        Ok(())
    }

    pub(in crate::engine) fn touches_text(&self) -> bool {
        self.0.touches_text()
    }

    pub(in crate::engine) fn encode_text(&mut self, prompts: &[Tokens], rates: &[f32]) -> Result<EncodedText, Error> {
        self.0.encode_text(prompts, rates)
    }

    pub(in crate::engine) fn remember_text(&mut self, prompt: Tokens, encoded: EncodedText) -> Result<(), Error> {
        self.0.remember_text(prompt, encoded)
    }

    /// Encodes prompts such that their gradient can be pulled back to the rates.
    pub(in crate::engine) fn hold_text(&mut self, prompts: &[Tokens], rates: &[f32]) -> Result<HeldText<B>, Error> {
        // It is on the host already: a detour over the device took longer than all the rest that a step does here.
        if !self.0.attached.touches_text {
            return Ok(HeldText { graph: None, encoded: self.0.text.recall(prompts)? });
        }
        let pass = Pass::new(&self.0, rates, true)?;
        let text = pass.text(&mut self.0, prompts)?;
        let (context, pooled) = (text.context.clone().inner(), text.pooled.clone().inner());
        let encoded = EncodedText { context: read(context)?, pooled: read(pooled)? };
        Ok(HeldText { graph: Some((pass, text)), encoded })
    }

    /// The gradient by the 20 N rates from that of the text, each as long as what was encoded; `None` for zeros.
    pub(in crate::engine) fn pull_text(
        &self,
        held: HeldText<B>,
        by_context: Option<Vec<f32>>,
        by_pooled: Option<Vec<f32>>,
    ) -> Result<Vec<f64>, Error> {
        let Some((pass, text)) = held.graph else { return Ok(self.0.attached.pull(&[])) };
        let parts = [(text.context, by_context), (text.pooled, by_pooled)];
        let terms = parts.into_iter().filter_map(|(value, g)| {
            let g = TensorData::new(g?, value.dims());
            let g = Tensor::<B, 3>::from_data(g, (&self.0.device, DType::F32));
            Some((value.cast(DType::F32) * Tensor::from_inner(g)).sum())
        });
        let Some(root) = terms.reduce(|a, b| a + b) else { return Ok(self.0.attached.pull(&[])) };
        Ok(self.0.attached.pull(&pass.by_column(&root.backward())?))
    }
}
