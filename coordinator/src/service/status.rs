//! Errors as gRPC has them, with details that programs can read.

use super::Error;
use crate::{blobs, search, store};
use lora_rates_common::convert;
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Who the reasons belong to.
const DOMAIN: &str = "lora-rates";
/// When what is scarce for a moment is worth another try.
const SOON: Duration = Duration::from_secs(2);
/// When what takes someone's doing is.
const LATER: Duration = Duration::from_secs(30);

/// What a client may do about it.
enum Retry {
    /// Nothing by waiting.
    Never,
    After(Duration),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(error) => invalid(error),
            Error::Blob(error) => error.into(),
            error => {
                let (code, reason, retry) = kind(&error);
                let mut details = details(reason, retry);
                match &error {
                    Error::Search(search::Error::Order { .. }) | Error::NotOver { .. } => {
                        details.add_precondition_failure_violation("STATE", "search", error.to_string());
                    }
                    Error::MissingBlobs { sha256, .. } => {
                        details.add_precondition_failure_violation("BLOB", sha256.clone(), error.to_string());
                    }
                    Error::Search(search::Error::Spec(_)) => {
                        details.add_bad_request_violation("spec", error.to_string());
                    }
                    _ => {}
                }
                Self::with_error_details(code, error.to_string(), details)
            }
        }
    }
}

fn kind(error: &Error) -> (Code, &'static str, Retry) {
    use Retry::{After, Never};
    match error {
        Error::Invalid(_) => (Code::InvalidArgument, "INVALID_FIELD", Never),
        Error::NotFound(_) => (Code::NotFound, "SEARCH_NOT_FOUND", Never),
        Error::Exists { .. } => (Code::AlreadyExists, "REQUEST_ID_TAKEN", Never),
        Error::MissingBlobs { .. } => (Code::FailedPrecondition, "BLOBS_MISSING", Never),
        Error::TooManySearches { .. } => (Code::ResourceExhausted, "TOO_MANY_SEARCHES", After(LATER)),
        Error::NotOver { .. } => (Code::FailedPrecondition, "SEARCH_NOT_OVER", Never),
        Error::NoStep { .. } => (Code::OutOfRange, "STEP_NOT_DONE", Never),
        Error::NoEvaluation => (Code::FailedPrecondition, "NO_EVALUATION", Never),
        Error::NoWorker => (Code::Unavailable, "NO_WORKER", After(SOON)),
        Error::NoAnswer { .. } => (Code::DeadlineExceeded, "NO_ANSWER", Never),
        Error::NoModel(_) => (Code::NotFound, "MODEL_NOT_FOUND", Never),
        Error::Search(search::Error::Order { .. }) => (Code::FailedPrecondition, "SEARCH_STATE", Never),
        Error::Search(search::Error::Spec(_) | search::Error::State { .. }) => {
            (Code::InvalidArgument, "INVALID_SEARCH", Never)
        }
        Error::Store(store::Error::Full { .. }) => (Code::ResourceExhausted, "DISK_FULL", After(LATER)),
        Error::Store(store::Error::Closed) | Error::Stopped => (Code::Unavailable, "STOPPING", After(SOON)),
        Error::Store(_) => (Code::Internal, "STORE_FAILED", Never),
        Error::Blob(_) => (Code::Internal, "BLOB_FAILED", Never),
        Error::Changed => (Code::Aborted, "CHANGED", After(SOON)),
    }
}

impl From<blobs::Error> for Status {
    fn from(error: blobs::Error) -> Self {
        use Retry::{After, Never};
        use blobs::Error;
        let (code, reason, retry) = match &error {
            Error::NotFound(_) => (Code::NotFound, "BLOB_NOT_FOUND", Never),
            Error::TooLarge { .. } => (Code::ResourceExhausted, "BLOB_TOO_LARGE", Never),
            Error::Quota { .. } => (Code::ResourceExhausted, "BLOBS_FULL", After(LATER)),
            Error::DiskFull => (Code::ResourceExhausted, "DISK_FULL", After(LATER)),
            Error::Busy => (Code::Unavailable, "TOO_MANY_UPLOADS", After(SOON)),
            Error::InUse(_) => (Code::Aborted, "BLOB_IN_USE", After(SOON)),
            Error::Offset { .. } => (Code::Aborted, "WRONG_OFFSET", After(Duration::ZERO)),
            Error::Size { .. } => (Code::InvalidArgument, "WRONG_SIZE", Never),
            Error::Digest { resumed: true, .. } => (Code::Aborted, "WRONG_DIGEST", After(Duration::ZERO)),
            Error::Digest { .. } => (Code::InvalidArgument, "WRONG_DIGEST", Never),
            Error::Io { .. } => (Code::Internal, "BLOB_FAILED", Never),
            Error::Stopped => (Code::Unavailable, "STOPPING", After(SOON)),
        };
        Self::with_error_details(code, error.to_string(), details(reason, retry))
    }
}

fn details(reason: &str, retry: Retry) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    if let Retry::After(delay) = retry {
        details.set_retry_info(Some(delay));
    }
    details
}

/// What came in makes no sense; the message and the details name the field.
pub(super) fn invalid(error: convert::Error) -> Status {
    bad_field(error.field(), &error.to_string())
}

/// As [`invalid`], for what no conversion checks.
pub(super) fn bad_field(field: &str, message: &str) -> Status {
    let mut details = details("INVALID_FIELD", Retry::Never);
    details.add_bad_request_violation(field, message);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The caller may not do that. Says no more than that.
pub(super) fn forbidden() -> Status {
    let details = details("FORBIDDEN", Retry::Never);
    Status::with_error_details(Code::PermissionDenied, "the caller may not do that", details)
}

/// The coordinator is stopping, or does not want the worker any more.
pub(super) fn given_up() -> Status {
    let message = "the coordinator gives up the worker, or is stopping: join again";
    Status::with_error_details(Code::Unavailable, message, details("GIVEN_UP", Retry::After(SOON)))
}
