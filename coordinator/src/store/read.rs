//! Reading searches and their steps.

use super::numbers::from_blob;
use super::{Error, Store, Stored, integer};
use lora_rates_common::conclusion::Conclusion;
use lora_rates_common::convert::{Baseline, SamplePicture, SearchState, StepRecord, Validation};
use lora_rates_common::optimizer::State;
use lora_rates_common::spec::{NetworkRef, SearchSpec};
use rusqlite::types::FromSql;
use rusqlite::{OptionalExtension, Params, Row, params};
use std::sync::Arc;

/// What `validation` reads.
const VALIDATION: &str = "SELECT step, loss, standard_error, samples, rates, baselines FROM validations
    WHERE search = (SELECT number FROM searches WHERE id = ?1)";
/// What `step` reads.
const STEP: &str = "SELECT step, loss, penalty, learning_rate, gradient_norm, samples, rates FROM steps
    WHERE search = (SELECT number FROM searches WHERE id = ?1)";

/// What `picture` reads.
const PICTURE: &str = "SELECT step, item, seed, sha256, failure FROM pictures
    WHERE search = (SELECT number FROM searches WHERE id = ?1)";

/// What is known of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// The last step.
    pub step: u64,
    /// The first step whose evaluation is not.
    pub validated: u64,
    /// The first step of whose pictures not all are.
    pub drawn: u64,
}

/// A stretch of what a search has done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// Steps in their order.
    pub steps: Vec<StepRecord>,
    /// Evaluations in their order, of no step after the last of `steps` unless that is the last of all.
    pub validations: Vec<Validation>,
    /// Sample pictures in their order, likewise.
    pub pictures: Vec<SamplePicture>,
    /// Whether there are no more.
    pub complete: bool,
}

