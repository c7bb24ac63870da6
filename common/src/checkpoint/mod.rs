//! An SDXL checkpoint, a single file or a diffusers folder, behind canonical names.
//!
//! Opening maps the files and checks every tensor against [`layout::tensors`]; no weight is read before it is asked
//! for.

mod digest;
mod error;
mod family;
mod folder;
mod index;
mod source;
mod stored;

#[cfg(test)]
mod tests;

pub use error::{Error, Fault};
pub use family::Family;
pub use stored::Stored;

use crate::sdxl::config::SdxlConfig;
use crate::sdxl::{Part, layout};
use index::{Index, Misfit, Place};
use source::Source;
use std::path::{Path, PathBuf};

/// A complete and consistent SDXL model on disk, memory-mapped.
#[derive(Debug)]
pub struct Checkpoint {
    /// The path that it was opened by, for messages about no particular file.
    path: PathBuf,
    sources: Vec<Source>,
    index: Index,
    config: SdxlConfig,
}

impl Checkpoint {
    /// Opens a single file or a diffusers folder.
    ///
    /// # Errors
    /// It can't be read, is another kind of model, or a tensor is missing, misshapen, unknown, stored twice or of a
    /// type that holds no floating-point numbers.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::assemble(path, Source::of_checkpoint(path)?)
    }

    /// Opens a single file or a diffusers folder with the VAE of another path: that of [`Self::with_vae`]. The
    /// checkpoint itself need not have one.
    ///
    /// # Errors
    /// Those of [`Self::open`] and [`Self::with_vae`].
    pub fn open_with_vae(path: &Path, vae: &Path) -> Result<Self, Error> {
        Self::assemble(path, source::replace_vae(Source::of_checkpoint(path)?, vae)?)
    }

    /// The same model with another VAE: a file with original names (bare, or with the prefix `first_stage_model.`) or
    /// diffusers' names, or a folder of diffusers' `AutoencoderKL`, perhaps below a subfolder `vae`.
    ///
    /// # Errors
    /// As [`Self::open`], for that VAE.
    pub fn with_vae(self, vae: &Path) -> Result<Self, Error> {
        Self::assemble(&self.path, source::replace_vae(self.sources, vae)?)
    }

    /// The model's sizes.
    pub fn config(&self) -> &SdxlConfig {
        &self.config
    }

    /// The tensor of this canonical name, part's prefix first.
    ///
    /// # Errors
    /// [`Error::NoTensor`] if [`layout::tensors`] doesn't list the name.
    pub fn tensor(&self, name: &str) -> Result<Stored<'_>, Error> {
        let found = self.index.get(name).and_then(|place| self.stored(place));
        found.ok_or_else(|| Error::NoTensor { path: self.path.clone(), tensor: name.to_owned() })
    }

    /// All files that the model is made of, each once.
    pub fn files(&self) -> Vec<&Path> {
        self.sources.iter().flat_map(|source| &source.files).map(|file| file.path()).collect()
    }

    /// Reads all weights and looks for infinities and NaNs.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the first tensor that has one.
    pub fn check_finite(&self) -> Result<(), Error> {
        for spec in layout::tensors(&self.config) {
            let Stored { view, .. } = self.tensor(&spec.name)?;
            if view.first_non_finite().is_some() {
                return Err(Error::NotFinite { path: view.path.to_owned(), tensor: view.name.to_owned() });
            }
        }
        Ok(())
    }

    fn stored(&self, place: &Place) -> Option<Stored<'_>> {
        let view = self.sources.get(place.source)?.files.get(place.file)?.get(&place.name)?;
        let view = match &place.rows {
            Some(rows) => view.rows(rows.clone())?,
            None => view,
        };
        Some(Stored { view, transpose: place.transpose, shape: place.shape.clone() })
    }

    fn assemble(path: &Path, sources: Vec<Source>) -> Result<Self, Error> {
        let (mut index, unknown) = Index::of(&sources);
        for part in [Part::Unet, Part::TextEncoder1, Part::TextEncoder2, Part::Vae] {
            if !index.has(part) {
                return Err(Error::NoPart { path: path.to_owned(), part });
            }
        }
        let file_of = |part| source::path_of(&sources, part).unwrap_or(path).to_owned();
        let config = SdxlConfig::infer(|name| index.get(name).map(|place| place.shape.clone()))
            .map_err(|source| Error::Config { path: file_of(source.part()), source })?;
        let mut misfits = index.fit(&layout::tensors(&config), &sources);
        misfits.extend(unknown);
        let more = misfits.len().saturating_sub(1);
        match misfits.into_iter().next() {
            None => Ok(Self { path: path.to_owned(), sources, index, config }),
            Some(Misfit { path: file, tensor, fault }) => {
                Err(Error::Unfit { path: file.unwrap_or(path.to_owned()), tensor, fault, more })
            }
        }
    }
}
