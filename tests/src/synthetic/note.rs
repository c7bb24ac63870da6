//! What a synthetic worker writes down of what it is told, one line each, for tests to read.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Something that a worker was told or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When, since 1970.
    pub at: Duration,
    /// How often it had joined, with this time.
    pub join: u32,
    /// `ready`, `rates`, `lease`, `encode` or `evaluate`.
    pub what: String,
    /// Step of a lease or evaluation, number of a picture.
    pub first: u64,
    /// Microbatch of a lease, item of an evaluation, 1 for a mirrored picture.
    pub second: u64,
}

/// Appends a note.
pub(super) fn append(file: &Path, join: u32, what: &str, first: u64, second: u64) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let opened = OpenOptions::new().create(true).append(true).open(file);
    // One write each, so that lines stay whole. A test that finds none fails by itself.
    let _ = opened.and_then(|mut file| file.write_all(format!("{at} {join} {what} {first} {second}\n").as_bytes()));
}

/// All notes in a file, in their order; none if there is no file. A line that a kill cut short is left out.
#[must_use]
pub fn read(file: &Path) -> Vec<Note> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Note> {
    let mut parts = line.split_whitespace();
    let number = |parts: &mut std::str::SplitWhitespace<'_>| parts.next()?.parse().ok();
    let (at, join) = (number(&mut parts)?, parts.next()?.parse().ok()?);
    let what = parts.next()?.to_owned();
    Some(Note { at: Duration::from_millis(at), join, what, first: number(&mut parts)?, second: number(&mut parts)? })
}

/// Says something to whoever reads the test's output.
pub(super) fn stderr(name: &str, text: &str) {
    // A closed standard error is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{name}: {text}");
}
