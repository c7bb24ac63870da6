//! The small world: an SDXL of a few million weights that has truly learned to draw, networks trained on it, and pictures.
//!
//! `tests/world` makes it and says what is in it; its files are part of this program.

mod packed;
#[cfg(test)]
mod tests;

use anyhow::Context;
use image::DynamicImage;
use include_dir::{Dir, DirEntry, include_dir};
use lora_rates_common::tensor_file;
use std::path::{Path, PathBuf};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../tests/world/files");

/// Follows the name of a packed file.
const PACKED: &str = ".safetensors.gz";
/// The checkpoint.
const MODEL: &str = "world";
/// What reads attributes off pictures, for tests.
const CLASSIFIER: &str = "classifier";

/// Where the world's files lie once they are written.
#[derive(Clone, Debug)]
pub(crate) struct World {
    folder: PathBuf,
}

impl World {
    /// Below this folder.
    pub(crate) fn below(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The checkpoint, of SDXL's original key names.
    pub(crate) fn model(&self) -> PathBuf {
        self.folder.join("world.safetensors")
    }

    /// A network's file.
    pub(crate) fn network(&self, name: &str) -> PathBuf {
        self.folder.join("networks").join(format!("{name}.safetensors"))
    }

    /// Pictures of a worked example: `train` or `heldout`.
    pub(crate) fn pictures(&self, example: &str, part: &str) -> PathBuf {
        self.folder.join("examples").join(example).join(part)
    }

    /// The words beside the rows of the demonstration's picture.
    ///
    /// # Errors
    /// The file is gone or changed.
    pub(crate) fn labels(&self) -> Result<DynamicImage, anyhow::Error> {
        let path = self.folder.join("labels.png");
        image::open(&path).with_context(|| format!("can't read {}", path.display()))
    }

    /// Writes everything, the same bytes every time. With `keep`, files that are there stay as they are.
    ///
    /// # Errors
    /// A file can't be written.
    pub(crate) fn write(&self, keep: bool) -> Result<(), anyhow::Error> {
        self.write_folder(&FILES, keep)
    }

    fn write_folder(&self, folder: &Dir<'_>, keep: bool) -> Result<(), anyhow::Error> {
        for entry in folder.entries() {
            match entry {
                DirEntry::Dir(below) => self.write_folder(below, keep)?,
                DirEntry::File(file) => self.write_file(file.path(), file.contents(), keep)?,
            }
        }
        Ok(())
    }

    fn write_file(&self, path: &Path, contents: &[u8], keep: bool) -> Result<(), anyhow::Error> {
        let name = path.to_string_lossy();
        let to = match name.strip_suffix(PACKED) {
            Some(MODEL) => self.model(),
            Some(CLASSIFIER) => return Ok(()),
            Some(network) => self.network(network),
            None => self.folder.join(path),
        };
        if keep && to.is_file() {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
        }
        if !name.ends_with(PACKED) {
            return std::fs::write(&to, contents).with_context(|| format!("can't write {}", to.display()));
        }
        let (tensors, metadata) =
            packed::read(contents).with_context(|| format!("this program's {name} is damaged"))?;
        Ok(tensor_file::write(&to, &tensors, &metadata)?)
    }
}
