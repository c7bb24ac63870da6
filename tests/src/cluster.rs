//! A real cluster on this machine: one coordinator process, worker processes, and a client to look at them with. All of it
//! is gone when the value is dropped.

mod client;
mod http;
mod ports;
mod program;
mod watch;

pub use client::Client;
pub use http::{get, metric};
pub use ports::free_port;
pub use program::{Program, binary, signal};
pub use watch::Watch;

use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// After which a test gives up waiting for one thing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A coordinator and its workers.
pub struct Cluster {
    /// Where the coordinator is: `http://127.0.0.1:PORT`.
    pub url: String,
    /// Where it says how it is: `127.0.0.1:PORT`.
    pub admin: String,
    coordinator: Option<Program>,
    arguments: Vec<String>,
    data_dir: PathBuf,
    runs: u32,
    workers: u32,
    // Last: the programs end before their folder does.
    folder: TempDir,
}

impl Cluster {
    /// Starts a coordinator and waits until it serves.
    pub async fn start() -> Self {
        Self::with(&[], None).await
    }

    /// The same with more arguments, and with its data elsewhere.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn with(arguments: &[&str], data_dir: Option<&Path>) -> Self {
        Self::on("127.0.0.1", arguments, data_dir).await
    }

    /// The same on another address of this machine.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn on(host: &str, arguments: &[&str], data_dir: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data_dir = data_dir.map_or_else(|| folder.path().join("data"), Path::to_owned);
        let [port, admin] = [(); 2].map(|()| free_port());
        let mut cluster = Self {
            url: format!("http://{host}:{port}"),
            admin: format!("127.0.0.1:{admin}"),
            coordinator: None,
            arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
            data_dir,
            runs: 0,
            workers: 0,
            folder,
        };
        cluster.start_coordinator().await;
        cluster
    }

    /// Starts the coordinator, on the same data and the same port as before, and waits until it serves.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_coordinator(&mut self) {
        self.runs += 1;
        let listen = self.url.trim_start_matches("http://").to_owned();
        let mut arguments = vec!["--listen".to_owned(), listen, "--admin-listen".to_owned(), self.admin.clone()];
        arguments.extend(["--data-dir".to_owned(), self.data_dir.display().to_string()]);
        arguments.extend(self.arguments.iter().cloned());
        let log = self.folder.path().join("coordinator.log");
        let mut coordinator = Program::start("coordinator", &arguments, &log);
        let since = Instant::now();
        while get(&self.admin, "/readyz").await.is_none_or(|(status, _)| status != 200) {
            assert!(coordinator.is_running(), "the coordinator has ended");
            assert!(since.elapsed() < PATIENCE, "the coordinator does not get ready");
            sleep(Duration::from_millis(20)).await;
        }
        self.coordinator = Some(coordinator);
    }

    /// The coordinator.
    ///
    /// # Panics
    /// When it was killed.
    pub fn coordinator(&mut self) -> &mut Program {
        self.coordinator.as_mut().expect("a coordinator that runs")
    }

    /// Ends the coordinator without warning.
    pub async fn kill_coordinator(&mut self) {
        if let Some(mut coordinator) = self.coordinator.take() {
            coordinator.kill().await;
        }
    }

    /// Starts a synthetic worker.
    pub fn worker(&mut self, arguments: &[&str]) -> Program {
        self.start_worker(None, arguments)
    }

    /// Starts a synthetic worker in a network namespace.
    pub fn worker_in(&mut self, namespace: &str, arguments: &[&str]) -> Program {
        self.start_worker(Some(namespace), arguments)
    }

    /// Starts a real worker on the CPU, with the models of a folder.
    pub fn real_worker(&mut self, models: &Path) -> Program {
        self.workers += 1;
        let name = format!("worker-{}", self.workers);
        let cache = self.folder.path().join(format!("{name}-cache"));
        let all = [
            ["--coordinator", &self.url],
            ["--name", &name],
            ["--device", "cpu"],
            ["--log", "lora_rates_worker=debug"],
            ["--model-dir", &models.display().to_string()],
            ["--cache-dir", &cache.display().to_string()],
        ];
        let all: Vec<String> = all.into_iter().flatten().map(str::to_owned).collect();
        Program::start("worker", &all, &self.folder.path().join(format!("{name}.log")))
    }

    fn start_worker(&mut self, namespace: Option<&str>, arguments: &[&str]) -> Program {
        self.workers += 1;
        let name = format!("worker-{}", self.workers);
        let mut all = ["--coordinator", &self.url, "--name", &name].map(str::to_owned).to_vec();
        all.extend(arguments.iter().map(|&it| it.to_owned()));
        Program::start_in(namespace, "synthetic-worker", &all, &self.folder.path().join(format!("{name}.log")))
    }

    /// A path in the cluster's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client of its own connection.
    pub async fn client(&self) -> Client {
        Client::connect(&self.url).await
    }

    /// A number of the coordinator's metrics, summed over its labels that contain all of `labels`.
    ///
    /// # Panics
    /// When the coordinator does not answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, text) = get(&self.admin, "/metrics").await.expect("an admin port that answers");
        assert_eq!(status, 200, "{text}");
        metric(&text, name, labels)
    }
}
