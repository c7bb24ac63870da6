//! Who gets in, and who does not.

use crate::authority::{Authority, Issued};
use crate::process::{PATIENCE, Process, text};
use lora_rates_proto::connect::{self, Access, Connection};
use lora_rates_proto::v1::blob_service_client::BlobServiceClient;
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use lora_rates_proto::v1::worker_service_client::WorkerServiceClient;
use lora_rates_proto::v1::{
    BlobKey, BlobKind, BlobStart, GetSearchRequest, JoinRequest, PutBlobRequest, put_blob_request::Part,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tonic::{Code, Status};

const CLIENT: &str = "client-token-0123456789";
const WORKER: &str = "worker-token-0123456789";

/// A folder with a token file for the coordinator, one for each caller, and two authorities.
struct Setup {
    folder: TempDir,
    ours: Authority,
    theirs: Authority,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("tokens", &format!("# who may\nclient anna {CLIENT}\nworker gpu-1 {WORKER}\n"));
        write("client", CLIENT);
        write("worker", &format!("{WORKER}\n"));
        write("wrong", "nobody-has-this-token");
        let authority = |name| Authority::new(folder.path(), name);
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        Self { folder, ours, theirs }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A coordinator of this certificate, with these of `ca` and `tokens` asked for.
    fn start(&self, server: &Issued, asked: &[&str]) -> Process {
        let (ca, tokens) = (self.ours.file(), self.file("tokens"));
        let mut arguments = vec!["--tls-cert", text(&server.cert), "--tls-key", text(&server.key)];
        if asked.contains(&"ca") {
            arguments.extend(["--tls-client-ca", text(&ca)]);
        }
        if asked.contains(&"tokens") {
            arguments.extend(["--token-file", text(&tokens)]);
        }
        Process::start(&arguments)
    }

    /// What a caller has: trust in our authority, and perhaps a certificate and a token.
    fn access(&self, own: Option<Issued>, token: Option<&str>) -> Access {
        let (tls_cert, tls_key) = own.map(|issued| (issued.cert, issued.key)).unzip();
        Access { tls_ca: Some(self.ours.file()), tls_cert, tls_key, token_file: token.map(|name| self.file(name)) }
    }
}

/// Whether a connection comes about.
async fn connection(process: &Process, access: &Access) -> Result<Connection, connect::Error> {
    let url = format!("https://localhost:{}", process.address.port());
    connect::connect(&url, access).await
}

/// What each service says to a harmless call: for callers that it lets through, an error of its own.
async fn answers(process: &Process, access: &Access) -> [Code; 4] {
    let statuses = calls(connection(process, access).await.unwrap()).await;
    statuses.map(|status| status.code())
}

/// As client, as worker, putting a file, putting an encoding.
async fn calls(connection: Connection) -> [Status; 4] {
    let request = GetSearchRequest { search_id: "0".repeat(32) };
    let client = SearchServiceClient::new(connection.clone()).get_search(request).await.map(drop).unwrap_err();
    let hello = tokio_stream::once(JoinRequest { message: None });
    let worker = match WorkerServiceClient::new(connection.clone()).join(hello).await {
        Ok(response) => response.into_inner().message().await.map(drop).unwrap_err(),
        Err(status) => status,
    };
    [client, worker, put(connection.clone(), BlobKind::File).await, put(connection, BlobKind::Encoding).await]
}

/// Puts a blob that is larger than any may be.
async fn put(connection: Connection, kind: BlobKind) -> Status {
    let blob = Some(BlobKey { kind: kind.into(), key: "0".repeat(64) });
    let start = PutBlobRequest { part: Some(Part::Start(BlobStart { blob, size: u64::MAX, offset: 0 })) };
    BlobServiceClient::new(connection).put_blob(tokio_stream::once(start)).await.map(drop).unwrap_err()
}

/// All let through: there is no such search, the first message must be hello, and no blob may be so large.
const ALL: [Code; 4] = [Code::NotFound, Code::InvalidArgument, Code::ResourceExhausted, Code::ResourceExhausted];
const AS_CLIENT: [Code; 4] = [Code::NotFound, Code::PermissionDenied, Code::ResourceExhausted, Code::PermissionDenied];
const AS_WORKER: [Code; 4] =
    [Code::PermissionDenied, Code::InvalidArgument, Code::ResourceExhausted, Code::ResourceExhausted];
const UNKNOWN: [Code; 4] = [Code::Unauthenticated; 4];

#[tokio::test]
async fn tls_alone_asks_nobody_who_they_are() {
    let setup = Setup::new();
    let process = setup.start(&setup.ours.server("localhost"), &[]);
    assert_eq!(answers(&process, &setup.access(None, None)).await, ALL);
}

#[tokio::test]
async fn callers_refuse_a_coordinator_that_they_have_no_reason_to_trust() {
    let setup = Setup::new();
    for server in [
        setup.theirs.server("localhost"),
        setup.ours.server("elsewhere.example"),
        setup.ours.expired_server("localhost"),
    ] {
        let process = setup.start(&server, &["tokens"]);
        let error = connection(&process, &setup.access(None, Some("client"))).await.map(drop).unwrap_err();
        assert!(matches!(error, connect::Error::Connect { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_opens_the_services_of_its_role() {
    let setup = Setup::new();
    let process = setup.start(&setup.ours.server("localhost"), &["ca"]);
    let member = |unit| setup.access(Some(setup.ours.member(unit)), None);
    assert_eq!(answers(&process, &member("client")).await, AS_CLIENT);
    assert_eq!(answers(&process, &member("worker")).await, AS_WORKER);
    assert_eq!(answers(&process, &member("visitor")).await, UNKNOWN);
}

#[tokio::test]
async fn without_a_good_certificate_nobody_gets_as_far_as_a_service() {
    let setup = Setup::new();
    let process = setup.start(&setup.ours.server("localhost"), &["ca"]);
    let theirs = setup.theirs.member("client");
    let cases = [None, Some(theirs), Some(setup.ours.expired_member("client"))];
    for own in cases {
        match connection(&process, &setup.access(own, None)).await {
            Err(error) => nothing_revealed(&setup, &error.to_string()),
            // With TLS 1.3 the client hears of it at its first call only.
            Ok(connection) => {
                for status in calls(connection).await {
                    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{status}");
                    nothing_revealed(&setup, &format!("{status:?}"));
                }
            }
        }
    }
    let (_, metrics) = process.page("/metrics");
    let refused = metrics.lines().find(|line| line.contains("reason=\"handshake\"")).unwrap();
    assert!(!refused.ends_with(" 0"), "{refused}");
}

#[tokio::test]
async fn a_token_opens_the_services_of_its_role() {
    let setup = Setup::new();
    let process = setup.start(&setup.ours.server("localhost"), &["tokens"]);
    assert_eq!(answers(&process, &setup.access(None, Some("client"))).await, AS_CLIENT);
    assert_eq!(answers(&process, &setup.access(None, Some("worker"))).await, AS_WORKER);
}

#[tokio::test]
async fn without_a_good_token_everyone_hears_the_same() {
    let setup = Setup::new();
    let process = setup.start(&setup.ours.server("localhost"), &["tokens"]);
    let mut heard = Vec::new();
    for token in [None, Some("wrong")] {
        heard.extend(calls(connection(&process, &setup.access(None, token)).await.unwrap()).await);
    }
    for status in heard {
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "valid credentials are needed"));
        assert!(status.details().is_empty());
        nothing_revealed(&setup, &format!("{status:?}"));
    }
    process.wait_for_log("a caller was refused");
    let log = process.log();
    for secret in [CLIENT, WORKER, "nobody-has-this-token"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(process.page("/metrics").1.contains("lora_rates_refusals_total{reason=\"unauthenticated\"} 8"));
}

#[tokio::test]
async fn where_both_are_asked_for_both_are_needed_and_must_agree() {
    let setup = Setup::new();
    let process = setup.start(&setup.ours.server("localhost"), &["ca", "tokens"]);
    let access = |unit, token| setup.access(Some(setup.ours.member(unit)), token);
    assert_eq!(answers(&process, &access("client", Some("client"))).await, AS_CLIENT);
    assert_eq!(answers(&process, &access("worker", Some("worker"))).await, AS_WORKER);
    for wrong in [
        access("client", Some("worker")),
        access("worker", Some("client")),
        access("client", None),
        access("client", Some("wrong")),
        access("visitor", Some("client")),
    ] {
        assert_eq!(answers(&process, &wrong).await, UNKNOWN);
    }
}

#[tokio::test]
async fn tokens_work_without_encryption_on_the_loopback() {
    let setup = Setup::new();
    let process = Process::start(&["--token-file", text(&setup.file("tokens"))]);
    let access = |name| Access { token_file: Some(setup.file(name)), ..Access::default() };
    let connection = connect::connect(&process.url(), &access("client")).await.unwrap();
    assert_eq!(calls(connection).await[0].code(), Code::NotFound);
    let connection = connect::connect(&process.url(), &access("wrong")).await.unwrap();
    assert_eq!(calls(connection).await[0].code(), Code::Unauthenticated);
}

#[tokio::test]
async fn plain_http_at_a_port_with_tls_is_refused() {
    let setup = Setup::new();
    let process = setup.start(&setup.ours.server("localhost"), &["tokens"]);
    // A gRPC client without TLS.
    let refused = match connect::connect(&process.url(), &Access::default()).await {
        Ok(connection) => calls(connection).await[0].code(),
        Err(_) => Code::Unavailable,
    };
    assert!(matches!(refused, Code::Unavailable | Code::Unknown | Code::Internal), "{refused:?}");
    // A browser.
    let mut stream = TcpStream::connect(process.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // closed or reset
    assert!(answer.len() < 16, "no more than an alert: {answer:?}");
    // And those who do it right are served all the same.
    assert_eq!(answers(&process, &setup.access(None, Some("client"))).await, AS_CLIENT);
}

#[tokio::test]
async fn https_at_a_port_without_tls_says_that_it_can_not_connect() {
    let setup = Setup::new();
    let process = Process::start(&[]);
    let error = connection(&process, &setup.access(None, None)).await.map(drop).unwrap_err();
    assert!(error.to_string().starts_with("can't connect to https://localhost"), "{error}");
}

#[tokio::test]
async fn callers_hear_what_is_wrong_with_their_own_options() {
    let setup = Setup::new();
    std::fs::write(setup.file("two"), "client anna 0123456789abcdef").unwrap();
    let ca = || Access { tls_ca: Some(setup.ours.file()), ..Access::default() };
    let token = |name| Access { token_file: Some(setup.file(name)), ..Access::default() };
    let half = Access { tls_cert: Some(setup.ours.member("client").cert), ..Access::default() };
    let no_pem = Access { tls_ca: Some(setup.file("tokens")), ..Access::default() };
    let cases = [
        ("localhost:50051", Access::default(), "give one like http://host:50051"),
        ("ftp://localhost", Access::default(), "is no address of a coordinator"),
        ("http://localhost:1", ca(), "--tls-ca needs an https:// address"),
        ("http://coordinator.example:1", token("client"), "--token-file needs an https:// address"),
        ("http://192.168.1.1:1", token("client"), "--token-file needs an https:// address"),
        ("https://localhost:1", half, "--tls-cert and --tls-key go together"),
        ("https://localhost:1", token("missing"), "can't read"),
        ("https://localhost:1", token("two"), "holds no token"),
        ("https://localhost:1", no_pem, "holds no certificate"),
        ("http://localhost:1", token("client"), "can't connect to http://localhost:1"),
        ("https://localhost:1", ca(), "refused"),
    ];
    for (url, access, part) in cases {
        let error = connect::connect(url, &access).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{url}: {error}");
        assert!(!error.contains("0123456789abcdef") && !error.contains(CLIENT), "{error}");
    }
}

#[tokio::test]
async fn callers_do_not_wait_for_ever_for_a_handshake() {
    let setup = Setup::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let connecting = tokio::time::timeout(PATIENCE, async { connect::connect(&url, &setup.access(None, None)).await });
    let error = connecting.await.expect("it gives up").map(drop).unwrap_err();
    assert!(matches!(error, connect::Error::Connect { .. }), "{error}");
}

/// Nothing in it that only the coordinator knows.
#[track_caller]
fn nothing_revealed(setup: &Setup, text: &str) {
    let folder: &Path = setup.folder.path();
    for part in [folder.to_str().unwrap(), "anna", "gpu-1", CLIENT, WORKER, "organizational", "role"] {
        assert!(!text.contains(part), "{part:?} in {text}");
    }
}
