//! The program `coordinator`: parse, build, run, drain.

mod args;

use anyhow::{Context, anyhow};
use args::Args;
use clap::Parser;
use lora_rates_coordinator::edge::{Monitor, admin};
use lora_rates_coordinator::{Coordinator, Options};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal;

#[tokio::main]
async fn main() -> ExitCode {
    let Args { listen, admin_listen, log, options } = Args::parse();
    let (stderr, colours) = (std::io::stderr, std::io::stderr().is_terminal());
    tracing_subscriber::fmt().with_env_filter(log).with_writer(stderr).with_ansi(colours).init();
    match run(listen, admin_listen.0, options.into()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(listen: SocketAddr, admin_listen: Option<SocketAddr>, options: Options) -> anyhow::Result<()> {
    options.security.check(listen)?;
    if options.data_dir.is_none() {
        tracing::warn!("no --data-dir: searches are forgotten when the program ends");
    }
    let shutdown = shutdown()?;
    let listener = bind("--listen", listen).await?;
    let monitor = Monitor::default();
    if let Some(address) = admin_listen {
        let listener = bind("--admin-listen", address).await?;
        tracing::info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
        let serving = admin::serve(listener, monitor.clone());
        tokio::spawn(async { serving.await.inspect_err(|error| tracing::error!(%error, "the admin port failed")) });
    }
    // Reading a large store takes its time, in which probes are answered already.
    let open = tokio::task::spawn_blocking(|| Coordinator::open_watched(options, monitor));
    let coordinator = open.await.context("the store's reader failed")??;
    tracing::info!(address = %listener.local_addr()?, "serving");
    coordinator.serve(listener, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow!("{option}: can't listen on {address}: {error}"))
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
