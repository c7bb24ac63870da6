//! Which sizes make an SDXL model.

use super::{
    Error, HEAD_SIZE, NORM_GROUPS, SIZE_NUMBERS, SdxlConfig, TEXT_POSITIONS, TextConfig, UnetConfig, VOCABULARY,
    VaeConfig,
};
use crate::sdxl::Part;

/// Largest size that any axis may have; real ones are below 50,000. Keeps products of two sizes far from overflow.
const MAX_SIZE: usize = 1 << 20;

impl SdxlConfig {
    /// Checks that the sizes fit each other and the twenty blocks.
    ///
    /// # Errors
    /// [`Error::Impossible`] with the first contradiction.
    pub fn validate(&self) -> Result<(), Error> {
        let Self { unet, text_encoder_1, text_encoder_2, vae } = self;
        unet.validate()?;
        text_encoder_1.validate(Part::TextEncoder1)?;
        text_encoder_2.validate(Part::TextEncoder2)?;
        vae.validate()?;
        let (first, second) = (text_encoder_1.hidden, text_encoder_2.hidden);
        ensure(Part::Unet, first + second == unet.context_dim, || {
            format!("the UNet wants {} wide text, the encoders give {first} + {second}", unet.context_dim)
        })?;
        let (adm, pooled) = (unet.adm_channels, self.pooled_width());
        // Half of each size embedding is cosines, half sines.
        ensure(Part::Unet, adm > pooled && (adm - pooled).is_multiple_of(2 * SIZE_NUMBERS), || {
            format!("a vector conditioning {adm} wide doesn't hold {pooled} of pooled text and six size embeddings")
        })?;
        ensure(Part::Unet, unet.in_channels == vae.latent && unet.out_channels == vae.latent, || {
            let (taken, given) = (unet.in_channels, unet.out_channels);
            format!("the UNet takes {taken} channels and gives {given}, the VAE's latents have {}", vae.latent)
        })
    }
}

impl UnetConfig {
    fn validate(&self) -> Result<(), Error> {
        let ensure = |holds, what: &dyn Fn() -> String| ensure(Part::Unet, holds, what);
        // Any other arrangement has no place for a rate IN00..IN08, MID, OUT00..OUT08.
        let arrangement = self.levels() == 3 && self.num_res_blocks == 2 && self.transformer_depth.len() == 3;
        ensure(arrangement, &|| "the UNet hasn't three levels of two residual blocks".to_owned())?;
        let depths = self.depth(0) == 0 && self.depth(1) > 0 && self.depth(2) > 0 && self.middle_depth > 0;
        ensure(depths, &|| {
            "the UNet hasn't transformers at its second and third level and in the middle alone".to_owned()
        })?;
        ensure(self.in_channels != 9, &|| "the UNet is one for inpainting (9 input channels)".to_owned())?;
        let sizes = [self.in_channels, self.out_channels, self.context_dim, self.adm_channels, self.time_embed_dim];
        ensure(sizes.iter().all(|size| (1..=MAX_SIZE).contains(size)), &|| format!("the UNet has sizes {sizes:?}"))?;
        multiple_of(Part::Unet, self.model_channels, NORM_GROUPS, "the UNet's model channels")?;
        for level in 0..self.levels() {
            let unit = if self.depth(level) > 0 { HEAD_SIZE } else { NORM_GROUPS };
            multiple_of(Part::Unet, self.channels(level), unit, "a UNet level's channels")?;
        }
        Ok(())
    }
}

impl TextConfig {
    fn validate(&self, part: Part) -> Result<(), Error> {
        multiple_of(part, self.hidden, HEAD_SIZE, &format!("{part}'s hidden size"))?;
        // The conditioning is the state after the last layer but one.
        ensure(part, self.layers >= 2, || format!("{part} has {} layers, fewer than two", self.layers))?;
        ensure(part, self.positions == TEXT_POSITIONS && self.vocab == VOCABULARY, || {
            let (positions, vocab) = (self.positions, self.vocab);
            format!("{part} has {positions} positions and {vocab} tokens, CLIP's has {TEXT_POSITIONS} and {VOCABULARY}")
        })?;
        let sizes = [self.mlp, self.projection.unwrap_or(1)];
        ensure(part, sizes.iter().all(|size| (1..=MAX_SIZE).contains(size)), || format!("{part} has sizes {sizes:?}"))
    }
}

impl VaeConfig {
    fn validate(&self) -> Result<(), Error> {
        // A latent has an eighth of the picture's sides: three halvings, between four levels.
        let fit = self.levels() == 4 && self.num_res_blocks == 2;
        ensure(Part::Vae, fit, || "the VAE hasn't four levels of two residual blocks".to_owned())?;
        let latent = self.latent;
        ensure(Part::Vae, latent == 4, || format!("the VAE's latents have {latent} channels, SDXL's have 4"))?;
        let fits = |channels: &usize| multiple_of(Part::Vae, *channels, NORM_GROUPS, "a VAE level's channels");
        self.channels.iter().try_for_each(fits)
    }
}

fn ensure(part: Part, holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Impossible { part, what: what() }) }
}

fn multiple_of(part: Part, size: usize, unit: usize, name: &str) -> Result<(), Error> {
    let fits = (1..=MAX_SIZE).contains(&size) && size.is_multiple_of(unit);
    ensure(part, fits, || format!("{name}, {size}, are no multiple of {unit} up to {MAX_SIZE}"))
}
