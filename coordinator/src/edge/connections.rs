//! Connections: how many there may be, and how long one may say nothing.

use super::seldom::Seldom;
use crate::metrics::{Metrics, Refusal};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

/// Bytes after which it has begun: HTTP/2's preface is so long, and a TLS hello longer.
const BEGUN: usize = 24;
/// Pause after a connection could not be accepted, for want of file handles for example.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the other side may say nothing.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// How long a connection may take to begin.
    begin: Duration,
    /// After so long without a single byte it is closed. HTTP/2's probes are answered more often.
    idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { begin: Duration::from_secs(10), idle: Duration::from_secs(60) }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Where; unknown where connections are not TCP.
    pub(super) address: Option<SocketAddr>,
}

/// TCP connections as they come.
pub(crate) fn tcp(listener: TcpListener) -> impl Stream<Item = io::Result<(TcpStream, Peer)>> {
    TcpListenerStream::new(listener).map(|result| {
        let stream = result?;
        // Small messages must not wait for others. If it can't be set, they are slower.
        let _ = stream.set_nodelay(true);
        let address = stream.peer_addr().ok();
        Ok((stream, Peer { address }))
    })
}

/// Room for so many connections; cheap to clone.
#[derive(Clone)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    metrics: Metrics,
    log: Arc<Seldom>,
    patience: Patience,
}

impl Slots {
    pub(super) fn new(count: u32, metrics: Metrics) -> Self {
        let free = Arc::new(Semaphore::new((count as usize).min(Semaphore::MAX_PERMITS)));
        Self { free, metrics, log: Arc::default(), patience: Patience::default() }
    }

    /// Those for which there is room; others are closed at once.
    pub(super) fn admitted<IO, S>(&self, incoming: S) -> impl Stream<Item = Connection<IO>> + use<IO, S>
    where
        S: Stream<Item = io::Result<(IO, Peer)>>,
    {
        let slots = self.clone();
        let admit = move |result| {
            let slots = slots.clone();
            async move {
                match result {
                    Ok((io, peer)) => slots.admit(io, peer),
                    Err(error) => slots.failed(&error).await,
                }
            }
        };
        incoming.then(admit).filter_map(|connection| connection)
    }

    /// A connection failed before it was one. Whoever asks at once for the next might get the same for ever.
    async fn failed<IO>(&self, error: &io::Error) -> Option<Connection<IO>> {
        if let Some(unsaid) = self.log.pass() {
            tracing::warn!(%error, unsaid, "a connection could not be accepted");
        }
        sleep(PAUSE).await;
        None
    }

    /// Takes a connection in, if there is room.
    fn admit<IO>(&self, io: IO, peer: Peer) -> Option<Connection<IO>> {
        let Ok(slot) = self.free.clone().try_acquire_owned() else {
            self.metrics.refused(Refusal::Full);
            if let Some(unsaid) = self.log.pass() {
                let address = peer.address;
                tracing::warn!(?address, unsaid, "a connection was closed: there are --max-connections already");
            }
            return None;
        };
        self.metrics.connected();
        let accepted = Instant::now();
        let deadline = Box::pin(sleep_until(accepted + self.patience.begin));
        let metrics = self.metrics.clone();
        let established = AtomicBool::new(false);
        let (heard, idle) = (accepted, self.patience.idle);
        Some(Connection { io, peer, received: 0, heard, idle, deadline, metrics, established, _slot: slot })
    }
}

/// A connection that has a slot until it is dropped, and fails when the other side says nothing for too long.
pub(super) struct Connection<IO> {
    io: IO,
    peer: Peer,
    /// Bytes, up to [`BEGUN`].
    received: usize,
    /// When there were bytes last.
    heard: Instant,
    idle: Duration,
    /// When to look whether it is time to give up.
    deadline: Pin<Box<Sleep>>,
    metrics: Metrics,
    /// Whether TLS, where there is any, is through.
    established: AtomicBool,
    _slot: OwnedSemaphorePermit,
}

impl<IO> Connection<IO> {
    /// Ready when the other side has been silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.deadline.as_mut().poll(context));
            // Moved only here: bytes come far more often than silence.
            let until = self.heard + self.idle;
            if self.received < BEGUN || until <= Instant::now() {
                return Poll::Ready(());
            }
            self.deadline.as_mut().reset(until);
        }
    }
}

impl<IO> Connected for Connection<IO> {
    type ConnectInfo = Peer;

    /// Asked for once, when all handshakes are done.
    fn connect_info(&self) -> Peer {
        self.established.store(true, Ordering::Relaxed);
        self.peer
    }
}

impl<IO> Drop for Connection<IO> {
    fn drop(&mut self) {
        self.metrics.disconnected();
        if !self.established.load(Ordering::Relaxed) {
            self.metrics.refused(Refusal::Handshake);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = pin!(&mut self.io).poll_read(context, buffer) {
            self.received = (self.received + buffer.filled().len() - before).min(BEGUN);
            self.heard = Instant::now();
            return Poll::Ready(result);
        }
        self.poll_silence(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
