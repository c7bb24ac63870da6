//! What can go wrong with blobs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Why a blob can't be put or got.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none, or not all of it.
    #[error("there is no blob {0}")]
    NotFound(String),
    /// It is larger than any may be.
    #[error("the blob has {size} bytes, and none may have more than {limit}")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// Bytes at most.
        limit: u64,
    },
    /// All blobs together would be too large.
    #[error(
        "the blob has {size} bytes, and there are {free} left of the {limit} that the coordinator keeps; \
         delete searches that are over, or start it with a larger --max-blob-bytes"
    )]
    Quota {
        /// Its bytes.
        size: u64,
        /// Bytes left.
        free: u64,
        /// Bytes in all.
        limit: u64,
    },
    /// The disk is full.
    #[error("the coordinator's disk is full; free some space and try again")]
    DiskFull,
    /// Too many uploads at once.
    #[error("the coordinator takes no more uploads just now; try again")]
    Busy,
    /// The same blob is coming or going just now.
    #[error("blob {0} is being sent by someone else, or deleted, just now; try again")]
    InUse(String),
    /// The transfer does not go on where the last one ended.
    #[error("the transfer begins at byte {found}, and {received} are there; ask again how many are, or begin at 0")]
    Offset {
        /// Where it begins.
        found: u64,
        /// Bytes that are there; where it may begin, besides 0.
        received: u64,
    },
    /// More or fewer bytes than was said.
    #[error("the blob was to have {expected} bytes, and has {found}")]
    Size {
        /// Bytes that came.
        found: u64,
        /// Bytes that were to come.
        expected: u64,
    },
    /// Not the content that its name says.
    #[error("the bytes sent as blob {expected} have the SHA-256 {found}{}", if *.resumed { ": send them anew" } else { "" })]
    Digest {
        /// That of what came.
        found: String,
        /// That of the name.
        expected: String,
        /// Whether part of it came in an earlier transfer, and may be to blame.
        resumed: bool,
    },
    /// The disk fails.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopped,
}

impl Error {
    /// Whether the same may succeed in a moment.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy | Self::InUse(_) | Self::Offset { .. } | Self::Stopped => true,
            Self::Digest { resumed, .. } => *resumed,
            Self::NotFound(_)
            | Self::TooLarge { .. }
            | Self::Quota { .. }
            | Self::DiskFull
            | Self::Size { .. }
            | Self::Io { .. } => false,
        }
    }

    /// What the system's error means.
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
