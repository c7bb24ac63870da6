//! The file that a command writes its tensors to.

use crate::failure::Failure;
use anyhow::anyhow;
use lora_rates_common::tensor_file::{self, NewTensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Refuses a path that could not be written, before hours go into what is to be written there.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let (path, folder) = (path.display(), folder.display());
        return Err(Failure::Run(anyhow!(
            "--output {path} can't be written: there is no folder {folder}; make it first"
        )));
    }
    if path.is_dir() {
        return Err(Failure::Run(anyhow!("--output {} is a folder; name a file in it", path.display())));
    }
    Ok(())
}

/// Writes the tensors, whole or not at all.
pub(super) fn write(path: &Path, tensors: &[NewTensor<'_>]) -> Result<(), Failure> {
    tensor_file::write(path, tensors, &BTreeMap::new())?;
    tracing::info!("wrote {}", path.display());
    Ok(())
}

/// f64s as an F32 tensor.
pub(super) fn singles(name: &str, shape: &[usize], values: impl IntoIterator<Item = f64>) -> NewTensor<'static> {
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    NewTensor::from_f32(name, shape, &values)
}
