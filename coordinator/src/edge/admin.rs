//! The operators' door: plain HTTP, for probes and Prometheus. It tells numbers and identifiers of searches, and changes
//! nothing.

use super::connections::{Connection, Slots, tcp};
use super::{Monitor, Phase};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::{Stream, StreamExt};

/// Connections at once: probes and scrapers are few.
const CONNECTIONS: u32 = 64;
/// Prometheus' text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/healthz` (the process lives), `/readyz` (it serves; else 503) and `/metrics`, for ever.
///
/// # Errors
/// When the network fails.
pub async fn serve(listener: TcpListener, monitor: Monitor) -> io::Result<()> {
    // Its connections are not those that the metrics count.
    let slots = Slots::new(CONNECTIONS, Default::default());
    let address = listener.local_addr()?;
    let connections = Box::pin(slots.admitted(tcp(listener)));
    axum::serve(Limited { address, connections }, router(monitor)).await
}

fn router(monitor: Monitor) -> Router {
    let metrics = monitor.metrics.clone();
    let ready = move || {
        let phase = monitor.phase();
        let status = if phase == Phase::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        std::future::ready((status, phase.name()))
    };
    let metrics = move || std::future::ready(([(header::CONTENT_TYPE, OPENMETRICS)], metrics.encode()));
    Router::new().route("/healthz", get("alive")).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

/// Accepts no more connections than there are slots.
struct Limited {
    address: SocketAddr,
    connections: Pin<Box<dyn Stream<Item = Connection<TcpStream>> + Send>>,
}

impl Listener for Limited {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.next().await {
            Some(connection) => (connection, self.address),
            None => std::future::pending().await, // a listener has no end
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
