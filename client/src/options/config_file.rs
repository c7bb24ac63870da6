//! Reading `--config_file`: TOML whose keys are the names of the options, plain or below headings of any name.

use super::Options;
use clap::Args;
use std::io;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Largest configuration file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refuses.
    #[error("can't read the configuration file {}: {source}; check the path of --config_file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is far too large to be one.
    #[error("the configuration file {} is over {} KiB; give a TOML file of options", path.display(), MAX_BYTES >> 10)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is no TOML.
    #[error("{}, line {line}: {message}; write TOML, as in learning_rate = 0.1", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key that is no option.
    #[error("{}: there is no option {key}{}", path.display(), suggestion(.nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// An option of nearly that name.
        nearest: Option<String>,
    },
    /// One option in two places.
    #[error("{}: {key} is given twice, below different headings; keep one", path.display())]
    Repeated {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A value of another kind.
    #[error("{}: {key}: {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with its value.
        message: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => "; see lora-rates search --help for those there are".to_owned(),
    }
}

/// Reads the options of a file.
///
/// # Errors
/// The file can't be read, is no TOML, or has a key that is no option, twice, or with a value that it doesn't take.
pub fn read(path: &Path) -> Result<Options, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let facts = std::fs::metadata(path).map_err(unreadable)?;
    if facts.len() > MAX_BYTES {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    parse(&std::fs::read_to_string(path).map_err(unreadable)?, path)
}

/// Reads the options out of a file's text.
pub(super) fn parse(text: &str, path: &Path) -> Result<Options, Error> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.get(..start).unwrap_or_default().matches('\n').count();
        Error::Syntax { path: path.to_owned(), line, message: one_line(error.message()) }
    })?;
    let mut options = Options::default();
    for (key, value) in flatten(table, path)? {
        // One key at a time: the deserializer's own message doesn't say which it is about.
        let alone = Table::from_iter([(key.clone(), value)]);
        let option: Options = alone.try_into().map_err(|error: toml::de::Error| match known(&key) {
            true => Error::Value { path: path.to_owned(), key: key.clone(), message: one_line(error.message()) },
            false => Error::UnknownKey { path: path.to_owned(), nearest: nearest(&key), key: key.clone() },
        })?;
        options = option.over(options);
    }
    Ok(options)
}

/// The keys, headings left out: `[model] vae = "x"` is the same as `vae = "x"`.
fn flatten(table: Table, path: &Path) -> Result<Table, Error> {
    let mut flat = Table::new();
    for (key, value) in table {
        let entries = match value {
            Value::Table(section) => section,
            value => Table::from_iter([(key, value)]),
        };
        for (key, value) in entries {
            if flat.contains_key(&key) {
                return Err(Error::Repeated { path: path.to_owned(), key });
            }
            flat.insert(key, value);
        }
    }
    Ok(flat)
}

/// Names of all options.
fn names() -> Vec<String> {
    let command = Options::augment_args(clap::Command::new("search"));
    command.get_arguments().map(|argument| argument.get_id().to_string()).collect()
}

fn known(key: &str) -> bool {
    names().iter().any(|name| name == key)
}

/// The option whose name needs the fewest changes to become the key, if they are few.
fn nearest(key: &str) -> Option<String> {
    let name = names().into_iter().min_by_key(|name| distance(name, key))?;
    (distance(&name, key) <= 1 + key.len() / 4).then_some(name)
}

/// Levenshtein's distance: insertions, deletions and replacements of bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, &above) in b.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
