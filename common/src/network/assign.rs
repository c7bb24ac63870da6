//! Sorting a file's keys by the layer that they belong to.

use super::error::shown;
use super::key::{self, Field};
use super::{Error, Model, Unmatched, family, unsupported};
use crate::tensor_file::TensorFile;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The keys of one module.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    /// The module's name as the file writes it.
    pub(super) module: &'a str,
    /// The key seen first.
    pub(super) first: &'a str,
    /// Key of the factor that the input meets first.
    pub(super) down: Option<&'a str>,
    /// Key of the factor that makes the output.
    pub(super) up: Option<&'a str>,
    /// Key of the alpha.
    pub(super) alpha: Option<&'a str>,
}

/// What belongs where.
#[derive(Debug)]
pub(super) struct Assignment<'a> {
    /// By place of the layer in the model; never empty.
    pub(super) slots: BTreeMap<usize, Slot<'a>>,
    /// Keys that match no layer.
    pub(super) skipped: Vec<String>,
}

/// Finds the layer of every key.
pub(super) fn assign<'a>(file: &'a TensorFile, model: &Model, unmatched: Unmatched) -> Result<Assignment<'a>, Error> {
    refuse_unsupported(file)?;
    let mut slots = BTreeMap::new();
    let mut skipped = Vec::new();
    for key in file.names() {
        let found = key::parse(key).and_then(|(module, field)| Some((model.spellings.find(module)?, module, field)));
        let Some((place, module, field)) = found else {
            skipped.push(key.to_owned());
            continue;
        };
        put(&mut slots, place, module, field, key).map_err(|first| Error::Duplicate {
            path: file.path().to_owned(),
            layer: model.layers.get(place).map(|layer| layer.name.clone()).unwrap_or_default(),
            first: shown(first),
            second: shown(key),
        })?;
    }
    let path = || file.path().to_owned();
    match skipped.first() {
        Some(key) if unmatched == Unmatched::Refuse => Err(Error::Unmatched {
            path: path(),
            key: shown(key),
            others: skipped.len() - 1,
            family: family::guess(file, model.context),
        }),
        Some(_) if slots.is_empty() => {
            Err(Error::NothingMatched { path: path(), keys: skipped.len(), family: family::guess(file, model.context) })
        }
        None if slots.is_empty() => Err(Error::Empty { path: path() }),
        _ => Ok(Assignment { slots, skipped }),
    }
}

fn refuse_unsupported(file: &TensorFile) -> Result<(), Error> {
    let found = file.names().find_map(|key| Some((key, unsupported::kind(key)?)));
    match found {
        Some((key, kind)) => Err(Error::Unsupported { path: file.path().to_owned(), key: shown(key), kind }),
        None => Ok(()),
    }
}

/// Puts a key where it belongs. If another spelling of the module, or this field of it, is there already, gives back
/// the key that was.
fn put<'a>(
    slots: &mut BTreeMap<usize, Slot<'a>>,
    place: usize,
    module: &'a str,
    field: Field,
    key: &'a str,
) -> Result<(), &'a str> {
    let slot = match slots.entry(place) {
        Entry::Occupied(entry) if entry.get().module != module => return Err(entry.get().first),
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Slot { module, first: key, down: None, up: None, alpha: None }),
    };
    let held = match field {
        Field::Down => &mut slot.down,
        Field::Up => &mut slot.up,
        Field::Alpha => &mut slot.alpha,
    };
    match held.replace(key) {
        Some(earlier) => Err(earlier),
        None => Ok(()),
    }
}
