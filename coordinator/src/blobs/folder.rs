//! Where blobs lie on the disk.

use super::Error;
use super::state::State;
use lora_rates_common::convert::BlobKey;
use std::fs::{DirEntry, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Hexadecimal digits of a key.
const DIGITS: usize = 64;
/// Follows the name of what is not whole.
const PART: &str = ".part";
/// A part that nobody has gone on with for so long, or a blob as old that no search needs, is deleted at the next start.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A kind of blobs by its key.
type Kind = fn(String) -> BlobKey;

pub(super) struct Folder {
    root: PathBuf,
    /// Deleted when it is dropped.
    _temporary: Option<TempDir>,
}

impl Folder {
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(root).map_err(|source| Error::io(root, source))?;
        Ok(Self { root: root.to_owned(), _temporary: None })
    }

    pub(super) fn temporary() -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("lora-rates-").tempdir();
        let folder = folder.map_err(|source| Error::io(&std::env::temp_dir(), source))?;
        Ok(Self { root: folder.path().to_owned(), _temporary: Some(folder) })
    }

    /// Where the blob is once it is whole. A key is nothing but digits, so it leads nowhere else.
    pub(super) fn path(&self, key: &BlobKey) -> PathBuf {
        let kind = match key {
            BlobKey::File(_) => "files",
            BlobKey::Encoding(_) => "encodings",
        };
        let digits = key.digits();
        self.root.join(kind).join(digits.get(..2).unwrap_or(digits)).join(digits)
    }

    /// Where it is until then.
    pub(super) fn part(&self, key: &BlobKey) -> PathBuf {
        let mut path = self.path(key).into_os_string();
        path.push(PART);
        path.into()
    }

    /// Gives a whole blob its name, for good.
    pub(super) fn complete(&self, key: &BlobKey, part: &File) -> Result<(), Error> {
        let (from, to) = (self.part(key), self.path(key));
        part.sync_all().map_err(|source| Error::io(&from, source))?;
        std::fs::rename(&from, &to).map_err(|source| Error::io(&to, source))?;
        // The name is on the disk only once its folder is.
        let folder = to.parent().unwrap_or(&self.root);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| Error::io(folder, source))
    }

    /// What there is. Parts that can't be gone on with, or that everyone has forgotten, are deleted.
    pub(super) fn read(&self) -> Result<State, Error> {
        let mut state = State::default();
        for (kind, of_kind) in [("files", BlobKey::File as Kind), ("encodings", BlobKey::Encoding)] {
            for folder in entries(&self.root.join(kind))? {
                for entry in entries(&folder.path())? {
                    read_file(&entry, of_kind, &mut state)?;
                }
            }
        }
        Ok(state)
    }
}

fn read_file(entry: &DirEntry, of_kind: Kind, state: &mut State) -> Result<(), Error> {
    let path = entry.path();
    let failed = |source| Error::io(&path, source);
    let metadata = entry.metadata().map_err(failed)?;
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let (digits, complete) = name.strip_suffix(PART).map_or((&*name, true), |digits| (digits, false));
    let is_key = digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_key || !metadata.is_file() {
        return Ok(()); // not ours
    }
    let key = of_kind(digits.to_owned());
    let age = metadata.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    let old = age.is_some_and(|age| age > FORGOTTEN);
    if !complete && (old || matches!(key, BlobKey::Encoding(_))) {
        return std::fs::remove_file(&path).map_err(failed);
    }
    if complete && old {
        state.old.push(key.clone());
    }
    state.found(key, metadata.len(), complete);
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, Error> {
    match std::fs::read_dir(folder).and_then(Iterator::collect) {
        // Files that someone put between the folders are not ours.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        entries => entries.map_err(|source| Error::io(folder, source)),
    }
}
