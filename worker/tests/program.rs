//! The program `worker`: its options, its signals, its health.

#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

/// After which a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    // An option left over in the environment would change what is tested.
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("LORA_RATES_")) {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A worker that runs, and the lines that it logs.
struct Worker {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    folder: TempDir,
}

impl Worker {
    /// Starts one with a model folder and a cache of its own.
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (models, cache) = (folder.path().join("models"), folder.path().join("cache"));
        std::fs::create_dir(&models).unwrap();
        let mut command = command(arguments);
        command.arg("--model-dir").arg(models).arg("--cache-dir").arg(cache).args(["--device", "cpu"]);
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, seen: Vec::new(), folder }
    }

    /// Waits for a line that contains this.
    fn says(&mut self, words: &str) -> String {
        let begin = Instant::now();
        while let Some(left) = PATIENCE.checked_sub(begin.elapsed()) {
            let Ok(line) = self.lines.recv_timeout(left) else { break };
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
        panic!("it never said {words:?}, but {:#?}", self.seen);
    }

    fn signal(&self) {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end.
    fn code(&mut self) -> Option<i32> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end: {:#?}", self.seen);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn help_names_every_option_and_the_exit_status() {
    let (code, help, _) = output(&["--help"]);
    assert_eq!(code, Some(0));
    for words in [
        "--coordinator",
        "--model-dir",
        "--cache-dir",
        "--device",
        "--name",
        "--health-listen",
        "--log",
        "--tls-ca",
        "--tls-cert",
        "--tls-key",
        "--token-file",
        "SIGTERM",
        "Exit status",
        "Example:",
    ] {
        assert!(help.contains(words), "no {words} in:\n{help}");
    }
}

#[test]
fn options_that_make_no_sense_end_with_2_and_name_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().to_str().unwrap();
    let missing = folder.path().join("missing");
    let missing = missing.to_str().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &str); 10] = [
        (&[], "--model-dir"),
        (&["--model-dir", models, "--device", "gpu"], "cpu, cuda or cuda:K"),
        (&["--model-dir", models, "--health-listen", "here"], "--health-listen"),
        (&["--model-dir", models, "--log", "a=b=c"], "--log"),
        (&["--model-dir", models, "--no-such-option"], "--no-such-option"),
        (&["--model-dir", missing, "--device", "cpu", "--cache-dir", models], "--model-dir"),
        (&["--model-dir", models, "--device", "cpu", "--cache-dir", file], "--cache-dir"),
        (&["--model-dir", models, "--device", "cpu", "--cache-dir", models, "--coordinator", "ftp://x"], "http://host"),
        (&["--model-dir", models, "--device", "cpu", "--cache-dir", models, "--token-file", missing], "can't read"),
        (
            &[
                "--model-dir",
                models,
                "--device",
                "cpu",
                "--cache-dir",
                models,
                "--coordinator",
                "https://x",
                "--tls-ca",
                file,
            ],
            "holds no certificate",
        ),
    ];
    for (arguments, words) in cases {
        let (code, stdout, stderr) = output(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words) && stdout.is_empty(), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().to_str().unwrap();
    let (code, _, stderr) = output(&["--model-dir", models, "--cache-dir", models, "--device", "cuda:99"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("--device cpu") || stderr.contains("there is no cuda:99"), "{stderr}");
}

#[test]
fn an_unreachable_coordinator_is_said_once_and_tried_until_sigterm() {
    let mut worker = Worker::start(&["--coordinator", &nobody()]);
    worker.says("trying again until it is back");
    // Long enough for several attempts.
    std::thread::sleep(Duration::from_secs(3));
    assert!(worker.child.try_wait().unwrap().is_none(), "it gave up");
    worker.signal();
    assert_eq!(worker.code(), Some(0));
    let rest: Vec<String> = worker.lines.iter().collect();
    assert!(!rest.iter().any(|line| line.contains("trying again")), "{rest:#?}");
    assert!(worker.folder.path().join("cache/networks").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_before_it_has_joined() {
    let mut worker = Worker::start(&["--coordinator", &nobody(), "--health-listen", "127.0.0.1:0"]);
    let line = worker.says("health is told on");
    let address = line.rsplit(' ').next().unwrap();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let status = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(status.into_inner().status(), ServingStatus::NotServing);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer else {
        panic!("{answer:?}")
    };
    assert!(service.iter().any(|it| it.name == "grpc.health.v1.Health"), "{service:?}");
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut worker = Worker::start(&["--coordinator", &nobody(), "--health-listen", &address]);
    assert_eq!(worker.code(), Some(1));
    worker.says("--health-listen");
}
