//! Blobs on their way to and from a coordinator. A transfer that breaks off goes on where it stopped.

use crate::connect::Connection;
use crate::v1::blob_service_client::BlobServiceClient;
use crate::v1::{self, put_blob_request::Part};
use crate::{CHUNK, MAX_MESSAGE};
use sha2::{Digest, Sha256};
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Attempts in a row without a single byte, before a transfer is given up.
const ATTEMPTS: u32 = 6;
/// Pause after the first of them; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
/// Chunks on their way at once.
const AHEAD: usize = 4;

/// Why a blob did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The other side refuses, or the connection broke too often.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// What arrived is not what was asked for.
    #[error("the coordinator's copy of {0} is damaged")]
    Damaged(String),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Error {
    /// Whether the coordinator has no such blob.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == Code::NotFound)
    }
}

/// Puts and gets blobs, over a connection of its own.
#[derive(Clone, Debug)]
pub struct Blobs {
    service: BlobServiceClient<Connection>,
}

impl Blobs {
    /// Over this connection.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        let service = BlobServiceClient::new(connection);
        Self { service: service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE) }
    }

    /// Whether the coordinator has all of it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn has(&mut self, key: &v1::BlobKey) -> Result<bool, Error> {
        Ok(self.stat(key).await?.complete)
    }

    /// How many bytes it has; `None` if the coordinator has not all of it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn size(&mut self, key: &v1::BlobKey) -> Result<Option<u64>, Error> {
        let stat = self.stat(key).await?;
        Ok(stat.complete.then_some(stat.received))
    }

    async fn stat(&mut self, key: &v1::BlobKey) -> Result<v1::StatBlobResponse, Status> {
        let request = v1::StatBlobRequest { blob: Some(key.clone()) };
        Ok(self.service.stat_blob(request).await?.into_inner())
    }

    /// Puts a file, unless it is there; `told` hears of the bytes that the coordinator has, or that are on their way.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put_file(&mut self, key: &v1::BlobKey, path: &Path, mut told: impl FnMut(u64)) -> Result<(), Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let mut failures = 0;
        let mut last = 0;
        loop {
            let attempt = async {
                let stat = self.stat(key).await?;
                told(stat.received);
                if stat.complete {
                    return Ok(());
                }
                if stat.received > last {
                    (failures, last) = (0, stat.received);
                }
                let mut file = File::open(path).await.map_err(failed)?;
                let size = file.metadata().await.map_err(failed)?.len();
                file.seek(SeekFrom::Start(stat.received)).await.map_err(failed)?;
                self.put_rest(key, size, stat.received, file, &mut told).await?;
                told(size);
                Ok(())
            };
            match attempt.await {
                Err(Error::Refused(status)) if is_passing(&status) && failures < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(failures)).await;
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    /// Puts bytes, unless they are there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put_bytes(&mut self, key: &v1::BlobKey, bytes: &[u8]) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let attempt = async {
                let stat = self.stat(key).await?;
                if stat.complete {
                    return Ok(());
                }
                let start = usize::try_from(stat.received).unwrap_or(usize::MAX);
                let rest = std::io::Cursor::new(bytes.get(start..).unwrap_or_default().to_vec());
                self.put_rest(key, bytes.len() as u64, stat.received, rest, |_| {}).await
            };
            match attempt.await {
                Err(Error::Refused(status)) if is_passing(&status) && failures < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(failures)).await;
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    async fn put_rest(
        &mut self,
        key: &v1::BlobKey,
        size: u64,
        offset: u64,
        mut source: impl AsyncRead + Unpin + Send + 'static,
        mut told: impl FnMut(u64),
    ) -> Result<(), Error> {
        let (parts, stream) = mpsc::channel(AHEAD);
        let start = Part::Start(v1::BlobStart { blob: Some(key.clone()), size, offset });
        let send = async move {
            let (mut part, mut put) = (Some(start), offset);
            // If nobody listens any more, the answer says why.
            while let Some(next) = part.take() {
                if parts.send(v1::PutBlobRequest { part: Some(next) }).await.is_err() {
                    return Ok(());
                }
                told(put);
                let mut chunk = Vec::with_capacity(CHUNK);
                (&mut source).take(CHUNK as u64).read_to_end(&mut chunk).await?;
                put += chunk.len() as u64;
                part = (!chunk.is_empty()).then_some(Part::Chunk(chunk));
            }
            Ok::<(), std::io::Error>(())
        };
        let (sent, answer) = tokio::join!(send, self.service.put_blob(ReceiverStream::new(stream)));
        sent.map_err(|source| Error::File { path: key.key.clone().into(), source })?;
        answer?;
        Ok(())
    }

    /// Fetches a blob into a file. What is half there from before, in a file of the same name that ends in `.part`, is
    /// gone on with; the file appears when it is whole, and a blob that is a file is checked against its digest. One at a
    /// time may fetch into a file.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_file(&mut self, key: &v1::BlobKey, path: &Path) -> Result<(), Error> {
        let part = path.with_extension("part");
        let failed = |source| Error::File { path: part.clone(), source };
        let mut failures = 0;
        loop {
            let mut file = File::options().create(true).append(true).open(&part).await.map_err(failed)?;
            let offset = file.metadata().await.map_err(failed)?.len();
            let mut received = 0;
            let attempt = async {
                let request = v1::GetBlobRequest { blob: Some(key.clone()), offset };
                let mut chunks = self.service.get_blob(request).await?.into_inner();
                let mut size = None;
                while let Some(message) = chunks.message().await? {
                    size = size.or(Some(message.size));
                    file.write_all(&message.chunk).await.map_err(failed)?;
                    received += message.chunk.len() as u64;
                }
                whole(size, offset + received)?;
                file.sync_all().await.map_err(failed)
            };
            match attempt.await {
                Err(Error::Refused(status)) if is_passing(&status) && failures < ATTEMPTS => {
                    if status.code() == Code::Aborted {
                        // What is here can't be the blob's beginning.
                        file.set_len(0).await.map_err(failed)?;
                    }
                    failures = if received > 0 { 0 } else { failures + 1 };
                    tokio::time::sleep(PAUSE * 2_u32.pow(failures)).await;
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        if key.kind == v1::BlobKind::File as i32 && digest(&part).await.map_err(failed)? != key.key {
            let _ = tokio::fs::remove_file(&part).await; // the next attempt begins anew
            return Err(Error::Damaged(key.key.clone()));
        }
        tokio::fs::rename(&part, path).await.map_err(failed)
    }

    /// Fetches a blob of `limit` bytes at most; `None` if the coordinator has none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_bytes(&mut self, key: &v1::BlobKey, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = Vec::new();
        let mut failures = 0;
        loop {
            let before = bytes.len();
            let attempt = async {
                let request = v1::GetBlobRequest { blob: Some(key.clone()), offset: bytes.len() as u64 };
                let mut chunks = self.service.get_blob(request).await?.into_inner();
                let mut size = None;
                while let Some(message) = chunks.message().await? {
                    size = size.or(Some(message.size));
                    if bytes.len() + message.chunk.len() > limit {
                        return Err(Error::Damaged(key.key.clone()));
                    }
                    bytes.extend(message.chunk);
                }
                Ok(whole(size, bytes.len() as u64)?)
            };
            match attempt.await {
                Err(Error::Refused(status)) if is_passing(&status) && failures < ATTEMPTS => {
                    failures = if bytes.len() > before { 0 } else { failures + 1 };
                    tokio::time::sleep(PAUSE * 2_u32.pow(failures)).await;
                }
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        if key.kind == v1::BlobKind::File as i32 && hex(&Sha256::digest(&bytes)) != key.key {
            return Err(Error::Damaged(key.key.clone()));
        }
        Ok(Some(bytes))
    }
}

/// A stream may end early and in peace, when the coordinator stops.
fn whole(size: Option<u64>, received: u64) -> Result<(), Status> {
    match size {
        Some(size) if received < size => Err(Status::unavailable("the transfer broke off")),
        _ => Ok(()),
    }
}

/// Whether the same may succeed in a moment.
fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded => true,
        // The connection's, rather than the coordinator's, which would have details.
        Code::Internal => status.details().is_empty(),
        _ => false,
    }
}

/// SHA-256 of a file, in hexadecimal.
async fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path).await?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
