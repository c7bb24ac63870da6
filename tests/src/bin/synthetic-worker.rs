//! The program `synthetic-worker`: a worker without a model, for tests over real processes.

use clap::Parser;
use lora_rates_tests::synthetic::{self, Fault, Options};
use std::path::PathBuf;
use std::time::Duration;

/// Works for a coordinator without a model: answers at once, or as badly as it is told.
#[derive(Debug, Parser)]
struct Args {
    /// Address of the coordinator
    #[arg(long)]
    coordinator: String,
    /// Name in the coordinator's lists
    #[arg(long, default_value = "synthetic")]
    name: String,
    /// Milliseconds that every answer takes
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// What it does wrong: none, nan, shapes, garbled, stale, duplicate, foreign, silent, hang, disconnect or fail
    #[arg(long, default_value = "none")]
    fault: Fault,
    /// In every how many answers
    #[arg(long, default_value_t = 1)]
    fault_every: u32,
    /// File to which a line is appended for all that it is told to do
    #[arg(long)]
    record: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let Args { coordinator, name, delay_ms, fault, fault_every, record } = Args::parse();
    let options = Options { name, delay: Duration::from_millis(delay_ms), fault, fault_every, record };
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let shutdown = async {
        terminate.recv().await;
    };
    #[cfg(not(unix))]
    let shutdown = async { drop(tokio::signal::ctrl_c().await) };
    synthetic::run(&coordinator, options, shutdown).await;
    Ok(())
}
