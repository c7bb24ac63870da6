//! Safetensors files: opened as memory maps, checked before any tensor is handed out, and written whole or not at all.
//!
//! The format: eight bytes of header length (little endian), a JSON header of names, types, shapes and byte ranges,
//! then the tensors' bytes without gaps.

mod error;
mod view;
mod write;

#[cfg(test)]
mod tests;

pub use error::{Error, HowNot};
pub use safetensors::Dtype;
pub use view::TensorView;
pub use write::{NewTensor, write};

use memmap2::Mmap;
use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Bytes of the field that holds the header's length.
const LENGTH_BYTES: usize = 8;
/// Longest header that is read, in bytes: the limit of the safetensors library.
const MAX_HEADER: usize = 100_000_000;

/// Where a tensor lies in its file.
#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes from the start of the file.
    bytes: std::ops::Range<usize>,
}

/// An open safetensors file: memory-mapped, its header parsed and checked once.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Maps the file and checks its header: every tensor lies inside the file, with as many bytes as its shape and
    /// type take, without gaps or overlaps.
    ///
    /// # Errors
    /// The file can't be read, is a folder, or is no sound safetensors file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let map = map_file(path)?;
        let not = |how| Error::NotSafetensors { path: path.to_owned(), how };
        let header = parse_header(&map).map_err(|how| not(HowNot::of_content(&map).unwrap_or(how)))?;
        let Header { entries, metadata } = header;
        Ok(Self { path: path.to_owned(), map, entries, metadata })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether a tensor of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, entry) = self.entries.get_key_value(name)?;
        let data = self.map.get(entry.bytes.clone())?;
        Some(TensorView { path: &self.path, name, dtype: entry.dtype, shape: entry.shape.clone(), data })
    }

    /// The header's free text entries (`__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// SHA-256 of the whole file, in lower-case hexadecimal. Reads the whole file.
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(&self.map[..]);
        digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

struct Header {
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[allow(unsafe_code)]
fn map_file(path: &Path) -> Result<Mmap, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    // Asked of the path, before opening: opening a pipe would wait for its writer.
    let facts = fs::metadata(path).map_err(unreadable)?;
    if facts.is_dir() {
        return Err(Error::Folder { path: path.to_owned() });
    }
    // An empty file can't be mapped everywhere; a device or a pipe has no length and counts as empty.
    if facts.len() == 0 {
        return Err(Error::NotSafetensors { path: path.to_owned(), how: HowNot::Empty });
    }
    let file = File::open(path).map_err(unreadable)?;
    // SAFETY: the map is private to this process and only read. Another process that cuts the file short while it is
    // mapped would end this one by SIGBUS, and one that overwrites it would change the numbers read: files of models
    // and networks are replaced by renaming (as `write` does), not edited in place, and no use of the bytes relies on
    // their staying the same for memory safety.
    unsafe { Mmap::map(&file) }.map_err(unreadable)
}

/// Parses and checks the header. Not `SafeTensors::read_metadata`, whose sum of the last offset and the header's
/// length overflows on hostile offsets; its checks per tensor are those of [`Metadata`]'s deserialization, used here.
fn parse_header(file: &[u8]) -> Result<Header, HowNot> {
    let (length, rest) = file.split_first_chunk::<LENGTH_BYTES>().ok_or(HowNot::TooShort { bytes: file.len() })?;
    let length = u64::from_le_bytes(*length);
    let Some(header_bytes) = usize::try_from(length).ok().filter(|length| *length <= MAX_HEADER) else {
        return Err(HowNot::HeaderTooLong { length });
    };
    let cut = HowNot::Cut { bytes: file.len() };
    let header = rest.get(..header_bytes).ok_or(cut)?;
    let header: Metadata = serde_json::from_slice(header).map_err(|error| HowNot::Header(error.to_string()))?;

    let start = LENGTH_BYTES + header_bytes;
    let present = file.len() - start;
    let expected = header.data_len();
    if expected > present {
        return Err(HowNot::Cut { bytes: file.len() });
    } else if expected < present {
        return Err(HowNot::Trailing { bytes: present - expected });
    }
    let entries = header.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        // Both lie in the file: the ranges are ascending and end where the file ends, as checked above.
        let bytes = start + from..start + to;
        (name, Entry { dtype: info.dtype, shape: info.shape.clone(), bytes })
    });
    let entries = entries.collect();
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(Header { entries, metadata })
}
