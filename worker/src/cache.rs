//! Latents and text embeddings on disk, keyed by everything that they were computed from.

use crate::engine::{EncodedText, Moments};
use lora_rates_common::dataset::Image;
use lora_rates_common::spec::{Precision, hex};
use lora_rates_common::tensor_file::{self, NewTensor, TensorFile};
use lora_rates_common::tokenizer::Tokens;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A folder of cached results. A file that can't be read counts as absent, one that can't be written is an error.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// Digests of the weights of the VAE and of the text encoders.
    vae: String,
    text: String,
}

impl Cache {
    /// Opens a folder for the results of these weights, making it if needed.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(folder: &Path, vae: String, text: String) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), vae, text })
    }

    /// The posterior of a picture, mirrored or not, if it is known.
    pub fn moments(&self, image: &Image, flip: bool) -> Option<Moments> {
        let file = TensorFile::open(&self.moments_path(image, flip)).ok()?;
        let tensor = file.get("moments")?;
        let [channels, height, width] = *tensor.shape else { return None };
        let (bucket_width, bucket_height) = image.fit.bucket;
        let fits = channels == 8 && (8 * height, 8 * width) == (bucket_height as usize, bucket_width as usize);
        fits.then_some(Moments { height, width, values: tensor.to_f32().ok()? })
    }

    /// Keeps the posterior of a picture.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep_moments(&self, image: &Image, flip: bool, moments: &Moments) -> Result<(), tensor_file::Error> {
        let shape = [8, moments.height, moments.width];
        let tensors = [NewTensor::from_f32("moments", &shape, &moments.values)];
        tensor_file::write(&self.moments_path(image, flip), &tensors, &BTreeMap::new())
    }

    /// What a prompt encodes to without networks, if it is known.
    pub fn text(&self, prompt: &Tokens, precision: Precision) -> Option<EncodedText> {
        let file = TensorFile::open(&self.text_path(prompt, precision)).ok()?;
        let read = |name| file.get(name)?.to_f32().ok();
        Some(EncodedText { context: read("context")?, pooled: read("pooled")? })
    }

    /// Keeps what a prompt encodes to.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep_text(
        &self,
        prompt: &Tokens,
        precision: Precision,
        text: &EncodedText,
    ) -> Result<(), tensor_file::Error> {
        let tensors = [("context", &text.context), ("pooled", &text.pooled)]
            .map(|(name, values)| NewTensor::from_f32(name, &[values.len()], values));
        tensor_file::write(&self.text_path(prompt, precision), &tensors, &BTreeMap::new())
    }

    fn moments_path(&self, image: &Image, flip: bool) -> PathBuf {
        let fit = &image.fit;
        self.path(
            "latents",
            &format!("{} {} {:?} {:?} {:?} {flip}", self.vae, image.sha256, fit.bucket, fit.resized, fit.cut),
        )
    }

    fn text_path(&self, prompt: &Tokens, precision: Precision) -> PathBuf {
        self.path("text", &format!("{} {precision:?} {:?} {:?}", self.text, prompt.clip_l, prompt.clip_g))
    }

    fn path(&self, kind: &str, key: &str) -> PathBuf {
        self.folder.join(format!("{kind}-{}.safetensors", hex(&Sha256::digest(key))))
    }
}
