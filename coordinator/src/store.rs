//! Searches and their steps in SQLite: what is committed survives a crash, and comes back to the last bit.

mod error;
mod numbers;
mod read;
mod schema;
mod thread;
mod write;

pub use error::Error;
pub use read::{After, Records};
pub use thread::{Handle, Thread};

use lora_rates_common::conclusion::Conclusion;
use lora_rates_common::convert::{SearchState, Validation};
use lora_rates_common::optimizer::State;
use lora_rates_common::spec::NetworkRef;
use rusqlite::Connection;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The database within the data folder.
pub const FILE: &str = "searches.sqlite3";
/// Held locked by the coordinator that uses the folder.
const LOCK: &str = "coordinator.lock";

/// A search as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its place in the order of creation, from 1.
    pub number: u64,
    /// Its identifier.
    pub id: String,
    /// Chosen by the client, for lists.
    pub name: String,
    /// When it was created, in milliseconds since 1970; 0 if that was before anyone kept it.
    pub created_ms: u64,
    /// Its networks, in the order of their rates.
    pub networks: Arc<[NetworkRef]>,
    /// What the client that created it chose.
    pub request_id: String,
    /// [`SearchSpec::fingerprint`](lora_rates_common::spec::SearchSpec::fingerprint).
    pub fingerprint: String,
    /// Steps to do in all.
    pub max_train_steps: u64,
    /// Where it stands.
    pub state: SearchState,
    /// Why it failed, or paused by itself.
    pub failure: Option<String>,
    /// Steps done, rates and moments.
    pub optimizer: State,
    /// The evaluation of the lowest held-out loss, if there is any; of several, the first.
    pub best: Option<Arc<Validation>>,
    /// What was measured at its end.
    pub conclusion: Option<Arc<Conclusion>>,
}

/// All searches.
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// Unlocked when it is dropped.
    _lock: Option<File>,
}

impl Store {
    /// The store in this folder, made if it is not there.
    ///
    /// # Errors
    /// When the folder can't be used, another coordinator uses it, or its database is damaged or too new.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        let path = folder.join(FILE);
        let lock = File::options().create(true).append(true).open(folder.join(LOCK)).map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Locked { path: path.clone() },
            TryLockError::Error(source) => unusable(source),
        })?;
        let connection = Connection::open(&path).map_err(|source| Error::sqlite(&path, source))?;
        Self::prepared(connection, path, Some(lock))
    }

    /// A store that is forgotten with the process.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn in_memory() -> Result<Self, Error> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|source| Error::sqlite(&path, source))?;
        Self::prepared(connection, path, None)
    }

    fn prepared(mut connection: Connection, path: PathBuf, lock: Option<File>) -> Result<Self, Error> {
        // With a write-ahead log, NORMAL loses nothing when the process dies, however it does. When the power fails, the
        // last steps may be missing; they are repeated, to the same numbers. A log of 4096 pages is written back rarely
        // enough that few steps wait for it.
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
            PRAGMA wal_autocheckpoint = 4096;";
        connection.execute_batch(settings).map_err(|source| Error::sqlite(&path, source))?;
        schema::prepare(&mut connection, &path)?;
        Ok(Self { connection, path, _lock: lock })
    }

    fn sqlite(&self, source: rusqlite::Error) -> Error {
        Error::sqlite(&self.path, source)
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::Corrupt { path: self.path.clone(), what: what.into() }
    }
}

/// SQLite's integers are signed. No count of a search comes near the limit.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
