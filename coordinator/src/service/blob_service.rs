//! `lorarates.v1.BlobService`: bytes in and out.

use super::status::{bad_field, forbidden, invalid};
use crate::blobs::{Blobs, Stat};
use crate::role::Role;
use lora_rates_common::convert::{BlobKey, blob_key};
use lora_rates_proto::CHUNK;
use lora_rates_proto::v1::blob_service_server::BlobService;
use lora_rates_proto::v1::{
    BlobStart, GetBlobRequest, GetBlobResponse, PutBlobRequest, PutBlobResponse, StatBlobRequest, StatBlobResponse,
    put_blob_request::Part,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Request, Response, Status, Streaming};

/// Chunks on their way to a slow reader before no more are read from the disk.
const AHEAD: usize = 2;
/// A sender that sends nothing for so long is gone. A chunk over a slow line takes a while.
const SILENCE: Duration = Duration::from_secs(60);

/// Serves blobs to clients and workers.
pub struct BlobApi {
    /// The blobs.
    pub blobs: Blobs,
}

/// Anyone whose role is known may read blobs and put files; encodings are put by workers only.
fn check_role(extensions: &Extensions, puts: Option<&BlobKey>) -> Result<(), Status> {
    let role = extensions.get::<Role>().ok_or_else(forbidden)?;
    let allowed = match puts {
        Some(BlobKey::Encoding(_)) => role.is_worker(),
        Some(BlobKey::File(_)) | None => role.is_client() || role.is_worker(),
    };
    if allowed { Ok(()) } else { Err(forbidden()) }
}

#[tonic::async_trait]
impl BlobService for BlobApi {
    type GetBlobStream = ReceiverStream<Result<GetBlobResponse, Status>>;

    async fn stat_blob(&self, request: Request<StatBlobRequest>) -> Result<Response<StatBlobResponse>, Status> {
        check_role(request.extensions(), None)?;
        let key = blob_key(request.into_inner().blob).map_err(invalid)?;
        let Stat { complete, received } = self.blobs.stat(&key);
        Ok(Response::new(StatBlobResponse { complete, received }))
    }

    async fn put_blob(&self, request: Request<Streaming<PutBlobRequest>>) -> Result<Response<PutBlobResponse>, Status> {
        let (_, extensions, mut stream) = request.into_parts();
        check_role(&extensions, None)?;
        let Some(Part::Start(start)) = next(&mut stream).await? else {
            return Err(bad_field("part", "the first message must be start"));
        };
        let BlobStart { blob, size, offset } = start;
        let key = blob_key(blob).map_err(invalid)?;
        check_role(&extensions, Some(&key))?;
        // What is there already needs not be sent again.
        let Some(mut upload) = self.blobs.put(key, size, offset).await? else {
            return Ok(Response::new(PutBlobResponse { size }));
        };
        while let Some(part) = next(&mut stream).await? {
            match part {
                Part::Chunk(bytes) if bytes.len() <= CHUNK => upload.write(bytes).await?,
                Part::Chunk(bytes) => {
                    let message = format!("chunk has {} bytes; it must have at most {CHUNK}", bytes.len());
                    return Err(bad_field("chunk", &message));
                }
                Part::Start(_) => return Err(bad_field("part", "start is said once")),
            }
        }
        upload.finish().await?;
        Ok(Response::new(PutBlobResponse { size }))
    }

    async fn get_blob(&self, request: Request<GetBlobRequest>) -> Result<Response<Self::GetBlobStream>, Status> {
        check_role(request.extensions(), None)?;
        let GetBlobRequest { blob, offset } = request.into_inner();
        let key = blob_key(blob).map_err(invalid)?;
        let mut reader = self.blobs.get(key, offset).await?;
        let (chunks, stream) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            // The first message tells the size, even if nothing follows.
            let mut size = reader.size;
            loop {
                let chunk = reader.next(CHUNK).await;
                let over = chunk.as_ref().map_or(true, Vec::is_empty);
                if size > 0 || !over || chunk.is_err() {
                    let message = chunk.map(|chunk| GetBlobResponse { size, chunk }).map_err(Status::from);
                    if chunks.send(message).await.is_err() {
                        return; // the reader has left
                    }
                    size = 0;
                }
                if over {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The next message; `None` at the end.
async fn next(stream: &mut Streaming<PutBlobRequest>) -> Result<Option<Part>, Status> {
    let silent = |_| Status::deadline_exceeded(format!("nothing was sent for {} s", SILENCE.as_secs()));
    match timeout(SILENCE, stream.message()).await.map_err(silent)?? {
        None => Ok(None),
        Some(PutBlobRequest { part: Some(part) }) => Ok(Some(part)),
        Some(PutBlobRequest { part: None }) => Err(bad_field("part", "part is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_put_encodings_and_nobody_unknown_does_anything() {
        let of = |role: Option<Role>| {
            let mut extensions = Extensions::default();
            role.map(|role| extensions.insert(role));
            extensions
        };
        let (file, encoding) = (BlobKey::File(String::new()), BlobKey::Encoding(String::new()));
        for role in [Role::Client, Role::Worker, Role::Anyone] {
            assert!(check_role(&of(Some(role)), None).is_ok());
            assert!(check_role(&of(Some(role)), Some(&file)).is_ok());
            assert_eq!(check_role(&of(Some(role)), Some(&encoding)).is_ok(), role != Role::Client);
        }
        for puts in [None, Some(&file), Some(&encoding)] {
            assert_eq!(check_role(&of(None), puts).unwrap_err().code(), tonic::Code::PermissionDenied);
        }
    }
}
