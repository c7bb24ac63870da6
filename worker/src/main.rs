//! The worker program: one device that works for a coordinator.

mod health;

use clap::Parser;
use lora_rates_proto::connect::Access;
use lora_rates_worker::device::{self, Device};
use lora_rates_worker::engine::EngineKind;
use lora_rates_worker::session::{self, Coordinator, Error, Files, Options};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// For what still runs when the program ends: nothing of it is needed.
const END: Duration = Duration::from_secs(1);

/// Computes microbatches on one device for a coordinator.
///
/// Start one worker per GPU. It joins the coordinator, and joins again whenever the connection breaks. It loads the
/// models that searches name from --model-dir and keeps the last one; networks and pictures come from the coordinator.
///
/// SIGTERM or SIGINT: it gives back what it was leased, which others then compute, and ends. A second signal ends it at
/// once. Exit status: 0 when it was told to leave, 1 when it can't work, 2 when the options make no sense.
#[derive(Parser)]
#[command(
    name = "worker",
    version,
    after_help = "Example:\n  worker --coordinator https://coordinator:50051 --tls-ca ca.pem --token-file token \\\n         \
                  --model-dir /models --device cuda:0"
)]
struct Args {
    /// Where the coordinator listens
    #[arg(long, env = "LORA_RATES_COORDINATOR", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    coordinator: String,

    /// Folder of models: searches name a checkpoint or a diffusers folder by its path below this one
    #[arg(long, alias = "model_dir", env = "LORA_RATES_MODEL_DIR", value_name = "DIR")]
    model_dir: PathBuf,

    /// Folder for networks that were fetched; those not used for 30 days are removed
    /// [default: lora-rates below $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, alias = "cache_dir", env = "LORA_RATES_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// Where to compute: cpu, cuda or cuda:K [default: the first GPU, else the CPU]
    #[arg(long, env = "LORA_RATES_DEVICE")]
    device: Option<Device>,

    /// What computes the UNet: burn, or cuda (cuBLASLt, cuDNN and kernels of our own, for bf16 on NVIDIA GPUs); auto is
    /// cuda where that can compute, else burn
    #[arg(long, env = "LORA_RATES_ENGINE", default_value_t, value_name = "auto|burn|cuda")]
    engine: EngineKind,

    /// Name in the coordinator's lists [default: the host's name and the device]
    #[arg(long, env = "LORA_RATES_WORKER_NAME")]
    name: Option<String>,

    /// Serve grpc.health.v1 and reflection there, for probes: SERVING while the coordinator has this worker
    #[arg(long, alias = "health_listen", env = "LORA_RATES_HEALTH_LISTEN", value_name = "ADDR")]
    health_listen: Option<SocketAddr>,

    /// What is logged to stderr: error, warn, info, debug or trace, or a filter of tracing's such as info,h2=debug
    #[arg(long, env = "LORA_RATES_LOG", default_value = "info", value_name = "FILTER", value_parser = filter)]
    log: EnvFilter,

    #[command(flatten)]
    access: Access,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(args.log.clone()).with_writer(std::io::stderr).with_ansi(colours).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(1, &format!("can't start: {error}")),
    };
    let code = runtime.block_on(work(args));
    runtime.shutdown_timeout(END);
    code
}

async fn work(args: Args) -> ExitCode {
    let Some(cache_dir) = args.cache_dir.or_else(default_cache) else {
        return failed(2, "there is no home folder to keep fetched networks in: give --cache-dir");
    };
    let device = args.device.unwrap_or_else(device::best);
    if let Err(error) = device::check(device).and_then(|()| device::check_engine(device, args.engine, false)) {
        return failed(1, &error);
    }
    let joined = watch::Sender::new(false);
    if let Some(address) = args.health_listen
        && let Err(error) = health::serve(address, joined.subscribe()).await
    {
        return failed(1, &format!("can't listen on {address} (--health-listen): {error}"));
    }
    let name = args.name.unwrap_or_else(|| format!("{} {device}", host()));
    tracing::info!("worker {name} on {device}, coordinator {}", args.coordinator);
    let options = Options {
        name,
        device,
        engine: args.engine,
        coordinator: Coordinator::Url { url: args.coordinator, access: args.access },
        files: Files::Remote { model_dir: args.model_dir, cache_dir },
    };
    let shutdown = async {
        signal().await;
        tokio::spawn(async {
            signal().await;
            std::process::exit(1);
        });
    };
    match session::run_observed(options, shutdown, &joined).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (Error::Connect(_) | Error::Models(_) | Error::Cache(_))) => failed(2, &error.to_string()),
        Err(error) => failed(1, &error.to_string()),
    }
}

/// Not `FromStr`, which passes over what makes no sense.
fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(text).map_err(|error| error.to_string())
}

fn failed(code: u8, error: &str) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(code)
}

/// SIGINT or SIGTERM.
#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn default_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || folder("HOME").map(|home| home.join(".cache")).or_else(|| folder("LOCALAPPDATA"));
    Some(folder("XDG_CACHE_HOME").or_else(home)?.join("lora-rates"))
}

fn host() -> String {
    let name = std::fs::read_to_string("/etc/hostname").ok().or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map_or_else(|| "worker".to_owned(), |name| name.trim().to_owned())
}
