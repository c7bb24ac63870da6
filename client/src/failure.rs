//! How a command ends when it does not end well.

use crate::remote;
use std::fmt;
use std::process::ExitCode;

/// Why a command stopped, and with that its exit code.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration file makes no sense: exit code 2.
    Usage(anyhow::Error),
    /// A file, a device or a peer failed: exit code 1.
    Run(anyhow::Error),
    /// The user interrupted the command, which has saved its state, or detached from a search: exit code 130.
    Interrupted,
}

impl Failure {
    /// A usage error.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// 2, 1 or 130.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::Run(_) => 1,
            Self::Interrupted => 130,
        })
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast_ref::<remote::Error>().is_some_and(remote::Error::is_usage) {
            true => Self::Usage(error),
            false => Self::Run(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) | Self::Run(error) => f.write_str(&said(error)),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// An error in one line: its message, then those causes that it doesn't tell of itself.
fn said(error: &anyhow::Error) -> String {
    let said = error.chain().map(ToString::to_string).reduce(|said, cause| match said.contains(&cause) {
        true => said,
        false => format!("{said}: {cause}"),
    });
    said.unwrap_or_default().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
