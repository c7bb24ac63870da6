//! Files by content, and encoded pictures, in the data folder.
//!
//! `files/ab/abcd...` is a file whose SHA-256 begins so, `encodings/ab/abcd...` an encoding. What arrives is written to a
//! `.part` beside it, which is renamed once it is whole, checked and on the disk: what has its name is complete. A file's
//! part survives a broken transfer and a restart. An encoding's does not: another worker may send other bytes for it.
//!
//! What there is, is kept in memory too, so that asking costs no disk.

mod error;
mod folder;
mod reader;
mod state;
#[cfg(test)]
mod tests;
mod upload;

pub use error::Error;
pub use reader::Reader;
pub use upload::Upload;

use folder::Folder;
use lora_rates_common::convert::{self, BlobKey};
use state::State;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Limits on blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of one blob at most. Default [`convert::MAX_BLOB`].
    pub max_blob: u64,
    /// Bytes of all of them at most, those that are still on their way included. Default: no limit but the disk.
    pub max_bytes: u64,
    /// Uploads at once at most; more wait. Default 64.
    pub max_uploads: usize,
    /// How long an upload waits for others to end before it is refused, and how long one may send nothing before another
    /// of the same blob takes its place: its sender has lost the connection and has come back. Default 5 s.
    pub patience: Duration,
    /// Work on the caller's thread instead of threads of its own. For simulations, which must not depend on real time.
    pub inline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_blob: convert::MAX_BLOB,
            max_bytes: u64::MAX,
            max_uploads: 64,
            patience: Duration::from_secs(5),
            inline: false,
        }
    }
}

/// How much of a blob there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is all there.
    pub complete: bool,
    /// Bytes received: its size if it is complete.
    pub received: u64,
}

/// All blobs; cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Folder,
    options: Options,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

impl Inner {
    /// No code that holds the lock can leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does blocking work where it blocks nobody.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        if self.options.inline {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)
    }
}

impl Blobs {
    /// The blobs in this folder, made if it is not there.
    ///
    /// # Errors
    /// When the folder can't be used.
    pub fn open(folder: &Path, options: Options) -> Result<Self, Error> {
        Self::new(Folder::open(folder)?, options)
    }

    /// Blobs that are forgotten with the last clone.
    ///
    /// # Errors
    /// When the system's folder for temporary files can't be used.
    pub fn temporary(options: Options) -> Result<Self, Error> {
        Self::new(Folder::temporary()?, options)
    }

    fn new(folder: Folder, options: Options) -> Result<Self, Error> {
        let state = Mutex::new(folder.read()?);
        let turns = Arc::new(Semaphore::new(options.max_uploads.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self { inner: Arc::new(Inner { folder, options, turns, state }) })
    }

    /// Whether all of it is there.
    #[must_use]
    pub fn has(&self, key: &BlobKey) -> bool {
        self.inner.state().complete.contains_key(key)
    }

    /// Those of these that are not all there, in their order.
    #[must_use]
    pub fn missing<K>(&self, keys: impl IntoIterator<Item = (K, BlobKey)>) -> Vec<K> {
        let state = self.inner.state();
        keys.into_iter().filter(|(_, key)| !state.complete.contains_key(key)).map(|(name, _)| name).collect()
    }

    /// Bytes of all blobs, those that are still on their way included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.state().bytes()
    }

    /// Changes whenever blobs are removed.
    #[must_use]
    pub fn removals(&self) -> u64 {
        self.inner.state().removals
    }

    /// Does blocking work where it blocks nobody, or here in a simulation.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        self.inner.work(work).await
    }

    /// How much of it there is.
    #[must_use]
    pub fn stat(&self, key: &BlobKey) -> Stat {
        let state = self.inner.state();
        match state.complete.get(key) {
            Some(size) => Stat { complete: true, received: *size },
            None => Stat { complete: false, received: state.parts.get(key).copied().unwrap_or_default() },
        }
    }

    /// Begins to take a blob of `size` bytes in, from `offset` on: what [`Self::stat`] says is there, or 0 to begin
    /// anew. `None` if it is all there.
    ///
    /// # Errors
    /// When it is too large, there is no space or time for it, or someone else is sending it just now.
    pub async fn put(&self, key: BlobKey, size: u64, offset: u64) -> Result<Option<Upload>, Error> {
        let limit = self.inner.options.max_blob;
        if size > limit {
            return Err(Error::TooLarge { size, limit });
        }
        let turn =
            tokio::time::timeout(self.inner.options.patience, Arc::clone(&self.inner.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| Error::Busy)?.map_err(|_| Error::Stopped)?;
        Upload::begin(Arc::clone(&self.inner), turn, key, size, offset).await
    }

    /// A blob's bytes from `offset` on.
    ///
    /// # Errors
    /// When it is not all there, or shorter, or can't be read.
    pub async fn get(&self, key: BlobKey, offset: u64) -> Result<Reader, Error> {
        Reader::open(Arc::clone(&self.inner), key, offset).await
    }

    /// Those that had lain there for a week when the folder was opened. Only the first call is told.
    #[must_use]
    pub fn take_old(&self) -> Vec<BlobKey> {
        std::mem::take(&mut self.inner.state().old)
    }

    /// Makes complete blobs unknown, at once; [`Removal::finish`] then deletes them. Until then they can't be put.
    #[must_use]
    pub fn remove(&self, keys: Vec<BlobKey>) -> Removal {
        let keys = self.inner.state().begin_removal(keys);
        Removal { inner: Arc::clone(&self.inner), keys }
    }
}

/// Blobs that are being deleted.
pub struct Removal {
    inner: Arc<Inner>,
    keys: Vec<BlobKey>,
}

impl Removal {
    /// Deletes the files. Those that can't be deleted are logged, and found again at the next start.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn finish(self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        inner.work(move || self.finish_here()).await
    }

    /// As [`Self::finish`], on the caller's thread.
    pub fn finish_here(self) {
        let Self { inner, keys } = self;
        for key in keys {
            let path = inner.folder.path(&key);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a blob that nobody needs was not deleted");
            }
            inner.state().removing.remove(&key);
        }
    }
}
