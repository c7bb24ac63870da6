//! A coordinator that does what a test says, and keeps blobs in memory.

use lora_rates_common::convert::BlobKey;
use lora_rates_proto::v1::blob_service_server::{BlobService, BlobServiceServer};
use lora_rates_proto::v1::join_request::Message as Up;
use lora_rates_proto::v1::join_response::Message as Down;
use lora_rates_proto::v1::put_blob_request::Part;
use lora_rates_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use lora_rates_proto::{MAX_MESSAGE, v1};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// After which a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Blobs by key.
type Stored = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A worker's stream, from the coordinator's side.
pub(crate) struct Joined {
    down: mpsc::Sender<Result<v1::JoinResponse, Status>>,
    up: Streaming<v1::JoinRequest>,
}

impl Joined {
    /// Tells the worker something.
    pub(crate) async fn tell(&self, message: Down) {
        self.down.send(Ok(v1::JoinResponse { message: Some(message) })).await.unwrap();
    }

    /// Ends the stream with an error.
    pub(crate) async fn refuse(self, status: Status) {
        self.down.send(Err(status)).await.unwrap();
    }

    /// What it says next, but for heartbeats and progress.
    pub(crate) async fn says(&mut self) -> Up {
        loop {
            match self.next().await {
                Some(Up::Heartbeat(_) | Up::Progress(_)) => {}
                Some(message) => return message,
                None => panic!("the worker has left"),
            }
        }
    }

    /// What it says next; nothing at the end.
    pub(crate) async fn next(&mut self) -> Option<Up> {
        let message = timeout(PATIENCE, self.up.message()).await.expect("the worker says something");
        Some(message.ok()??.message.expect("a message"))
    }
}

/// The coordinator.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    joined: mpsc::Receiver<Joined>,
    stored: Stored,
    serving: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn listen(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, joined) = mpsc::channel(8);
        let stored = Stored::default();
        let workers = WorkerServiceServer::new(Workers(sender)).max_decoding_message_size(MAX_MESSAGE);
        let blobs = BlobServiceServer::new(Blobs(stored.clone())).max_decoding_message_size(MAX_MESSAGE);
        let server = Server::builder().add_service(workers).add_service(blobs);
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, joined, stored, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next worker that joins, after its Hello.
    pub(crate) async fn worker(&mut self) -> Joined {
        let mut joined = timeout(PATIENCE, self.joined.recv()).await.expect("a worker joins").unwrap();
        let hello = joined.next().await;
        assert!(matches!(hello, Some(Up::Hello(_))), "{hello:?}");
        joined
    }

    pub(crate) fn put(&self, key: &BlobKey, bytes: Vec<u8>) {
        self.stored.lock().unwrap().insert(key.digits().to_owned(), bytes);
    }

    pub(crate) fn get(&self, key: &BlobKey) -> Option<Vec<u8>> {
        self.stored.lock().unwrap().get(key.digits()).cloned()
    }

    pub(crate) fn forget(&self, key: &BlobKey) {
        self.stored.lock().unwrap().remove(key.digits());
    }

    /// Ends it without a word, connections included.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.serving.abort();
        let _ = self.serving.await;
        self.address
    }
}

struct Workers(mpsc::Sender<Joined>);

#[tonic::async_trait]
impl WorkerService for Workers {
    type JoinStream = ReceiverStream<Result<v1::JoinResponse, Status>>;

    async fn join(&self, request: Request<Streaming<v1::JoinRequest>>) -> Result<Response<Self::JoinStream>, Status> {
        let (down, messages) = mpsc::channel(64);
        self.0.send(Joined { down, up: request.into_inner() }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

struct Blobs(Stored);

impl Blobs {
    fn find(&self, key: Option<v1::BlobKey>) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(&key.unwrap().key).cloned()
    }
}

#[tonic::async_trait]
impl BlobService for Blobs {
    type GetBlobStream = Pin<Box<dyn Stream<Item = Result<v1::GetBlobResponse, Status>> + Send>>;

    async fn stat_blob(&self, request: Request<v1::StatBlobRequest>) -> Result<Response<v1::StatBlobResponse>, Status> {
        let found = self.find(request.into_inner().blob);
        let received = found.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(Response::new(v1::StatBlobResponse { complete: found.is_some(), received }))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::PutBlobRequest>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let mut parts = request.into_inner();
        let (mut key, mut bytes) = (None, Vec::new());
        while let Some(part) = parts.message().await? {
            match part.part.unwrap() {
                Part::Start(start) => key = start.blob,
                Part::Chunk(chunk) => bytes.extend(chunk),
            }
        }
        let size = bytes.len() as u64;
        self.0.lock().unwrap().insert(key.unwrap().key, bytes);
        Ok(Response::new(v1::PutBlobResponse { size }))
    }

    async fn get_blob(&self, request: Request<v1::GetBlobRequest>) -> Result<Response<Self::GetBlobStream>, Status> {
        let v1::GetBlobRequest { blob, offset } = request.into_inner();
        let bytes = self.find(blob).ok_or_else(|| Status::not_found("there is no such blob"))?;
        let size = bytes.len() as u64;
        let rest = bytes[offset as usize..].to_vec();
        let chunks: Vec<_> =
            rest.chunks(1 << 20).map(|it| Ok(v1::GetBlobResponse { size, chunk: it.to_vec() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}
