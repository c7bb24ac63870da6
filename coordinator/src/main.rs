//! The program `coordinator`: parse, build, run, drain.

use anyhow::anyhow;
use clap::Parser;
use lora_rates_coordinator::{Coordinator, Options};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal;
use tracing_subscriber::EnvFilter;

/// Coordinates searches: keeps them, leases their work to workers and makes every step.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address on which clients and workers are served. There is no encryption: leave it on the loopback or in a
    /// trusted network
    #[arg(long, env = "LORA_RATES_LISTEN", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// Folder in which searches are kept; without it they are forgotten when the program ends
    #[arg(long, env = "LORA_RATES_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Leave searches that were running paused when the program starts, instead of going on with them
    #[arg(long, env = "LORA_RATES_PAUSE_ON_START")]
    pause_on_start: bool,
    /// What is logged, such as info or lora_rates_coordinator=debug
    #[arg(long, env = "LORA_RATES_LOG", default_value = "info", value_parser = |text: &str| EnvFilter::try_new(text))]
    log: EnvFilter,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { listen, data_dir, pause_on_start, log } = Args::parse();
    let (stderr, colours) = (std::io::stderr, std::io::stderr().is_terminal());
    tracing_subscriber::fmt().with_env_filter(log).with_writer(stderr).with_ansi(colours).init();
    let options = Options { data_dir, resume_on_start: !pause_on_start, ..Options::default() };
    match run(listen, options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(listen: SocketAddr, options: Options) -> anyhow::Result<()> {
    if options.data_dir.is_none() {
        tracing::warn!("no --data-dir: searches are forgotten when the program ends");
    }
    let shutdown = shutdown()?;
    let coordinator = Coordinator::open(options)?;
    let listener = TcpListener::bind(listen).await.map_err(|error| anyhow!("can't listen on {listen}: {error}"))?;
    tracing::info!(address = %listener.local_addr()?, "serving");
    coordinator.serve(listener, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Resolves on an interrupt or a request to terminate.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        drop(signal::ctrl_c().await);
        tracing::info!("stopping");
    })
}
