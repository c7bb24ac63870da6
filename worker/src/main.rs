//! The worker program: one device that works for a coordinator.

use clap::Parser;
use lora_rates_worker::device::{self, Device};
use lora_rates_worker::session::{self, Options};
use std::process::ExitCode;
use tonic::transport::Endpoint;
use tracing_subscriber::EnvFilter;

/// Computes microbatches on one device for a coordinator.
///
/// Start one worker per GPU. It joins the coordinator, loads the model that a search names, and leaves when the
/// coordinator ends or on SIGINT or SIGTERM.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the coordinator listens
    #[arg(long, env = "LORA_RATES_COORDINATOR", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    coordinator: Endpoint,

    /// Where to compute: cpu, cuda or cuda:K [default: the first GPU, else the CPU]
    #[arg(long, env = "LORA_RATES_DEVICE")]
    device: Option<Device>,

    /// Name in the coordinator's lists [default: the host's name and the device]
    #[arg(long, env = "LORA_RATES_WORKER_NAME")]
    name: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("LORA_RATES_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let device = args.device.unwrap_or_else(device::best);
    let name = args.name.unwrap_or_else(|| format!("{} {device}", host()));
    tracing::info!("worker {name} on {device}, coordinator {}", args.coordinator.uri());
    let work = async {
        let channel = args.coordinator.tcp_nodelay(true).connect().await.map_err(|e| e.to_string())?;
        session::run(channel, Options { name, device }).await.map_err(|e| e.to_string())
    };
    tokio::select! {
        ended = work => match ended {
            Ok(()) => tracing::info!("the coordinator has ended the stream"),
            Err(error) => {
                tracing::error!("{error}");
                return ExitCode::FAILURE;
            }
        },
        () = signal() => tracing::info!("leaving"),
    }
    ExitCode::SUCCESS
}

/// SIGINT or SIGTERM.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn host() -> String {
    std::fs::read_to_string("/etc/hostname").map_or_else(|_| "worker".to_owned(), |name| name.trim().to_owned())
}
