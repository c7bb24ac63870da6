//! Programs of this workspace as processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use tokio::process::{Child, Command};

/// Lines of a program's log that are shown when its test fails.
const SHOWN: usize = 30;

/// A process that is killed when it is dropped.
pub struct Program {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts a program of this workspace; what it says is appended to `log`.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(name: &str, arguments: &[String], log: &Path) -> Self {
        Self::start_in(None, name, arguments, log)
    }

    /// The same in a network namespace, which takes root.
    pub(super) fn start_in(namespace: Option<&str>, name: &str, arguments: &[String], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = match namespace {
            None => Command::new(binary(name)),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary(name));
                command
            }
        };
        command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone().expect("a log file")).stderr(file);
        // An option left over in the environment would change what is tested.
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("LORA_RATES_")) {
            command.env_remove(variable);
        }
        let child = command.kill_on_drop(true).spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), log: log.to_owned(), child }
    }

    /// Its number, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal, such as `STOP`, `CONT` or `TERM`.
    ///
    /// # Panics
    /// When it has ended.
    pub async fn signal(&self, name: &str) {
        signal(self.id().expect("a program that runs"), name).await;
    }

    /// Ends it without warning.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a program that can be killed");
    }

    /// Waits for its end; whether that was a success.
    pub async fn ended(&mut self) -> bool {
        self.child.wait().await.expect("a program that can be waited for").success()
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("-- {} ({}):", self.name, self.log.display());
            lines[lines.len().saturating_sub(SHOWN)..].iter().for_each(|line| eprintln!("   {line}"));
        }
    }
}

/// Sends a signal to a process.
///
/// # Panics
/// When there is no such process.
pub async fn signal(process: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().await;
    assert!(status.expect("the program kill").success(), "process {process} can't be sent {name}");
}

/// The path of a program of this workspace, which lies beside the test that runs. It is built if it is not there.
///
/// # Panics
/// When it can't be built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let test = std::env::current_exe().expect("a test with a path");
    let profile = test.ancestors().find(|folder| folder.file_name().is_some_and(|it| it == "deps"));
    let folder = profile.and_then(Path::parent).or_else(|| test.parent()).expect("a folder of programs");
    let path = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let building = BUILDING.lock().expect("no build has panicked");
    if !path.is_file() {
        let package = match name {
            "synthetic-worker" => "lora-rates-tests",
            "lora-rates" => "lora-rates-client",
            "worker" => "lora-rates-worker",
            _ => "lora-rates-coordinator",
        };
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--package", package, "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        if let Some(target) = folder.parent() {
            cargo.arg("--target-dir").arg(target);
        }
        assert!(cargo.status().expect("cargo").success(), "{name} can't be built");
    }
    drop(building);
    path
}
