//! Both text encoders, and what they have already encoded.

use super::load::BurnLoader;
use super::node::Tracked;
use super::ops::BurnOps;
use super::read;
use crate::engine::{EncodedText, Error};
use crate::ops::Ops;
use crate::sdxl::clip::TextEncoder;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use lora_rates_common::tokenizer::Tokens;
use std::collections::HashMap;

/// CLIP-L and bigG.
pub(super) struct TextEncoders<B: Backend> {
    clip_l: TextEncoder<BurnOps<B>>,
    clip_g: TextEncoder<BurnOps<B>>,
    /// Prompts encoded without networks, on the host: context and pooled.
    known: HashMap<Tokens, EncodedText>,
    context: usize,
    pooled: usize,
    device: B::Device,
    dtype: DType,
}

/// Text as the UNet takes it.
pub(super) struct Text<B: Backend> {
    /// `[b, 75 k + 2, context]`.
    pub(super) context: Tracked<B, 3>,
    /// `[b, 1, pooled]`.
    pub(super) pooled: Tracked<B, 3>,
}

impl<B: Backend> TextEncoders<B> {
    pub(super) fn load(loader: &mut BurnLoader<'_, B>) -> Result<Self, Error> {
        let config = loader.source.config();
        let (context, pooled) = (config.unet.context_dim, config.pooled_width());
        Ok(Self {
            clip_l: TextEncoder::load(loader, "text_encoder", &config.text_encoder_1)?,
            clip_g: TextEncoder::load(loader, "text_encoder_2", &config.text_encoder_2)?,
            known: HashMap::new(),
            context,
            pooled,
            device: loader.device.clone(),
            dtype: loader.dtype,
        })
    }

    /// Encodes prompts of one length under the networks of `ops`.
    pub(super) fn encode(&self, ops: &BurnOps<B>, prompts: &[Tokens]) -> Text<B> {
        let chunks = prompts.first().map_or(1, |tokens| tokens.clip_l.len());
        let rows_l: Vec<Vec<u32>> = prompts.iter().flat_map(|p| p.clip_l.iter().map(|row| row.to_vec())).collect();
        let rows_g: Vec<Vec<u32>> = prompts.iter().flat_map(|p| p.clip_g.iter().map(|row| row.to_vec())).collect();
        let l = self.clip_l.encode(ops, &rows_l);
        let g = self.clip_g.encode(ops, &rows_g);
        let hidden = ops.join_chunks(ops.concat(l.hidden, g.hidden), chunks);
        // bigG always has a projection: the sizes of a model without one are refused when it is opened.
        let pooled = g.pooled.unwrap_or_else(|| hidden.clone());
        let width = pooled.dims()[2];
        let firsts = (0..prompts.len()).map(|p| pooled.clone().slice([p * chunks..p * chunks + 1, 0..1, 0..width]));
        let pooled = if chunks == 1 { pooled } else { Tensor::cat(firsts.collect(), 0) };
        Text { context: hidden, pooled }
    }

    /// The same without networks, on the host, its numbers rounded to the model's type; every distinct prompt is encoded
    /// once.
    pub(super) fn recall(&mut self, prompts: &[Tokens]) -> Result<EncodedText, Error> {
        let base = BurnOps::base();
        for prompt in prompts {
            if !self.known.contains_key(prompt) {
                let text = self.encode(&base, std::slice::from_ref(prompt));
                let encoded = EncodedText { context: read(text.context.inner())?, pooled: read(text.pooled.inner())? };
                self.known.insert(prompt.clone(), encoded);
            }
        }
        let known: Vec<&EncodedText> = prompts.iter().filter_map(|prompt| self.known.get(prompt)).collect();
        let context: Vec<&[f32]> = known.iter().map(|text| text.context.as_slice()).collect();
        let pooled: Vec<&[f32]> = known.iter().map(|text| text.pooled.as_slice()).collect();
        Ok(EncodedText { context: context.concat(), pooled: pooled.concat() })
    }

    /// The text of so many prompts, brought to the device.
    pub(super) fn bring(&self, text: EncodedText, prompts: usize) -> Text<B> {
        Text {
            context: self.tokens(text.context, prompts, self.context),
            pooled: self.tokens(text.pooled, prompts, self.pooled),
        }
    }

    /// Takes what somebody else has encoded.
    pub(super) fn remember(&mut self, prompt: Tokens, encoded: EncodedText) -> Result<(), Error> {
        let tokens = 75 * prompt.clip_l.len() + 2;
        if encoded.context.len() != tokens * self.context || encoded.pooled.len() != self.pooled {
            return Err(Error::Request("an encoded prompt has the sizes of another model".into()));
        }
        let rounded = |values: Vec<f32>| {
            let length = values.len();
            let data = TensorData::new(values, [length]).convert_dtype(self.dtype);
            data.convert::<f32>().into_vec().map_err(|e| Error::Device(format!("{e:?}")))
        };
        let encoded = EncodedText { context: rounded(encoded.context)?, pooled: rounded(encoded.pooled)? };
        self.known.insert(prompt, encoded);
        Ok(())
    }

    fn tokens(&self, values: Vec<f32>, batch: usize, width: usize) -> Tracked<B, 3> {
        let tokens = values.len() / (batch * width).max(1);
        let data = TensorData::new(values, [batch, tokens, width]);
        Tensor::from_inner(Tensor::<B, 3>::from_data(data.convert_dtype(self.dtype), (&self.device, self.dtype)))
    }
}
