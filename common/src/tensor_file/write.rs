//! Writing a safetensors file, whole or not at all.

use super::Error;
use safetensors::Dtype;
use serde::Serialize;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct NewTensor<'a> {
    /// Its name; no two may be the same.
    pub name: String,
    /// Type of an element.
    pub dtype: Dtype,
    /// Shape in PyTorch's order.
    pub shape: Vec<usize>,
    /// Its bytes, little endian, the last axis contiguous.
    pub data: Cow<'a, [u8]>,
}

impl NewTensor<'static> {
    /// A tensor of type F32.
    pub fn from_f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), data: Cow::Owned(data) }
    }
}

#[derive(Serialize)]
struct Info<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    data_offsets: (usize, usize),
}

/// Writes the tensors and the free text entries to `path`: first to a file beside it, which then takes its place, so
/// nobody ever sees half a file. The same tensors and metadata give the same bytes.
///
/// # Errors
/// A name appears twice, a shape and type don't give the number of bytes, or the operating system refuses.
pub fn write(path: &Path, tensors: &[NewTensor<'_>], metadata: &BTreeMap<String, String>) -> Result<(), Error> {
    let mut order: Vec<&NewTensor<'_>> = tensors.iter().collect();
    // Large elements first, so that every tensor is aligned to its element; this is also safetensors' own order.
    order.sort_by_key(|tensor| (Reverse(tensor.dtype.bitsize()), tensor.name.as_str()));
    let header = header(path, &order, metadata)?;
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let partial = Partial::beside(path).map_err(failed)?;
    partial.fill(&header, &order).and_then(|()| fs::rename(&partial.path, path)).map_err(failed)
}

/// The length field and the header, padded so that the tensors begin at a multiple of 8.
fn header(path: &Path, order: &[&NewTensor<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, Error> {
    let bad = |tensor: &NewTensor<'_>, what| {
        Err(Error::BadTensor { path: path.to_owned(), tensor: tensor.name.clone(), what })
    };
    let mut infos = BTreeMap::new();
    let mut start = 0usize;
    for tensor in order {
        let elements = tensor.shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        let bits = elements.and_then(|elements| elements.checked_mul(tensor.dtype.bitsize()));
        let Some(end) = bits
            .filter(|bits| Some(*bits) == tensor.data.len().checked_mul(8))
            .and(start.checked_add(tensor.data.len()))
        else {
            return bad(tensor, "has a number of bytes that its shape and type don't give");
        };
        let info = Info { dtype: tensor.dtype, shape: &tensor.shape, data_offsets: (start, end) };
        if tensor.name == "__metadata__" || infos.insert(tensor.name.as_str(), info).is_some() {
            return bad(tensor, "appears twice");
        }
        start = end;
    }
    let failed = |error: serde_json::Error| Error::Write { path: path.to_owned(), source: error.into() };
    let infos = serde_json::to_string(&infos).map_err(failed)?;
    let mut header = infos.into_bytes();
    if !metadata.is_empty() {
        let metadata = serde_json::to_string(metadata).map_err(failed)?;
        let comma = if order.is_empty() { "" } else { "," };
        // The metadata entry goes right behind the opening brace.
        header.splice(1..1, format!("\"__metadata__\":{metadata}{comma}").into_bytes());
    }
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    header.splice(0..0, length);
    Ok(header)
}

/// A file beside the wanted one that is removed unless it has taken that one's place.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn beside(target: &Path) -> io::Result<Self> {
        // Processes in separate containers may share a folder and have the same number: try until a name is free.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = target.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
        loop {
            let count = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut partial = std::ffi::OsString::from(".");
            partial.push(name);
            partial.push(format!(".{}-{count}.partial", std::process::id()));
            let path = target.with_file_name(partial);
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { path, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn fill(&self, header: &[u8], tensors: &[&NewTensor<'_>]) -> io::Result<()> {
        let mut out = BufWriter::new(&self.file);
        out.write_all(header)?;
        for tensor in tensors {
            out.write_all(&tensor.data)?;
        }
        out.flush()?;
        self.file.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename the name is gone and this does nothing; after a failure there is nothing better to do.
        let _ = fs::remove_file(&self.path);
    }
}