impl Store {
    /// All searches, in the order of their creation.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn searches(&self) -> Result<Vec<Stored>, Error> {
        let select = "SELECT id, request_id, fingerprint, max_train_steps, state, failure, step, rates, m, v, number,
            name, created_ms, networks, conclusion FROM searches ORDER BY number";
        self.rows(select, [], |row| self.stored(row))
    }

    fn stored(&self, row: &Row<'_>) -> Result<Stored, Error> {
        let id: String = self.column(row, 0)?;
        let state: String = self.column(row, 4)?;
        let unknown = || self.corrupt(format!("search {id} has the unknown state {state:?}"));
        let networks: String = self.column(row, 13)?;
        let networks: Vec<NetworkRef> =
            serde_json::from_str(&networks).map_err(|error| self.corrupt(format!("search {id}: {error}")))?;
        let best = format!("{VALIDATION} ORDER BY loss, step LIMIT 1");
        let best = self.rows(&best, [&id], |row| self.validation(row))?.pop().map(Arc::new);
        let conclusion: Option<String> = self.column(row, 14)?;
        let conclusion: Option<Conclusion> = conclusion
            .map(|text| serde_json::from_str(&text).map_err(|error| self.corrupt(format!("search {id}: {error}"))))
            .transpose()?;
        Ok(Stored {
            number: self.count(row, 10)?,
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
            name: self.column(row, 11)?,
            created_ms: self.count(row, 12)?,
            networks: networks.into(),
            best,
            conclusion: conclusion.map(Arc::new),
            id,
        })
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

    /// The steps of a search after this one, in order, `limit` at most.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn steps(&self, id: &str, after: u64, limit: u32) -> Result<Vec<StepRecord>, Error> {
        let select = format!("{STEP} AND step > ?2 ORDER BY step LIMIT ?3");
        self.rows(&select, params![id, integer(after), limit], |row| self.step(row))
    }

    /// All evaluations of a search from this step on, in order.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn validations(&self, id: &str, from: u64) -> Result<Vec<Validation>, Error> {
        let select = format!("{VALIDATION} AND step >= ?2 ORDER BY step");
        self.rows(&select, params![id, integer(from)], |row| self.validation(row))
    }

    /// What a search has done: `limit` steps at most after what is known, and the evaluations and pictures that go with
    /// them.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn records(&self, id: &str, after: After, limit: u32) -> Result<Records, Error> {
        let steps = self.steps(id, after.step, limit)?;
        let complete = steps.len() < limit as usize;
        let last = if complete { u64::MAX } else { steps.last().map_or(after.step, |record| record.step) };
        let select = format!("{VALIDATION} AND step BETWEEN ?2 AND ?3 ORDER BY step");
        let range = params![id, integer(after.validated), integer(last)];
        let validations = self.rows(&select, range, |row| self.validation(row))?;
        let select = format!("{PICTURE} AND step BETWEEN ?2 AND ?3 ORDER BY step, item");
        let range = params![id, integer(after.drawn), integer(last)];
        let pictures = self.rows(&select, range, |row| self.picture(row))?;
        Ok(Records { steps, validations, pictures, complete })
    }

    /// The digests of all sample pictures of a search; none if there is no such search.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn pictures(&self, id: &str) -> Result<Vec<String>, Error> {
        let pictures = self.rows(PICTURE, [id], |row| self.picture(row))?;
        Ok(pictures.into_iter().filter_map(|picture| picture.result.ok()).collect())
    }

    /// The last step of which a search has sample pictures.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn last_pictures(&self, id: &str) -> Result<Option<u64>, Error> {
        let select = format!("{PICTURE} ORDER BY step DESC LIMIT 1");
        Ok(self.rows(&select, [id], |row| self.picture(row))?.pop().map(|picture| picture.step))
    }

    fn picture(&self, row: &Row<'_>) -> Result<SamplePicture, Error> {
        let seed: Vec<u8> = self.column(row, 2)?;
        let seed = seed.as_slice().try_into().map_err(|_| self.corrupt("a picture's seed is cut"))?;
        let (sha256, failure): (Option<String>, Option<String>) = (self.column(row, 3)?, self.column(row, 4)?);
        Ok(SamplePicture {
            step: self.count(row, 0)?,
            item: self.column(row, 1)?,
            seed: u64::from_le_bytes(seed),
            result: sha256.ok_or_else(|| failure.unwrap_or_default()),
        })
    }

    fn step(&self, row: &Row<'_>) -> Result<StepRecord, Error> {
        Ok(StepRecord {
            step: self.count(row, 0)?,
            loss: self.column(row, 1)?,
            penalty: self.column(row, 2)?,
            learning_rate: self.column(row, 3)?,
            gradient_norm: self.column(row, 4)?,
            samples: self.column(row, 5)?,
            rates: self.numbers(row, 6)?,
        })
    }

    fn validation(&self, row: &Row<'_>) -> Result<Validation, Error> {
        let baselines = self.numbers(row, 5)?;
        let (baselines, rest) = baselines.as_chunks();
        if !rest.is_empty() {
            return Err(self.corrupt("a list of baselines is cut"));
        }
        let baseline = |[rate, loss, standard_error]: &[f64; 3]| Baseline {
            rate: *rate,
            loss: *loss,
            standard_error: *standard_error,
        };
        Ok(Validation {
            step: self.count(row, 0)?,
            loss: self.column(row, 1)?,
            standard_error: self.column(row, 2)?,
            samples: self.column(row, 3)?,
            rates: self.numbers(row, 4)?,
            baselines: baselines.iter().map(baseline).collect(),
        })
    }

    fn rows<T>(
        &self,
        select: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.connection.prepare_cached(select).map_err(|source| self.sqlite(source))?;
        let mut rows = statement.query(params).map_err(|source| self.sqlite(source))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|source| self.sqlite(source))? {
            all.push(read(row)?);
        }
        Ok(all)
    }

    fn column<T: FromSql>(&self, row: &Row<'_>, at: usize) -> Result<T, Error> {
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
}
