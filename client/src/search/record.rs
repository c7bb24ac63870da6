//! The file `NAME-remote.json`: which search of which coordinator the results in a folder belong to.

use crate::output::file::replace;
use anyhow::Context as _;
use lora_rates_common::spec::SearchSpec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A search that a coordinator was given. Whoever watches it later has from here what the coordinator doesn't tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The coordinator's address.
    pub(crate) coordinator: String,
    /// The search's identifier.
    pub(crate) search_id: String,
    /// What it is made of, with the paths of this machine.
    pub(crate) spec: SearchSpec,
}

impl Record {
    fn path(output_dir: &Path, name: &str) -> PathBuf {
        output_dir.join(format!("{name}-remote.json"))
    }

    /// Writes it beside the results.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(crate) fn save(&self, output_dir: &Path, name: &str) -> anyhow::Result<()> {
        let path = Self::path(output_dir, name);
        let write = || {
            std::fs::create_dir_all(output_dir)?;
            replace(&path, &serde_json::to_vec_pretty(self)?)
        };
        write().with_context(|| format!("can't write {}; check --output_dir", path.display()))
    }

    /// What the search is made of, if a record beside the results is of this search.
    pub(crate) fn spec_of(search_id: &str, output_dir: &Path, name: &str) -> Option<SearchSpec> {
        let text = std::fs::read(Self::path(output_dir, name)).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        (record.search_id == search_id).then_some(record.spec)
    }
}
