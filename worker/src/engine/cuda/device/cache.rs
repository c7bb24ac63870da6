//! What is remembered on disk between runs: compiled kernels, and which algorithm a product uses. Losing it costs time alone.

use std::path::{Path, PathBuf};

/// `lora-rates/cuda` below `$XDG_CACHE_HOME` or `~/.cache`; `None` where there is no home.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(caches.join("lora-rates").join("cuda"))
}

/// A remembered file.
pub(super) fn read(name: &str) -> Option<Vec<u8>> {
    std::fs::read(folder()?.join(name)).ok()
}

/// Remembers a file. Others never see half of it.
pub(super) fn write(name: &str, bytes: &[u8]) {
    let kept = folder().map(|folder| store(&folder, name, bytes));
    if let Some(Err(error)) = kept {
        tracing::warn!("{name} is not remembered for the next run: {error}");
    }
}

fn store(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    std::fs::write(file.path(), bytes)?;
    file.persist(folder.join(name)).map_err(|error| error.error)?;
    Ok(())
}
