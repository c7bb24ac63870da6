//! Errors as gRPC has them.

use super::Error;
use crate::{search, store};
use lora_rates_common::convert;
use tonic::{Code, Status};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NotFound(_) => Code::NotFound,
            Error::Exists { .. } => Code::AlreadyExists,
            Error::Search(search::Error::Order { .. }) => Code::FailedPrecondition,
            Error::Search(search::Error::Spec(_) | search::Error::State { .. }) => Code::InvalidArgument,
            Error::Store(store::Error::Full { .. }) => Code::ResourceExhausted,
            Error::Store(store::Error::Closed) | Error::Stopped => Code::Unavailable,
            Error::Store(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// What came in makes no sense; the message names the field.
pub(super) fn invalid(error: convert::Error) -> Status {
    Status::invalid_argument(error.to_string())
}
