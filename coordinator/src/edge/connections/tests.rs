use super::{Connection, Patience, Peer, Slots};
use crate::metrics::Metrics;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tonic::transport::server::Connected;

fn connection(slots: &Slots) -> (Connection<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(1024);
    (slots.admit(near, Peer::default()).expect("there is room"), far)
}

#[tokio::test]
async fn there_are_never_more_than_allowed() {
    let metrics = Metrics::new();
    let slots = Slots::new(2, metrics.clone());
    let (first, _) = connection(&slots);
    let (second, _) = connection(&slots);
    assert!(slots.admit(duplex(1).0, Peer::default()).is_none());
    assert!(metrics.encode().contains("lora_rates_connections 2"));
    assert!(metrics.encode().contains("lora_rates_refusals_total{reason=\"full\"} 1"));
    drop(first);
    let (third, _) = connection(&slots);
    drop((second, third));
    assert!(metrics.encode().contains("lora_rates_connections 0"));
}

#[tokio::test]
async fn a_connection_that_never_came_about_counts_as_a_failed_handshake() {
    let metrics = Metrics::new();
    let slots = Slots::new(2, metrics.clone());
    let (established, _) = connection(&slots);
    established.connect_info();
    drop((established, connection(&slots)));
    assert!(metrics.encode().contains("lora_rates_refusals_total{reason=\"handshake\"} 1"));
}

/// Room for one connection that may be silent so many milliseconds.
fn patient(begin: u64, idle: u64) -> Slots {
    let patience = Patience { begin: Duration::from_millis(begin), idle: Duration::from_millis(idle) };
    Slots { patience, ..Slots::new(1, Metrics::new()) }
}

#[tokio::test]
async fn a_connection_must_begin_in_time() {
    let (mut near, mut far) = connection(&patient(200, 60_000));
    let start = Instant::now();
    // Drop by drop is no beginning.
    tokio::spawn(async move {
        while far.write_all(b"P").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let error = near.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn silence_ends_a_connection_and_a_byte_now_and_then_keeps_it() {
    let (mut near, mut far) = connection(&patient(50, 500));
    far.write_all(&[1; 24]).await.unwrap();
    near.read_exact(&mut [0; 24]).await.unwrap();
    let speaking = tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            far.write_all(b"!").await.unwrap();
        }
        (far, Instant::now()) // stays open
    });
    let mut bytes = Vec::new();
    let error = near.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!((bytes.len(), error.kind()), (5, ErrorKind::TimedOut));
    let (_, last) = speaking.await.unwrap();
    assert!(last.elapsed() >= Duration::from_millis(400), "{:?}", last.elapsed());
}
