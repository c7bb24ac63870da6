//! A blob on its way in.

use super::{Error, Inner};
use lora_rates_common::convert::BlobKey;
use lora_rates_common::spec::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// A blob on its way in. Dropped before it is whole, it can be gone on with if it is a file.
pub struct Upload {
    inner: Arc<Inner>,
    key: BlobKey,
    number: u64,
    size: u64,
    received: u64,
    resumed: bool,
    /// `None` once it has ended or failed.
    part: Option<Part>,
    _turn: OwnedSemaphorePermit,
}

/// The file that is written, and the digest of what is in it.
struct Part {
    file: File,
    digest: Sha256,
}

impl Upload {
    pub(super) async fn begin(
        inner: Arc<Inner>,
        turn: OwnedSemaphorePermit,
        key: BlobKey,
        size: u64,
        offset: u64,
    ) -> Result<Option<Self>, Error> {
        let number = {
            let mut state = inner.state();
            if state.complete.contains_key(&key) {
                return Ok(None);
            }
            state.begin(&key, size, offset, &inner.options)?
        };
        let resumed = offset > 0;
        let mut upload = Self { inner, key, number, size, received: offset, resumed, part: None, _turn: turn };
        let path = upload.inner.folder.part(&upload.key);
        upload.part = Some(upload.inner.work(move || Part::open(&path, offset)).await??);
        Ok(Some(upload))
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// When they are too many, can't be written, or someone else has begun to send the blob meanwhile.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let count = bytes.len() as u64;
        let found = self.received.saturating_add(count);
        if found > self.size {
            return Err(Error::Size { found, expected: self.size });
        }
        let Some(mut part) = self.part.take() else { return Err(Error::InUse(self.key.digits().to_owned())) };
        self.inner.state().write(&self.key, self.number, count)?;
        let path = self.inner.folder.part(&self.key);
        let write = move || part.write(&bytes).map(|()| part).map_err(|source| Error::io(&path, source));
        self.part = Some(self.inner.work(write).await??);
        self.received = found;
        Ok(())
    }

    /// Checks and keeps the blob, after its last byte.
    ///
    /// # Errors
    /// When bytes are missing, are not those of the blob's name, or can't be kept.
    pub async fn finish(mut self) -> Result<(), Error> {
        if self.received != self.size {
            return Err(Error::Size { found: self.received, expected: self.size });
        }
        let Some(Part { file, digest }) = self.part.take() else {
            return Err(Error::InUse(self.key.digits().to_owned()));
        };
        self.inner.state().write(&self.key, self.number, 0)?;
        if let BlobKey::File(expected) = &self.key {
            let found = hex(&digest.finalize());
            if found != *expected {
                self.received = 0; // nothing of it is of use
                return Err(Error::Digest { found, expected: expected.clone(), resumed: self.resumed });
            }
        }
        let (inner, key) = (Arc::clone(&self.inner), self.key.clone());
        self.inner.work(move || inner.folder.complete(&key, &file)).await??;
        self.inner.state().end(&self.key, self.number, true, self.size);
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Bytes whose writing failed half-way are there or not; what can't be known is sent again.
        let kept = match (&self.key, &self.part) {
            (BlobKey::File(_), Some(_)) => self.received,
            _ => 0,
        };
        self.inner.state().end(&self.key, self.number, false, kept);
    }
}

impl Part {
    /// Opens the file with its first `offset` bytes, and nothing after them.
    fn open(path: &Path, offset: u64) -> Result<Self, Error> {
        let failed = |source| Error::io(path, source);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        }
        let mut file =
            File::options().create(true).read(true).write(true).truncate(offset == 0).open(path).map_err(failed)?;
        let received = file.metadata().map_err(failed)?.len();
        if received < offset {
            return Err(Error::Offset { found: offset, received: 0 });
        }
        file.set_len(offset).map_err(failed)?;
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; if offset == 0 { 0 } else { BUFFER }]);
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => return Ok(Self { file, digest }),
                count => digest.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        Ok(())
    }
}
