//! tonic over turmoil's network.

use hyper_util::rt::TokioIo;
use lora_rates_proto::connect::plain;
use lora_rates_tests::connecting::Connect;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Uri};
use turmoil::net::{TcpListener, TcpStream};

/// Where the coordinator listens.
const PORT: u16 = 50051;
/// As real connections have them.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// Connects to the host `coordinator`.
pub(crate) fn connect() -> Connect {
    Arc::new(|| {
        Box::pin(async {
            let endpoint = Endpoint::from_static("http://coordinator:50051")
                .connect_timeout(Duration::from_secs(10))
                .http2_keep_alive_interval(KEEPALIVE.0)
                .keep_alive_timeout(KEEPALIVE.1)
                .keep_alive_while_idle(true);
            let connector = tower::service_fn(|_: Uri| async {
                let stream = TcpStream::connect(("coordinator", PORT)).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            });
            let channel = endpoint.connect_with_connector(connector).await.map_err(|error| error.to_string())?;
            Ok(plain(channel))
        })
    })
}

/// All connections that come in at the host it is called on.
pub(crate) async fn listen() -> io::Result<ReceiverStream<io::Result<TcpStream>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (accepted, incoming) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.map(|(stream, _)| stream);
            if accepted.send(stream).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(incoming))
}
