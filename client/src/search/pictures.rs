//! Sample pictures on their way from the coordinator's store to a file.

use crate::output::file::replace;
use crate::remote::Remote;
use lora_rates_common::spec::hex;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Fetches what was sampled, unless the file is there already. Returns the file; `None` if there is no place for it.
///
/// # Errors
/// Why there is no picture, in words.
pub(super) async fn fetch(
    remote: &Remote,
    result: &Result<String, String>,
    place: Option<&Path>,
) -> Result<Option<PathBuf>, String> {
    let sha256 = result.as_ref().map_err(Clone::clone)?;
    let Some(path) = place else { return Ok(None) };
    let known = std::fs::read(path).is_ok_and(|bytes| hex(&Sha256::digest(bytes)) == *sha256);
    if !known {
        let bytes = remote.file(sha256).await.map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or("the coordinator does not have it any more")?;
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(path))?;
            replace(path, &bytes)
        };
        write().map_err(|error| format!("can't write {}: {error}; check --output_dir", path.display()))?;
    }
    Ok(Some(path.to_owned()))
}
