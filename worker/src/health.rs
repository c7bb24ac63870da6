//! `grpc.health.v1` and reflection, for those who watch over processes.

use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::FILE_DESCRIPTOR_SET;
use tonic_reflection::server::Builder;

/// Serves until the program ends; the whole program is SERVING while `joined`.
///
/// # Errors
/// The address can't be listened on.
pub(crate) async fn serve(
    address: SocketAddr,
    mut joined: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!("health is told on {}", listener.local_addr()?);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
    let server = Server::builder()
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming(TcpListenerStream::new(listener));
    reporter.set_service_status("", ServingStatus::NotServing).await;
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!("health is told no more: {error}");
        }
    });
    tokio::spawn(async move {
        loop {
            let status = if *joined.borrow_and_update() { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            if joined.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
