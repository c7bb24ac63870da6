//! A blob on its way out.

use super::{Error, Inner};
use lora_rates_common::convert::BlobKey;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

/// The bytes of a blob, in order.
pub struct Reader {
    inner: Arc<Inner>,
    path: PathBuf,
    /// Bytes of the whole blob.
    pub size: u64,
    file: Option<File>,
}

impl Reader {
    pub(super) async fn open(inner: Arc<Inner>, key: BlobKey, offset: u64) -> Result<Self, Error> {
        let size = inner.state().complete.get(&key).copied();
        let size = size.ok_or_else(|| Error::NotFound(key.digits().to_owned()))?;
        if offset > size {
            return Err(Error::Offset { found: offset, received: size });
        }
        let path = inner.folder.path(&key);
        let opened = path.clone();
        let open = move || {
            let mut file = File::open(&opened).map_err(|source| match source.kind() {
                ErrorKind::NotFound => Error::NotFound(key.digits().to_owned()),
                _ => Error::io(&opened, source),
            })?;
            file.seek(SeekFrom::Start(offset)).map_err(|source| Error::io(&opened, source))?;
            Ok::<_, Error>(file)
        };
        let file = Some(inner.work(open).await??);
        Ok(Self { inner, path, size, file })
    }

    /// The next bytes, `limit` at most; none at the end.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let Some(mut file) = self.file.take() else { return Ok(Vec::new()) };
        let path = self.path.clone();
        let read = move || {
            let mut bytes = Vec::new();
            (&mut file).take(limit as u64).read_to_end(&mut bytes).map_err(|source| Error::io(&path, source))?;
            Ok::<_, Error>((file, bytes))
        };
        let (file, bytes) = self.inner.work(read).await??;
        self.file = Some(file);
        Ok(bytes)
    }
}
