//! Networks that were fetched, on this worker's disk, by the SHA-256 of their bytes.

use lora_rates_common::convert::BlobKey;
use lora_rates_common::tensor_file::{self, TensorFile};
use lora_rates_proto::transfer::{self, Blobs};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What was not used for so long is removed.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the state of a transfer, or of another process's, is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The file that a process locks while it fetches: several workers may share a folder.
const LOCK: &str = ".lock";

/// Why a blob is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder can't be used.
    #[error("the cache folder {}: {source}; give another with --cache-dir", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It can't be fetched.
    #[error("can't fetch {name}: {source}")]
    Fetch {
        /// The network's name.
        name: String,
        /// Why.
        source: transfer::Error,
    },
    /// Nobody has it.
    #[error("the coordinator does not have the file of {0}: upload it again, by creating the search again")]
    Missing(String),
}

/// The folder.
#[derive(Debug)]
pub struct BlobCache {
    networks: PathBuf,
    /// Digests of the files whose bytes this process has checked, or fetched.
    checked: HashSet<String>,
}

impl BlobCache {
    /// Opens the folder, making it if needed, and removes what was not used for 30 days.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let networks = folder.join("networks");
        fs::create_dir_all(&networks).map_err(|source| Error::Folder { folder: networks.clone(), source })?;
        clean(&networks, SystemTime::now());
        Ok(Self { networks, checked: HashSet::new() })
    }

    /// The file that a network has, or will have.
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.networks.join(format!("{sha256}.safetensors"))
    }

    /// Fetches the networks, of digest and name, that are not there or are damaged; `told` hears of the bytes
    /// fetched, and of all.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fetch(
        &mut self,
        blobs: &mut Blobs,
        networks: &[(String, String)],
        mut told: impl FnMut(u64, u64),
    ) -> Result<(), Error> {
        if self.missing(networks).await.is_empty() {
            return Ok(());
        }
        let _lock = self.lock().await?;
        // Another process may have fetched them while this one waited.
        let missing = self.missing(networks).await;
        let mut sizes = Vec::new();
        for (sha256, name) in &missing {
            let key = (&BlobKey::File(sha256.clone())).into();
            let size = blobs.size(&key).await.map_err(|source| Error::Fetch { name: name.clone(), source })?;
            sizes.push(size.ok_or_else(|| Error::Missing(name.clone()))?);
        }
        let (mut done, total) = (0, sizes.iter().sum());
        for ((sha256, name), size) in missing.iter().zip(sizes) {
            let path = self.path(sha256);
            let part = path.with_extension("part");
            told(done, total);
            let key = (&BlobKey::File(sha256.clone())).into();
            let mut look = tokio::time::interval(LOOK);
            let transfer = blobs.get_file(&key, &path);
            tokio::pin!(transfer);
            let result = loop {
                tokio::select! {
                    result = &mut transfer => break result,
                    _ = look.tick() => told(done + fs::metadata(&part).map_or(0, |it| it.len()).min(size), total),
                }
            };
            result.map_err(|source| Error::Fetch { name: name.clone(), source })?;
            self.checked.insert(sha256.clone());
            done += size;
        }
        told(done, total);
        Ok(())
    }

    /// Those that are not there; what is damaged is removed. Those that are there count as used now.
    async fn missing(&mut self, networks: &[(String, String)]) -> Vec<(String, String)> {
        let mut missing: Vec<(String, String)> = Vec::new();
        for (sha256, name) in networks {
            let (path, known) = (self.path(sha256), self.checked.contains(sha256));
            let expected = sha256.clone();
            // A digest takes a while, so it is found once, and elsewhere.
            let sound = tokio::task::spawn_blocking(move || is_sound(&path, &expected, known)).await;
            match sound {
                Ok(true) => drop(self.checked.insert(sha256.clone())),
                _ if missing.iter().any(|(other, _)| other == sha256) => {}
                _ => missing.push((sha256.clone(), name.clone())),
            }
        }
        missing
    }

    /// Waits until no other process fetches into this folder.
    async fn lock(&self) -> Result<Option<File>, Error> {
        let failed = |source| Error::Folder { folder: self.networks.clone(), source };
        let lock = File::options().create(true).append(true).open(self.networks.join(LOCK)).map_err(failed)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Some(lock)),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
                // Some network file systems have no locks.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }
}

/// Whether the file is there and is what its name says; if it is something else it is removed.
fn is_sound(path: &Path, sha256: &str, known: bool) -> bool {
    let sound = match TensorFile::open(path) {
        Ok(file) => known || file.sha256() == sha256,
        Err(tensor_file::Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return false,
        Err(_) => false,
    };
    if sound {
        // Only keeps it from being removed; a folder that others filled may be read-only.
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    } else {
        // The transfer then says what is in its way.
        let _ = fs::remove_file(path);
    }
    sound
}

/// Removes files that were not used for long.
fn clean(folder: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let Ok(facts) = entry.metadata() else { continue };
        let age = facts.modified().ok().and_then(|used| now.duration_since(used).ok());
        let ours = [".safetensors", ".part"].iter().any(|end| entry.file_name().to_string_lossy().ends_with(end));
        if facts.is_file() && ours && age.is_some_and(|age| age > KEEP) {
            match fs::remove_file(entry.path()) {
                Ok(()) => tracing::info!("removed {}, which was not used for 30 days", entry.path().display()),
                Err(error) => tracing::warn!("can't remove {}: {error}", entry.path().display()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
