//! Writing searches and their steps. Each call is stored whole or not at all.

use super::numbers::to_blob;
use super::{Error, Store, Stored, integer};
use crate::search::Commit;
use lora_rates_common::conclusion::Conclusion;
use lora_rates_common::convert::{SamplePicture, SearchState, Validation};
use lora_rates_common::spec::SearchSpec;
use rusqlite::params;

impl Store {
    /// Stores a new search.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn create(&mut self, search: &Stored, spec: &SearchSpec) -> Result<(), Error> {
        let unwritable = |error: serde_json::Error| self.corrupt(format!("the new search: {error}"));
        let networks = serde_json::to_string(&search.networks[..]).map_err(unwritable)?;
        let spec = serde_json::to_string(spec).map_err(unwritable)?;
        let Stored { optimizer, .. } = search;
        let row = params![
            integer(search.number),
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
            search.name,
            integer(search.created_ms),
            networks,
        ];
        let insert = "INSERT INTO searches
            (number, id, request_id, spec, fingerprint, max_train_steps, state, failure, step, rates, m, v, name,
             created_ms, networks)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
        self.connection.execute(insert, row).map(drop).map_err(|source| self.sqlite(source))
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
        self.write_step(id, commit).map_err(|source| self.of_search(id, source))
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

    /// Stores an evaluation.
    ///
    /// # Errors
    /// When there is no such search, it has one of this step already, or it can't be written.
    pub fn add_validation(&mut self, id: &str, validation: &Validation) -> Result<(), Error> {
        self.write_validation(id, validation).map_err(|source| self.of_search(id, source))
    }

    fn write_validation(&mut self, id: &str, validation: &Validation) -> Result<(), rusqlite::Error> {
        let select = "SELECT number FROM searches WHERE id = ?1";
        let number: i64 = self.connection.query_row(select, [id], |row| row.get(0))?;
        let baseline = |it: &lora_rates_common::convert::Baseline| [it.rate, it.loss, it.standard_error];
        let baselines: Vec<f64> = validation.baselines.iter().flat_map(baseline).collect();
        let insert = "INSERT INTO validations (search, step, loss, standard_error, samples, rates, baselines)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let row = params![
            number,
            integer(validation.step),
            validation.loss,
            validation.standard_error,
            validation.samples,
            to_blob(&validation.rates),
            to_blob(&baselines),
        ];
        self.connection.execute(insert, row).map(drop)
    }

    /// Stores the sample pictures of a step, all or none.
    ///
    /// # Errors
    /// When there is no such search, it has them already, or they can't be written.
    pub fn add_pictures(&mut self, id: &str, pictures: &[SamplePicture]) -> Result<(), Error> {
        self.write_pictures(id, pictures).map_err(|source| self.of_search(id, source))
    }

    fn write_pictures(&mut self, id: &str, pictures: &[SamplePicture]) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        let select = "SELECT number FROM searches WHERE id = ?1";
        let number: i64 = transaction.query_row(select, [id], |row| row.get(0))?;
        let insert = "INSERT INTO pictures (search, step, item, seed, sha256, failure) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        for SamplePicture { step, item, seed, result } in pictures {
            let (sha256, failure) = (result.as_ref().ok(), result.as_ref().err());
            // A seed may be over what SQLite's integers hold.
            let row = params![number, integer(*step), item, seed.to_le_bytes(), sha256, failure];
            transaction.execute(insert, row)?;
        }
        transaction.commit()
    }

    /// Stores what was measured at the end of a search.
    ///
    /// # Errors
    /// When there is no such search, or it can't be written.
    pub fn conclude(&mut self, id: &str, conclusion: &Conclusion) -> Result<(), Error> {
        let text = serde_json::to_string(conclusion).map_err(|error| self.corrupt(format!("search {id}: {error}")))?;
        let update = "UPDATE searches SET conclusion = ?2 WHERE id = ?1";
        match self.connection.execute(update, params![id, text]).map_err(|source| self.sqlite(source))? {
            0 => Err(Error::Unknown(id.to_owned())),
            _ => Ok(()),
        }
    }

    /// Forgets a search with all its steps.
    ///
    /// # Errors
    /// When there is no such search, or it can't be deleted; nothing of it is then.
    pub fn delete(&mut self, id: &str) -> Result<(), Error> {
        self.delete_rows(id).map_err(|source| self.of_search(id, source))
    }

    fn delete_rows(&mut self, id: &str) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        let select = "SELECT number FROM searches WHERE id = ?1";
        let number: i64 = transaction.query_row(select, [id], |row| row.get(0))?;
        transaction.execute("DELETE FROM steps WHERE search = ?1", [number])?;
        transaction.execute("DELETE FROM pictures WHERE search = ?1", [number])?;
        transaction.execute("DELETE FROM validations WHERE search = ?1", [number])?;
        transaction.execute("DELETE FROM searches WHERE number = ?1", [number])?;
        transaction.commit()
    }

    /// An error of a statement that looked for this search.
    fn of_search(&self, id: &str, source: rusqlite::Error) -> Error {
        match source {
            rusqlite::Error::QueryReturnedNoRows => Error::Unknown(id.to_owned()),
            source => self.sqlite(source),
        }
    }
}
