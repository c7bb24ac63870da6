//! Networks: the LoRA and LoCon files whose rates are searched, under every naming that people's files come in.
//!
//! [`Network::open`] maps a file, finds the layer of the model behind every key, checks each shape and number against
//! it, and lists the modules in the order of the model's layers. A module adds `scale * up(down(x))` to its layer.

mod adapter;
mod assign;
mod error;
mod family;
mod key;
mod module;
mod report;
mod spelling;
mod unsupported;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use module::Module;
pub use report::{BlockSummary, report};

use crate::block::BLOCKS;
use crate::sdxl::Layer;
use crate::sdxl::config::SdxlConfig;
use crate::sdxl::layout;
use crate::tensor_file::{TensorFile, TensorView};
use assign::Assignment;
use module::Reader;
use spelling::Spellings;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What to do with keys that match no layer of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// The file is refused.
    #[default]
    Refuse,
    /// The keys are left out and listed in [`Network::skipped`].
    Skip,
}

/// An open network file, every module matched to its layer and checked.
#[derive(Debug)]
pub struct Network {
    /// The file's name without its extension.
    pub name: String,
    /// The path that it was opened by.
    pub path: PathBuf,
    /// SHA-256 of the whole file, in lower-case hexadecimal.
    pub sha256: String,
    /// Its modules, in the order of the model's layers; at least one, no two on one layer.
    pub modules: Vec<Module>,
    /// Keys that match no layer, sorted. Empty under [`Unmatched::Refuse`].
    pub skipped: Vec<String>,
    file: TensorFile,
}

impl Network {
    /// Opens a network file for a model of these sizes and checks all of it. Reads the whole file once.
    ///
    /// # Errors
    /// The file can't be read, holds nothing, a kind of module other than LoRA and LoCon, or a key that matches no
    /// layer (unless those are skipped), names a layer twice, lacks a half of a module, has a shape that doesn't fit
    /// its layer, or a number that is infinite or NaN.
    pub fn open(path: &Path, config: &SdxlConfig, unmatched: Unmatched) -> Result<Self, Error> {
        Model::of(config).open(path, unmatched)
    }

    /// The factor that the input meets first, as it lies in the file: `[rank, inputs]`, `[rank, inputs, 1, 1]` or, for
    /// a k x k convolution, `[rank, inputs, k, k]`. Its type is F16, BF16, F32 or F64 and every number is finite.
    ///
    /// # Errors
    /// The module is another network's.
    pub fn down(&self, module: &Module) -> Result<TensorView<'_>, Error> {
        self.tensor(&module.down_key)
    }

    /// The factor that makes the output, as it lies in the file: `[outputs, rank]` or `[outputs, rank, 1, 1]`. Its type
    /// is F16, BF16, F32 or F64 and every number is finite.
    ///
    /// # Errors
    /// The module is another network's.
    pub fn up(&self, module: &Module) -> Result<TensorView<'_>, Error> {
        self.tensor(&module.up_key)
    }

    /// Free text entries of the file's header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    /// Which of the twenty slots of rates do anything: those with a module whose scale isn't 0.
    pub fn live(&self) -> [bool; BLOCKS] {
        let mut live = [false; BLOCKS];
        for module in &self.modules {
            if let Some(slot) = live.get_mut(module.block.index()) {
                *slot |= module.scale != 0.0;
            }
        }
        live
    }

    /// How many modules each slot has, and of which ranks.
    pub fn blocks(&self) -> [BlockSummary; BLOCKS] {
        report::blocks(&self.modules)
    }

    fn tensor(&self, key: &str) -> Result<TensorView<'_>, Error> {
        self.file.get(key).ok_or_else(|| Error::OtherNetwork { path: self.path.clone(), key: error::shown(key) })
    }
}

/// Opens several networks for one model, in the order given.
///
/// # Errors
/// Those of [`Network::open`], and two paths that lead to one file or to files with the same bytes: one network under
/// two sets of rates has no single answer.
pub fn open_all(paths: &[PathBuf], config: &SdxlConfig, unmatched: Unmatched) -> Result<Vec<Network>, Error> {
    refuse_repeats(paths.iter().filter_map(|path| Some((fs::canonicalize(path).ok()?, path.as_path()))))?;
    let model = Model::of(config);
    let opened = paths.iter().map(|path| model.open(path, unmatched));
    let networks = opened.collect::<Result<Vec<Network>, Error>>()?;
    refuse_repeats(networks.iter().map(|network| (&network.sha256, network.path.as_path())))?;
    Ok(networks)
}

/// Fails on the first file whose identity an earlier one has.
fn refuse_repeats<'a, I: Ord>(files: impl Iterator<Item = (I, &'a Path)>) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for (identity, path) in files {
        if let Some(first) = seen.insert(identity, path) {
            return Err(Error::SameFile { first: first.to_owned(), second: path.to_owned() });
        }
    }
    Ok(())
}

/// The layers of a model and their names: made once, used for every network.
struct Model {
    layers: Vec<Layer>,
    spellings: Spellings,
    /// Width of its text conditioning.
    context: usize,
}

impl Model {
    fn of(config: &SdxlConfig) -> Self {
        let layers = layout::layers(config);
        let spellings = Spellings::of(&layers, &config.unet);
        Self { layers, spellings, context: config.unet.context_dim }
    }

    fn open(&self, path: &Path, unmatched: Unmatched) -> Result<Network, Error> {
        let file = TensorFile::open(path)?;
        let Assignment { slots, skipped } = assign::assign(&file, self, unmatched)?;
        let reader = Reader::new(&file, self.context)?;
        let modules: Vec<Module> = slots
            .iter()
            .filter_map(|(index, slot)| Some(reader.module(self.layers.get(*index)?, slot)))
            .collect::<Result<_, _>>()?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Network { name, path: path.to_owned(), sha256: file.sha256(), modules, skipped, file })
    }
}
