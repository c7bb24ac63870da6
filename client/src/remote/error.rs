//! What can go wrong with a coordinator, in one line that says what to do about it.

use lora_rates_common::convert;
use lora_rates_proto::{connect, transfer};
use std::error::Error as _;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a coordinator didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] connect::Error),
    /// It refuses, or the connection broke.
    #[error("{}", said(.0))]
    Status(Box<Status>),
    /// It answers what nobody understands.
    #[error("the coordinator's answer makes no sense ({0}): use a client and a coordinator of the same version")]
    Answer(#[from] convert::Error),
    /// An identifier that no search has.
    #[error("no search has an id that begins with {0:?}; lora-rates list shows all")]
    Unknown(String),
    /// The beginning of several identifiers.
    #[error("several searches have an id that begins with {prefix:?}: {}; give more of it", .ids.join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// Some of those it may mean.
        ids: Vec<String>,
    },
    /// A file could not be fetched.
    #[error("can't fetch a file: {0}")]
    Fetch(transfer::Error),
    /// A file could not be sent.
    #[error("can't upload {}: {source}", path.display())]
    Upload {
        /// The file.
        path: PathBuf,
        /// Why.
        source: transfer::Error,
    },
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Error {
    /// The status, if the coordinator or the connection gave one.
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the command line is to blame.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Connect(error) => {
                use connect::Error::{Certificates, Connect, File};
                !matches!(error, Connect { .. } | File { .. } | Certificates { .. })
            }
            Self::Unknown(_) | Self::Ambiguous { .. } => true,
            Self::Status(_) | Self::Answer(_) | Self::Fetch(_) | Self::Upload { .. } => false,
        }
    }

    /// Whether the coordinator knows nothing of what it was asked about.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code() == Code::NotFound)
    }

    /// Whether the same may go well in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Status(status) => {
                matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Aborted | Code::Cancelled)
            }
            Self::Connect(error) => error.is_passing(),
            _ => false,
        }
    }

    /// Whether the coordinator has as much as it takes.
    pub(crate) fn is_full(&self) -> bool {
        self.status().is_some_and(|status| status.code() == Code::ResourceExhausted && self.retry_after().is_some())
    }

    /// When the coordinator wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.status()?.get_details_retry_info()?.retry_delay
    }
}

/// A status in words: its message, the fields that it is about, and when to try again.
fn said(status: &Status) -> String {
    if let Some(cause) = broken(status) {
        return format!("the connection to the coordinator broke: {cause}");
    }
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    let mut text = format!("the coordinator: {message}");
    let details = status.get_error_details();
    // Writing to a String can't fail.
    let fields = details.bad_request().into_iter().flat_map(|request| &request.field_violations);
    for field in fields.filter(|field| !message.contains(&field.field) || !message.contains(&field.description)) {
        let _ = write!(text, "; {}: {}", field.field, field.description);
    }
    let failures = details.precondition_failure().into_iter().flat_map(|failure| &failure.violations);
    for failure in failures.filter(|failure| !message.contains(&failure.description)) {
        let _ = write!(text, "; {}", failure.description);
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let _ = write!(text, "; try again in {} s", delay.as_secs_f64().ceil());
    }
    text
}

/// Why the connection broke, if the status is about that and not from the coordinator.
fn broken(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    let mut text = cause.to_string();
    while let Some(next) = cause.source() {
        cause = next;
        text = cause.to_string();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn the_details_of_a_refusal_are_said_in_the_same_line() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("spec.options.train_batch_size", "must be from 1 to 4096");
        details.set_retry_info(Some(Duration::from_millis(1500)));
        let status = Status::with_error_details(Code::InvalidArgument, "the search makes no sense", details);
        assert_eq!(
            Error::from(status).to_string(),
            "the coordinator: the search makes no sense; spec.options.train_batch_size: must be from 1 to 4096; try \
             again in 2 s"
        );
    }

    #[test]
    fn what_the_message_says_already_is_not_said_twice() {
        let details = ErrorDetails::with_bad_request_violation("name", "too long");
        let status = Status::with_error_details(Code::InvalidArgument, "name is too long", details);
        assert_eq!(Error::from(status).to_string(), "the coordinator: name is too long");
        assert!(Error::from(Status::new(Code::Unavailable, "")).to_string().len() > "the coordinator: ".len());
    }

    #[test]
    fn only_what_may_mend_itself_is_tried_again() {
        let passing = |code| Error::from(Status::new(code, "x")).is_passing();
        assert!([Code::Unavailable, Code::Unknown, Code::Aborted, Code::Cancelled].into_iter().all(passing));
        let lasting = [Code::NotFound, Code::PermissionDenied, Code::Unauthenticated, Code::InvalidArgument];
        assert!(!lasting.into_iter().any(passing));
        assert!(Error::Unknown("x".into()).is_usage() && !Error::from(Status::not_found("x")).is_usage());
        let retry = Status::with_error_details(
            Code::Unavailable,
            "x",
            ErrorDetails::with_retry_info(Some(Duration::from_secs(3))),
        );
        assert_eq!(Error::from(retry).retry_after(), Some(Duration::from_secs(3)));
    }
}
