//! Starts the program.

use lora_rates_proto::connect::{self, Access};
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// After which a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LORA_RATES_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A coordinator that runs; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Where clients and workers are served.
    pub(crate) address: SocketAddr,
    /// Where probes are answered, unless that is turned off.
    pub(crate) admin: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts one on free ports, and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        Self::start_at(&[&ports, arguments].concat())
    }

    /// The same where the arguments say.
    pub(crate) fn start_at(arguments: &[&str]) -> Self {
        let (log, address) = (Arc::new(Mutex::new(String::new())), ([0, 0, 0, 0], 0).into());
        // From here on it is killed, whatever happens.
        let mut process = Self { child: command(arguments).spawn().unwrap(), address, admin: None, log };
        let stderr = process.child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        let log = Arc::clone(&process.log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock().unwrap().extend([line.as_str(), "\n"]);
                let _ = sender.send(line); // nobody waits any more
            }
        });
        while process.address.port() == 0 {
            let line = lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it does not serve:\n{}", process.log()));
            let address = line.rsplit_once("address=").map(|(_, address)| address.parse().unwrap());
            match address {
                Some(address) if line.contains("/healthz") => process.admin = Some(address),
                Some(address) if line.contains("serving") => process.address = address,
                _ => {}
            }
        }
        while process.admin.is_some() && process.page("/readyz").0 != 200 {
            thread::sleep(Duration::from_millis(10));
        }
        process
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of an unprotected one.
    pub(crate) async fn client(&self) -> SearchServiceClient<connect::Connection> {
        SearchServiceClient::new(connect::connect(&self.url(), &Access::default()).await.unwrap())
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).unwrap().connect().await.unwrap()
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until something has been logged.
    pub(crate) fn wait_for_log(&self, part: &str) {
        let start = Instant::now();
        while !self.log().contains(part) {
            assert!(start.elapsed() < PATIENCE, "no {part:?} in\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Status and body of a page of the admin port.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        page(self.admin.expect("there is an admin port"), path)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end, which must come by itself: exit code and what it said.
pub(crate) fn fails(arguments: &[&str]) -> (i32, String) {
    let mut child = command(arguments).spawn().unwrap();
    let mut said = String::new();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it runs, with {arguments:?}");
        }
        thread::sleep(Duration::from_millis(10));
    };
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "", "errors belong on stderr");
    (status.code().expect("it ends by itself"), said)
}

/// Fetches a page over plain HTTP: status and body.
pub(crate) fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
