//! The options of the program.

use clap::{Parser, value_parser};
use lora_rates_coordinator::Options;
use lora_rates_coordinator::edge::Security;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Coordinates searches: keeps them, leases their work to workers and makes every step.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Address on which clients and workers are served. One that other machines can reach needs TLS, and client
    /// certificates or tokens
    #[arg(long, env = "LORA_RATES_LISTEN", default_value = "127.0.0.1:50051")]
    pub(crate) listen: SocketAddr,
    /// Address on which /healthz, /readyz and /metrics are served over plain HTTP, or none
    #[arg(long, env = "LORA_RATES_ADMIN_LISTEN", default_value = "127.0.0.1:50052")]
    pub(crate) admin_listen: AdminListen,
    /// What is logged, such as info or lora_rates_coordinator=debug
    #[arg(long, env = "LORA_RATES_LOG", default_value = "info", value_parser = |text: &str| EnvFilter::try_new(text))]
    pub(crate) log: EnvFilter,
    #[command(flatten)]
    pub(crate) options: OptionArgs,
}

/// What becomes [`Options`].
#[derive(Debug, clap::Args)]
pub(crate) struct OptionArgs {
    /// Folder in which searches are kept; without it they are forgotten when the program ends
    #[arg(long, env = "LORA_RATES_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Leave searches that were running paused when the program starts, instead of going on with them
    #[arg(long, env = "LORA_RATES_PAUSE_ON_START")]
    pause_on_start: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    security: Security,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Connections at once; more are closed
    #[arg(long, env = "LORA_RATES_MAX_CONNECTIONS", value_name = "N", value_parser = value_parser!(u32).range(1..), default_value_t = Options::default().max_connections)]
    max_connections: u32,
    /// Calls at once over one connection; more wait
    #[arg(long, env = "LORA_RATES_MAX_STREAMS", value_name = "N", value_parser = value_parser!(u32).range(1..), default_value_t = Options::default().max_streams)]
    max_streams: u32,
    /// A worker that says nothing for so many seconds is gone; they speak every 2
    #[arg(long, env = "LORA_RATES_SILENCE", value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    silence: Duration,
    /// Searches fail when there is no worker at all for so many seconds; without it they wait
    #[arg(long, env = "LORA_RATES_WORKER_TIMEOUT", value_name = "SECONDS", value_parser = seconds)]
    worker_timeout: Option<Duration>,
    /// Searches that are not over, at most
    #[arg(long, env = "LORA_RATES_MAX_SEARCHES", value_name = "N", default_value_t = Options::default().max_searches)]
    max_searches: usize,
    /// Bytes of all pictures, networks and encodings, at most; without it the disk is the limit
    #[arg(long, env = "LORA_RATES_MAX_BLOB_BYTES", value_name = "BYTES")]
    max_blob_bytes: Option<u64>,
}

impl From<OptionArgs> for Options {
    fn from(args: OptionArgs) -> Self {
        let OptionArgs { data_dir, pause_on_start, limits, security } = args;
        let Limits { max_connections, max_streams, silence, worker_timeout, max_searches, max_blob_bytes } = limits;
        Self {
            data_dir,
            resume_on_start: !pause_on_start,
            trusted: false,
            silence,
            worker_timeout,
            max_searches,
            max_blob_bytes: max_blob_bytes.unwrap_or(Self::default().max_blob_bytes),
            max_connections,
            max_streams,
            security,
            ..Self::default()
        }
    }
}

/// An address, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdminListen(pub(crate) Option<SocketAddr>);

impl FromStr for AdminListen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            _ => text.parse().map(|address| Self(Some(address))).map_err(|_| "expected IP:PORT or none"),
        }
    }
}

/// A duration of at least a second, and at most ten years, in which no clock overflows.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 1.0..=3e8) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds, at least 1"),
    }
}
