//! What can go wrong with the store.

use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// Why something can't be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder can't be made or used.
    #[error("{path}: {source}; the coordinator needs a folder that it can write to")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another coordinator uses the folder.
    #[error("{path} is in use by another coordinator: stop that one, or choose another folder")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("{path}: the disk is full; free some space and resume the search")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error("{path} has version {found} and this program knows up to {known}: use a newer program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The latest version known.
        known: i64,
    },
    /// Not a database, damaged, or not one of ours.
    #[error("{path} is damaged or no store of searches ({what}): restore it from a copy, or move it away")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Anything else that SQLite says.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// There is no such search.
    #[error("the store has no search {0}")]
    Unknown(String),
    /// The store is closed: the coordinator is stopping.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether the same may succeed later without anyone changing the data.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::Full { .. } => true,
            Self::Folder { .. }
            | Self::Newer { .. }
            | Self::Corrupt { .. }
            | Self::Sqlite { .. }
            | Self::Unknown(_)
            | Self::Closed => false,
        }
    }

    /// What SQLite's error means for this file.
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, what: source.to_string() }
            }
            _ => Self::Sqlite { path, source },
        }
    }
}
