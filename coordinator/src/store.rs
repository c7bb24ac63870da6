//! Searches and their steps in SQLite: what is committed survives a crash, and comes back to the last bit.

mod error;
mod numbers;
mod schema;
mod thread;

pub use error::Error;
pub use thread::{Handle, Thread};

use crate::search::Commit;
use lora_rates_common::convert::{SearchState, StepRecord};
use lora_rates_common::optimizer::State;
use lora_rates_common::spec::SearchSpec;
use numbers::{from_blob, to_blob};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The database within the data folder.
pub const FILE: &str = "searches.sqlite3";
/// Held locked by the coordinator that uses the folder.
const LOCK: &str = "coordinator.lock";

/// A search as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its identifier.
    pub id: String,
    /// What the client that created it chose.
    pub request_id: String,
    /// [`SearchSpec::fingerprint`].
    pub fingerprint: String,
    /// Steps to do in all.
    pub max_train_steps: u64,
    /// Where it stands.
    pub state: SearchState,
    /// Why it failed, or paused by itself.
    pub failure: Option<String>,
    /// Steps done, rates and moments.
    pub optimizer: State,
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
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";
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

    /// Stores a new search.
    ///
    /// # Errors
    /// When it can't be written; nothing of it is stored then.
    pub fn create(&mut self, search: &Stored, spec: &SearchSpec) -> Result<(), Error> {
        let spec = serde_json::to_string(spec).map_err(|error| self.corrupt(format!("the new search: {error}")))?;
        let Stored { optimizer, .. } = search;
        let row = params![
            search.id,
            search.request_id,
            spec,
            search.fingerprint,
            integer(search.max_train_steps),
            search.state.name(),
            search.failure,
            integer(optimizer.step),
            to_blob(&optimizer.rates),
            to_blob(&optimizer.m),
            to_blob(&optimizer.v),
        ];
        let insert = "INSERT INTO searches
            (id, request_id, spec, fingerprint, max_train_steps, state, failure, step, rates, m, v)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        self.connection.execute(insert, row).map(drop).map_err(|source| self.sqlite(source))
    }

    /// All searches, in the order of their creation.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn searches(&self) -> Result<Vec<Stored>, Error> {
        let select = "SELECT id, request_id, fingerprint, max_train_steps, state, failure, step, rates, m, v
            FROM searches ORDER BY number";
        let mut statement = self.connection.prepare_cached(select).map_err(|source| self.sqlite(source))?;
        let mut rows = statement.query([]).map_err(|source| self.sqlite(source))?;
        let mut searches = Vec::new();
        while let Some(row) = rows.next().map_err(|source| self.sqlite(source))? {
            searches.push(self.stored(row)?);
        }
        Ok(searches)
    }

    fn stored(&self, row: &Row<'_>) -> Result<Stored, Error> {
        let id: String = self.column(row, 0)?;
        let state: String = self.column(row, 4)?;
        let unknown = || self.corrupt(format!("search {id} has the unknown state {state:?}"));
        Ok(Stored {
            request_id: self.column(row, 1)?,
            fingerprint: self.column(row, 2)?,
            max_train_steps: self.count(row, 3)?,
            state: SearchState::from_name(&state).ok_or_else(unknown)?,
            failure: self.column(row, 5)?,
            optimizer: State {
                step: self.count(row, 6)?,
                rates: self.numbers(row, 7)?,
                m: self.numbers(row, 8)?,
                v: self.numbers(row, 9)?,
            },
            id,
        })
    }

    fn column<T: rusqlite::types::FromSql>(&self, row: &Row<'_>, at: usize) -> Result<T, Error> {
        row.get(at).map_err(|error| self.corrupt(error.to_string()))
    }

    fn count(&self, row: &Row<'_>, at: usize) -> Result<u64, Error> {
        let number: i64 = self.column(row, at)?;
        u64::try_from(number).map_err(|_| self.corrupt(format!("a count is {number}")))
    }

    fn numbers(&self, row: &Row<'_>, at: usize) -> Result<Vec<f64>, Error> {
        let blob: Vec<u8> = self.column(row, at)?;
        from_blob(&blob).ok_or_else(|| self.corrupt(format!("a list of numbers has {} bytes", blob.len())))
    }

    /// What a search is made of.
    ///
    /// # Errors
    /// When there is no such search, or what is stored of it is not what its fingerprint says.
    pub fn spec(&self, id: &str) -> Result<SearchSpec, Error> {
        let select = "SELECT spec, fingerprint FROM searches WHERE id = ?1";
        let row = self.connection.query_row(select, [id], |row| Ok((row.get(0)?, row.get(1)?)));
        let found: Option<(String, String)> = row.optional().map_err(|source| self.sqlite(source))?;
        let (text, fingerprint) = found.ok_or_else(|| Error::Unknown(id.to_owned()))?;
        let spec: SearchSpec =
            serde_json::from_str(&text).map_err(|error| self.corrupt(format!("search {id}: {error}")))?;
        if spec.fingerprint() != fingerprint {
            return Err(self.corrupt(format!("search {id} does not match its fingerprint")));
        }
        Ok(spec)
    }

    /// Stores where a search stands.
    ///
    /// # Errors
    /// When there is no such search, or it can't be written.
    pub fn set_state(&mut self, id: &str, state: SearchState, failure: Option<&str>) -> Result<(), Error> {
        let update = "UPDATE searches SET state = ?2, failure = ?3 WHERE id = ?1";
        let changed = self.connection.execute(update, params![id, state.name(), failure]);
        match changed.map_err(|source| self.sqlite(source))? {
            0 => Err(Error::Unknown(id.to_owned())),
            _ => Ok(()),
        }
    }

    /// Stores a step and the state after it, both or neither.
    ///
    /// # Errors
    /// When there is no such search, or it can't be written.
    pub fn commit(&mut self, id: &str, commit: &Commit) -> Result<(), Error> {
        self.write_step(id, commit).map_err(|source| match source {
            rusqlite::Error::QueryReturnedNoRows => Error::Unknown(id.to_owned()),
            source => Error::sqlite(&self.path, source),
        })
    }

    fn write_step(&mut self, id: &str, Commit { record, state }: &Commit) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        let update = "UPDATE searches SET step = ?2, rates = ?3, m = ?4, v = ?5 WHERE id = ?1 RETURNING number";
        let row = params![id, integer(state.step), to_blob(&state.rates), to_blob(&state.m), to_blob(&state.v)];
        let number: i64 = transaction.prepare_cached(update)?.query_row(row, |row| row.get(0))?;
        let insert = "INSERT INTO steps (search, step, loss, penalty, learning_rate, gradient_norm, samples, rates)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        transaction.prepare_cached(insert)?.execute(params![
            number,
            integer(record.step),
            record.loss,
            record.penalty,
            record.learning_rate,
            record.gradient_norm,
            record.samples,
            to_blob(&record.rates),
        ])?;
        transaction.commit()
    }

    /// The steps of a search after this one, in order, `limit` at most.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn steps(&self, id: &str, after: u64, limit: u32) -> Result<Vec<StepRecord>, Error> {
        let select = "SELECT step, loss, penalty, learning_rate, gradient_norm, samples, rates
            FROM steps WHERE search = (SELECT number FROM searches WHERE id = ?1) AND step > ?2
            ORDER BY step LIMIT ?3";
        let mut statement = self.connection.prepare_cached(select).map_err(|source| self.sqlite(source))?;
        let mut rows = statement.query(params![id, integer(after), limit]).map_err(|source| self.sqlite(source))?;
        let mut steps = Vec::new();
        while let Some(row) = rows.next().map_err(|source| self.sqlite(source))? {
            steps.push(StepRecord {
                step: self.count(row, 0)?,
                loss: self.column(row, 1)?,
                penalty: self.column(row, 2)?,
                learning_rate: self.column(row, 3)?,
                gradient_norm: self.column(row, 4)?,
                samples: self.column(row, 5)?,
                rates: self.numbers(row, 6)?,
            });
        }
        Ok(steps)
    }
}

/// SQLite's integers are signed. No count of a search comes near the limit.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
