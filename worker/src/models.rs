//! Which models this worker has, and where: nobody else names files outside the model folder.

use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::convert::{Describe, ModelDescription};
use lora_rates_common::spec::ModelRef;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Entries of a model's folder that are looked at, at most.
const MAX_ENTRIES: usize = 10_000;
/// How deep they may lie.
const MAX_DEPTH: usize = 8;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is missing, lies elsewhere, or leads elsewhere: which of these is nobody else's business.
    #[error("there is no model {} below the worker's model folder", .0.display())]
    NoModel(PathBuf),
    /// The model folder itself.
    #[error("--model-dir {}: {source}; give a folder that holds models", folder.display())]
    Folder {
        /// What was given.
        folder: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Where models are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    /// Anywhere on this machine: the search was made on it.
    Anywhere,
    /// Below this folder alone, which has neither links nor `..` in it.
    Below(PathBuf),
}

impl Models {
    /// Below a folder.
    ///
    /// # Errors
    /// It can't be read, or is none.
    pub fn below(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Folder { folder: folder.to_owned(), source };
        fs::read_dir(folder).map_err(failed)?;
        Ok(Self::Below(folder.canonicalize().map_err(failed)?))
    }

    /// The file or folder of a model or VAE, without links in its path.
    ///
    /// # Errors
    /// There is none of this path where this worker may look.
    pub fn find(&self, path: &Path) -> Result<PathBuf, Error> {
        let Self::Below(root) = self else { return Ok(path.to_owned()) };
        let none = || Error::NoModel(path.to_owned());
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.as_os_str().is_empty() {
            return Err(none());
        }
        let found = inside(root, &root.join(path)).ok_or_else(none)?;
        if found.is_dir() {
            let mut left = MAX_ENTRIES;
            is_closed(root, &found, MAX_DEPTH, &mut left).then_some(()).ok_or_else(none)?;
        }
        Ok(found)
    }

    /// A search's model with the paths of this machine.
    ///
    /// # Errors
    /// As for [`Self::find`].
    pub fn resolve(&self, model: &ModelRef) -> Result<ModelRef, Error> {
        let vae = model.vae.as_deref().map(|vae| self.find(vae)).transpose()?;
        Ok(ModelRef { path: self.find(&model.path)?, vae, digest: model.digest.clone() })
    }

    /// What a model is; reads headers and the beginnings of tensors.
    ///
    /// # Errors
    /// Why it is none, in words that name nothing outside the model folder.
    pub fn describe(&self, describe: &Describe) -> Result<ModelDescription, String> {
        let find = |path: &Path| self.find(path).map_err(|error| error.to_string());
        let path = find(&describe.path)?;
        let vae = describe.vae.as_deref().map(find).transpose()?;
        let checkpoint = match vae {
            Some(vae) => Checkpoint::open_with_vae(&path, &vae),
            None => Checkpoint::open(&path),
        };
        match checkpoint {
            Ok(checkpoint) => Ok(ModelDescription { digest: checkpoint.digest(), config: checkpoint.config().clone() }),
            Err(error) => {
                Err(self.hidden().iter().fold(error.to_string(), |text, (path, name)| text.replace(path, name)))
            }
        }
    }

    /// What is left out of messages to others: path, and what is said instead.
    pub fn hidden(&self) -> Vec<(String, String)> {
        match self {
            Self::Anywhere => Vec::new(),
            Self::Below(root) => {
                let root = root.display().to_string();
                let slash = format!("{}/", root.trim_end_matches('/'));
                vec![(slash, String::new()), (root, "the model folder".to_owned())]
            }
        }
    }
}

/// Where a path leads, if that is inside the folder.
fn inside(root: &Path, path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().filter(|found| found.starts_with(root) && found != root)
}

/// Whether all that lies in a folder stays inside the model folder.
fn is_closed(root: &Path, folder: &Path, depth: usize, left: &mut usize) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    for entry in entries {
        let Some(fewer) = left.checked_sub(1) else { return false };
        *left = fewer;
        let Some(found) = entry.ok().and_then(|entry| inside(root, &entry.path())) else { return false };
        if found.is_dir() && (depth == 0 || !is_closed(root, &found, depth - 1, left)) {
            return false;
        }
    }
    true
}

#[cfg(all(test, unix))]
mod tests;
