//! The folder `NAME-state`, in which a search is kept until it is done: the coordinator's store, and what it was asked.

use crate::output::file::replace;
use lora_rates_common::spec::SearchSpec;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file that holds the specification; a folder without it holds no search.
const SPEC_FILE: &str = "search.json";

/// What can be wrong with the folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The operating system refuses.
    #[error("can't {what} {}: {source}; check --output_dir", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file was changed or cut.
    #[error("{} is damaged ({what}); pass --overwrite to start anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A folder of this name that no search made.
    #[error("{} is not the state of a search: move it away, or give another --output_name", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
}

/// The state of one search on disk.
#[derive(Clone, Debug)]
pub(super) struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// `OUTPUT_DIR/NAME-state`; nothing is made yet.
    pub(super) fn new(output_dir: &Path, name: &str) -> Self {
        Self { path: output_dir.join(format!("{name}-state")) }
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a search was made in it.
    pub(super) fn holds_search(&self) -> bool {
        self.path.join(SPEC_FILE).exists()
    }

    /// What the search in it was asked; `None` if it holds none.
    ///
    /// # Errors
    /// It can't be read, is damaged, or is another kind of folder.
    pub(super) fn stored(&self) -> Result<Option<SearchSpec>, Error> {
        let path = self.path.join(SPEC_FILE);
        let text = match fs::read(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return self.refuse_foreign().map(|()| None),
            text => text.map_err(|source| Error::Io { what: "read", path: path.clone(), source })?,
        };
        let spec = serde_json::from_slice(&text);
        spec.map(Some).map_err(|error| Error::Damaged { path, what: error.to_string() })
    }

    /// Makes the folder and writes down what the search is asked, before anything else is kept in it.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(super) fn create(&self, spec: &SearchSpec) -> Result<(), Error> {
        let refused = |source| Error::Io { what: "write", path: self.path.join(SPEC_FILE), source };
        fs::create_dir_all(&self.path).map_err(|source| Error::Io { what: "make", path: self.path.clone(), source })?;
        let text = serde_json::to_vec_pretty(spec).map_err(|error| refused(error.into()))?;
        replace(&self.path.join(SPEC_FILE), &text).map_err(refused)
    }

    /// Removes the folder with all that is in it, if it is the state of a search.
    ///
    /// # Errors
    /// The operating system refuses, or it is another kind of folder.
    pub(super) fn remove(&self) -> Result<(), Error> {
        if !self.holds_search() {
            return self.refuse_foreign();
        }
        fs::remove_dir_all(&self.path).map_err(|source| Error::Io { what: "remove", path: self.path.clone(), source })
    }

    /// A folder without a specification must be empty: anything else is not ours to write in or to remove.
    fn refuse_foreign(&self) -> Result<(), Error> {
        match fs::read_dir(&self.path).map(|mut entries| entries.next().is_none()) {
            Ok(false) => Err(Error::Foreign { path: self.path.clone() }),
            Ok(true) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Io { what: "read", path: self.path.clone(), source }),
        }
    }
}
