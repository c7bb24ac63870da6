//! The tables, by version.

use super::Error;
use rusqlite::Connection;
use std::path::Path;

/// Version of the tables below, kept in `PRAGMA user_version`.
pub(super) const VERSION: i64 = 1;

/// `number` is the order of creation. The optimizer's state stands in the search's own row, written with every step.
const TABLES: &str = "
CREATE TABLE searches (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    request_id TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    max_train_steps INTEGER NOT NULL,
    state TEXT NOT NULL,
    failure TEXT,
    step INTEGER NOT NULL,
    rates BLOB NOT NULL,
    m BLOB NOT NULL,
    v BLOB NOT NULL
) STRICT;
CREATE TABLE steps (
    search INTEGER NOT NULL REFERENCES searches (number),
    step INTEGER NOT NULL,
    loss REAL NOT NULL,
    penalty REAL NOT NULL,
    learning_rate REAL NOT NULL,
    gradient_norm REAL NOT NULL,
    samples INTEGER NOT NULL,
    rates BLOB NOT NULL,
    PRIMARY KEY (search, step)
) STRICT;
";

/// Makes the tables, or finds those of this version.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let sqlite = |source| Error::sqlite(path, source);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    if found > VERSION {
        return Err(Error::Newer { path: path.to_owned(), found, known: VERSION });
    }
    let count = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(count, [], |row| row.get(0)).map_err(sqlite)?;
    match (found, tables) {
        (VERSION, 1..) => Ok(()),
        (0, 0) => {
            let transaction = connection.transaction().map_err(sqlite)?;
            transaction.execute_batch(TABLES).map_err(sqlite)?;
            transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
            transaction.commit().map_err(sqlite)
        }
        _ => {
            let what = format!("version {found} with {tables} tables");
            Err(Error::Corrupt { path: path.to_owned(), what })
        }
    }
}
