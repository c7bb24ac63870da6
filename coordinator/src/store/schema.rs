//! The tables, by version. Later versions change what earlier ones made, so old folders keep working.

use super::Error;
use rusqlite::Connection;
use std::path::Path;

/// Version of the tables after all of [`STEPS`], kept in `PRAGMA user_version`.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// What makes each version of the one before it; version 1 of nothing.
pub(super) const STEPS: [&str; 4] = [
    // `number` is the order of creation. The optimizer's state stands in the search's own row, written with every step.
    "
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
",
    // `networks` repeats a part of `spec`, which is too large to be read for every list. Baselines are rate, loss and
    // standard error of each, in one list of numbers.
    "
ALTER TABLE searches ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE searches ADD COLUMN created_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE searches ADD COLUMN networks TEXT NOT NULL DEFAULT '[]';
UPDATE searches SET networks = coalesce(json_extract(spec, '$.networks'), '[]') WHERE json_valid(spec);
CREATE TABLE validations (
    search INTEGER NOT NULL REFERENCES searches (number),
    step INTEGER NOT NULL,
    loss REAL NOT NULL,
    standard_error REAL NOT NULL,
    samples INTEGER NOT NULL,
    rates BLOB NOT NULL,
    baselines BLOB NOT NULL,
    PRIMARY KEY (search, step)
) STRICT;
",
    // Of `sha256` and `failure`, one is there.
    "
CREATE TABLE pictures (
    search INTEGER NOT NULL REFERENCES searches (number),
    step INTEGER NOT NULL,
    item INTEGER NOT NULL,
    seed BLOB NOT NULL,
    sha256 TEXT,
    failure TEXT,
    PRIMARY KEY (search, step, item)
) STRICT;
",
    // JSON.
    "ALTER TABLE searches ADD COLUMN conclusion TEXT;",
];

/// Makes the tables, or brings those of an earlier version up to this one.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let sqlite = |source| Error::sqlite(path, source);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    if found > VERSION {
        return Err(Error::Newer { path: path.to_owned(), found, known: VERSION });
    }
    let count = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(count, [], |row| row.get(0)).map_err(sqlite)?;
    let steps = match (usize::try_from(found), tables) {
        (Ok(0), 0) => &STEPS[..],
        (Ok(done @ 1..), 1..) => STEPS.get(done..).unwrap_or_default(),
        _ => {
            let what = format!("version {found} with {tables} tables");
            return Err(Error::Corrupt { path: path.to_owned(), what });
        }
    };
    if steps.is_empty() {
        return Ok(());
    }
    // All or nothing: a crash leaves the old version.
    let transaction = connection.transaction().map_err(sqlite)?;
    for step in steps {
        transaction.execute_batch(step).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}
