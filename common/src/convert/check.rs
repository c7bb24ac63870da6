//! Checks of single fields. Each is given the field's path for its error.

use super::{Error, MAX_NAME, MAX_PATH, MAX_RATES};
use crate::block::BLOCKS;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;
/// Characters of a refused text that an error shows.
const SHOWN: usize = 80;

/// A part that must be there.
pub(super) fn required<T>(field: &str, part: Option<T>) -> Result<T, Error> {
    part.ok_or_else(|| Error::Missing { field: field.to_owned() })
}

/// A number within bounds.
pub(super) fn within<T: PartialOrd + Display>(field: &str, value: T, range: RangeInclusive<T>) -> Result<T, Error> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Error::range(field, value, format!("from {} to {}", range.start(), range.end())))
}

/// A number that is one.
pub(super) fn finite(field: &str, value: f64) -> Result<f64, Error> {
    if value.is_finite() { Ok(value) } else { Err(Error::range(field, value, "a finite number")) }
}

/// A length within bounds.
pub(super) fn length(field: &str, found: usize, unit: &'static str, range: RangeInclusive<usize>) -> Result<(), Error> {
    if range.contains(&found) {
        return Ok(());
    }
    let (start, end) = range.into_inner();
    let expected = match start {
        0 => format!("at most {end}"),
        _ if start == end => start.to_string(),
        _ => format!("from {start} to {end}"),
    };
    Err(Error::Length { field: field.to_owned(), found, unit, expected })
}

/// A text of limited length.
pub(super) fn text(field: &str, text: String, limit: usize) -> Result<String, Error> {
    length(field, text.len(), "bytes", 0..=limit)?;
    Ok(text)
}

/// An identifier: not empty, and short.
pub(super) fn name(field: &str, name: String) -> Result<String, Error> {
    length(field, name.len(), "bytes", 1..=MAX_NAME)?;
    Ok(name)
}

/// A text in words that is shown, never interpreted: cut at the limit.
pub(super) fn words(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
    text
}

/// A file or folder.
pub(super) fn path(field: &str, path: String) -> Result<PathBuf, Error> {
    length(field, path.len(), "bytes", 1..=MAX_PATH)?;
    Ok(path.into())
}

/// A path as text. What is not UTF-8 in it is replaced: a worker then says that it finds no such file.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A digest: 64 hexadecimal digits, made lower-case.
pub(super) fn sha256(field: &str, digest: String) -> Result<String, Error> {
    if digest.len() == SHA256_DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digest.to_ascii_lowercase());
    }
    let shown: String = digest.chars().take(SHOWN).collect();
    Err(Error::range(field, format!("{shown:?}"), "a SHA-256: 64 hexadecimal digits"))
}

/// Rates, or what there is one of for each: twenty for every network.
pub(super) fn by_rate(field: &str, found: usize) -> Result<(), Error> {
    length(field, found, "numbers", BLOCKS..=MAX_RATES)?;
    if found.is_multiple_of(BLOCKS) {
        return Ok(());
    }
    let expected = format!("{BLOCKS} for every network");
    Err(Error::Length { field: field.to_owned(), found, unit: "numbers", expected })
}

/// [`by_rate`], all of them finite.
pub(super) fn rates<T: Copy + Into<f64>>(field: &str, rates: Vec<T>) -> Result<Vec<T>, Error> {
    by_rate(field, rates.len())?;
    for (slot, rate) in rates.iter().enumerate() {
        let rate: f64 = (*rate).into();
        if !rate.is_finite() {
            return Err(Error::range(&format!("{field}[{slot}]"), rate, "a finite number"));
        }
    }
    Ok(rates)
}
