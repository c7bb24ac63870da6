//! No caller can take all there is.

use crate::process::{PATIENCE, Process};
use lora_rates_proto::v1::GetSearchRequest;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tonic::Code;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn connect(process: &Process) -> TcpStream {
    let stream = TcpStream::connect(process.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the coordinator speaks HTTP/2 with it, rather than closing it.
fn is_served(mut stream: &TcpStream) -> bool {
    let sent = stream.write_all(PREFACE);
    sent.is_ok() && matches!(stream.read(&mut [0; 9]), Ok(1..))
}

#[test]
fn more_connections_than_allowed_are_closed_at_once() {
    let process = Process::start(&["--max-connections", "2"]);
    let (first, second) = (connect(&process), connect(&process));
    assert!(is_served(&first) && is_served(&second));
    assert!(!is_served(&connect(&process)));
    process.wait_for_log("--max-connections");
    let (_, metrics) = process.page("/metrics");
    assert!(metrics.contains("lora_rates_connections 2"), "{metrics}");
    assert!(metrics.contains("lora_rates_refusals_total{reason=\"full\"} 1"), "{metrics}");
    // One goes, and there is room again.
    drop(first);
    let start = Instant::now();
    while !is_served(&connect(&process)) {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let process = Process::start(&[]);
    let mut stream = connect(&process);
    let start = Instant::now();
    let mut bytes = Vec::new();
    // Closed, politely or not, but not for the reason that the test is out of patience.
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let process = Process::start(&[]);
    let mut client = process.client().await;
    let mut request = tonic::Request::new(GetSearchRequest { search_id: "0".repeat(32) });
    request.metadata_mut().insert("x-large", "x".repeat(64 << 10).parse().unwrap());
    let status = client.get_search(request).await.unwrap_err();
    assert_ne!(status.code(), Code::NotFound, "{status}");
    // Others are served all the same.
    let request = GetSearchRequest { search_id: "0".repeat(32) };
    assert_eq!(process.client().await.get_search(request).await.unwrap_err().code(), Code::NotFound);
}
