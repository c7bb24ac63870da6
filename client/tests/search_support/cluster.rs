//! A coordinator and workers as processes of their own.

use super::{Bench, text};
use lora_rates_test_support::tiny_single;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take to be there.
const LIMIT: Duration = Duration::from_secs(60);

/// Processes that end with this.
pub struct Cluster {
    folder: TempDir,
    port: u16,
    coordinator: Option<Child>,
    workers: Vec<Child>,
}

impl Cluster {
    /// A coordinator, and so many workers on the CPU.
    pub fn start(workers: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let mut cluster = Self { folder, port, coordinator: None, workers: Vec::new() };
        cluster.start_coordinator();
        (0..workers).for_each(|_| cluster.add_worker());
        cluster
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts the coordinator, on the same address and folder as before, and waits until it listens.
    pub fn start_coordinator(&mut self) {
        let mut command = program("coordinator");
        command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--admin-listen", "none", "--data-dir"]);
        command.arg(self.folder.path().join("data"));
        let mut child = self.spawn(command, "coordinator");
        wait("the coordinator listens", || {
            assert!(child.try_wait().expect("its state").is_none(), "the coordinator ended");
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        self.coordinator = Some(child);
    }

    /// Ends the coordinator as a crash would.
    pub fn kill_coordinator(&mut self) {
        let mut child = self.coordinator.take().expect("a coordinator");
        child.kill().expect("kill");
        child.wait().expect("its end");
    }

    pub fn add_worker(&mut self) {
        let number = self.workers.len();
        let mut command = program("worker");
        let cache = self.folder.path().join(format!("cache-{number}"));
        command.args(["--coordinator", &self.url(), "--device", "cpu", "--name", &format!("worker-{number}")]);
        command.arg("--model-dir").arg(tiny_single().parent().expect("a folder")).arg("--cache-dir").arg(cache);
        let child = self.spawn(command, &format!("worker-{number}"));
        self.workers.push(child);
    }

    fn spawn(&self, mut command: Command, name: &str) -> Child {
        let log = File::create(self.folder.path().join(format!("{name}.log"))).expect("a log");
        let quiet = command.env("LORA_RATES_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null());
        quiet.stderr(log).spawn().expect("the program starts")
    }

    /// What a process logged.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// `lora-rates search` by this coordinator; the model is a path below the workers' folder.
    pub fn search(&self, bench: &Bench, arguments: &[&str]) -> Command {
        let url = self.url();
        let model = tiny_single().file_name().map(|name| text(Path::new(name))).expect("a name");
        let mut all = vec!["--coordinator", &url];
        all.extend(arguments);
        if !arguments.contains(&"--pretrained_model_name_or_path") {
            all.extend(["--pretrained_model_name_or_path", &model]);
        }
        bench.command("search", &all, &["--device"])
    }

    /// Another command about this coordinator.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = super::lora_rates();
        command.args(arguments).args(["--coordinator", &self.url()]);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain(&mut self.coordinator) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let names = (0..self.workers.len()).map(|number| format!("worker-{number}"));
            for name in std::iter::once("coordinator".to_owned()).chain(names) {
                eprintln!("--- {name}\n{}", self.log(&name));
            }
        }
    }
}

/// Waits until it is so.
#[track_caller]
pub fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program of another package, beside this one; built if it isn't there.
fn program(name: &str) -> Command {
    static BUILD: Once = Once::new();
    let folder: PathBuf = Path::new(env!("CARGO_BIN_EXE_lora-rates")).parent().expect("a folder").to_owned();
    let path = |name: &str| folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    BUILD.call_once(|| {
        if ["coordinator", "worker"].iter().all(|name| path(name).exists()) {
            return;
        }
        let packages = ["-p", "lora-rates-coordinator", "-p", "lora-rates-worker"];
        let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .arg("build")
            .args(packages)
            .arg("--bins")
            .status()
            .expect("cargo");
        assert!(status.success(), "coordinator and worker can't be built");
    });
    Command::new(path(name))
}
