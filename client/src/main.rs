//! The command `lora-rates`.

use lora_rates_client::cli::Cli;
use lora_rates_client::failure::Failure;
use lora_rates_client::progress::note;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Environment variable that says what is logged, such as `info` or `lora_rates_worker=debug`.
const LOG: &str = "LORA_RATES_LOG";

fn main() -> ExitCode {
    match start().and_then(Cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever interrupts a search has been told all there is to say.
            if !matches!(failure, Failure::Interrupted) {
                note(&format!("error: {failure}"));
            }
            failure.exit_code()
        }
    }
}

fn start() -> Result<Cli, Failure> {
    let cli = Cli::read()?;
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process can't be; if there is one, it is the one that counts.
    let _ = log.without_time().with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init();
    Ok(cli)
}
