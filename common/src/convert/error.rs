//! What is wrong with a message, by field.

use crate::spec;

/// What is wrong with a message. Each names the field, such as `spec.options.train_batch_size`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: String,
    },
    /// A list or text that is too short, too long or of the wrong length.
    #[error("{field} has {found} {unit}; it must have {expected}")]
    Length {
        /// The field.
        field: String,
        /// How many there are.
        found: usize,
        /// Of what.
        unit: &'static str,
        /// How many there may be, in words.
        expected: String,
    },
    /// A value out of range.
    #[error("{field} is {value}; it must be {expected}")]
    Range {
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What it may be, in words.
        expected: String,
    },
    /// Something that makes no sense for a search.
    #[error("{field}: {source}")]
    Spec {
        /// The field.
        field: String,
        /// What is wrong with it.
        source: Box<spec::Error>,
    },
}

impl Error {
    /// The field, as a path from the message: `spec.images[3].sha256`.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Missing { field }
            | Self::Length { field, .. }
            | Self::Range { field, .. }
            | Self::Spec { field, .. } => field,
        }
    }

    pub(super) fn range(field: &str, value: impl ToString, expected: impl Into<String>) -> Self {
        Self::Range { field: field.to_owned(), value: value.to_string(), expected: expected.into() }
    }

    pub(super) fn spec(field: impl Into<String>, source: impl Into<spec::Error>) -> Self {
        Self::Spec { field: field.into(), source: Box::new(source.into()) }
    }
}
