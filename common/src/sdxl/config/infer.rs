//! Reading a model's sizes off the shapes of its tensors.

use super::{Activation, Error, SdxlConfig, TextConfig, UnetConfig, VaeConfig};
use crate::sdxl::Part;

/// Most blocks or layers that are counted under one name; real models have up to 32.
const MAX_COUNT: usize = 1000;

impl SdxlConfig {
    /// Reads all sizes off the tensors, given a function from canonical name to shape, and checks that they fit each
    /// other. Which other tensors must be there, and their shapes, then follows from [`super::super::layout::tensors`].
    ///
    /// # Errors
    /// A tensor that shows a size is missing or has the wrong number of axes, or the sizes contradict each other.
    pub fn infer(shape: impl Fn(&str) -> Option<Vec<usize>>) -> Result<Self, Error> {
        let tensors = Tensors { shape };
        let config = Self {
            unet: tensors.unet()?,
            text_encoder_1: tensors.text("text_encoder", Activation::QuickGelu, false)?,
            text_encoder_2: tensors.text("text_encoder_2", Activation::Gelu, true)?,
            vae: tensors.vae()?,
        };
        config.validate()?;
        Ok(config)
    }
}

struct Tensors<F> {
    shape: F,
}

impl<F: Fn(&str) -> Option<Vec<usize>>> Tensors<F> {
    fn shape<const AXES: usize>(&self, tensor: String) -> Result<[usize; AXES], Error> {
        let Some(shape) = (self.shape)(&tensor) else { return Err(Error::Missing { tensor }) };
        shape.try_into().map_err(|shape| Error::Rank { tensor, shape })
    }

    /// How many of the names `name(0), name(1), ...` there are without a gap.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..MAX_COUNT).take_while(|index| (self.shape)(&name(*index)).is_some()).count()
    }

    fn unet(&self) -> Result<UnetConfig, Error> {
        // The places of SDXL's three levels among the input blocks: each is two residual blocks and a downsampling.
        const LEVELS: [usize; 3] = [1, 4, 7];
        let [model_channels, in_channels, _, _] = self.shape("unet.input_blocks.0.0.weight".to_owned())?;
        let [time_embed_dim, _] = self.shape("unet.time_embed.0.weight".to_owned())?;
        let [_, adm_channels] = self.shape("unet.label_emb.0.0.weight".to_owned())?;
        let [out_channels, _, _, _] = self.shape("unet.out.2.weight".to_owned())?;
        let attention = "unet.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight";
        let [_, context_dim] = self.shape(attention.to_owned())?;
        let mut channel_mult = Vec::new();
        let mut transformer_depth = Vec::new();
        for place in LEVELS {
            let tensor = format!("unet.input_blocks.{place}.0.in_layers.2.weight");
            let [channels, _, _, _] = self.shape(tensor)?;
            channel_mult.push(multiple(channels, model_channels)?);
            transformer_depth.push(self.depth(&format!("input_blocks.{place}")));
        }
        let middle_depth = self.depth("middle_block");
        let num_res_blocks = self.count(|block| format!("unet.input_blocks.{}.0.in_layers.2.weight", block + 1));
        Ok(UnetConfig {
            in_channels,
            out_channels,
            model_channels,
            channel_mult,
            num_res_blocks,
            transformer_depth,
            middle_depth,
            context_dim,
            adm_channels,
            time_embed_dim,
        })
    }

    fn depth(&self, block: &str) -> usize {
        self.count(|index| format!("unet.{block}.1.transformer_blocks.{index}.norm1.weight"))
    }

    fn text(&self, part: &str, activation: Activation, projected: bool) -> Result<TextConfig, Error> {
        let [vocab, hidden] = self.shape(format!("{part}.text_model.embeddings.token_embedding.weight"))?;
        let [positions, _] = self.shape(format!("{part}.text_model.embeddings.position_embedding.weight"))?;
        let [mlp, _] = self.shape(format!("{part}.text_model.encoder.layers.0.mlp.fc1.weight"))?;
        let layers = self.count(|layer| format!("{part}.text_model.encoder.layers.{layer}.layer_norm1.weight"));
        let mut projection = None;
        if projected {
            let [outputs, _] = self.shape(format!("{part}.text_projection.weight"))?;
            projection = Some(outputs);
        }
        Ok(TextConfig { hidden, layers, mlp, positions, vocab, activation, projection })
    }

    fn vae(&self) -> Result<VaeConfig, Error> {
        let levels = self.count(|level| format!("vae.encoder.down.{level}.block.0.conv1.weight"));
        let mut channels = Vec::new();
        // At least one, so that a model without any VAE is told which tensor is missing.
        for level in 0..levels.max(1) {
            let [outputs, _, _, _] = self.shape(format!("vae.encoder.down.{level}.block.0.conv1.weight"))?;
            channels.push(outputs);
        }
        let [_, latent, _, _] = self.shape("vae.decoder.conv_in.weight".to_owned())?;
        let num_res_blocks = self.count(|block| format!("vae.encoder.down.0.block.{block}.conv1.weight"));
        Ok(VaeConfig { channels, latent, num_res_blocks })
    }
}

fn multiple(channels: usize, model_channels: usize) -> Result<usize, Error> {
    if model_channels > 0 && channels.is_multiple_of(model_channels) {
        return Ok(channels / model_channels);
    }
    let what = format!("a UNet level has {channels} channels, no multiple of the first level's {model_channels}");
    Err(Error::Impossible { part: Part::Unet, what })
}
