//! What can go wrong with a safetensors file.

use safetensors::Dtype;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a file can't be read or written as safetensors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refuses.
    #[error("can't read {}: {source}; check the path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A folder stands where a file should.
    #[error("{} is a folder; give a .safetensors file", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The bytes are not a sound safetensors file.
    #[error("{} is no sound safetensors file: {how}", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        how: HowNot,
    },
    /// A tensor's type is none that can be read as f32.
    #[error("{}: tensor {tensor} has type {dtype}; convert it to F16, BF16 or F32", path.display())]
    NotFloat {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor that was to be written is not what it says.
    #[error("can't write {}: tensor {tensor} {what}", path.display())]
    BadTensor {
        /// The file that was to be written.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The operating system refuses.
    #[error("can't write {}: {source}; check the folder and the free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// What makes some bytes no safetensors file. Its text ends in what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HowNot {
    /// No bytes at all.
    Empty,
    /// Less than the header's length field.
    TooShort {
        /// Bytes of the file.
        bytes: usize,
    },
    /// A header length over the limit: the first eight bytes are no length.
    HeaderTooLong {
        /// The length that they say.
        length: u64,
    },
    /// The header promises more bytes than there are.
    Cut {
        /// Bytes of the file.
        bytes: usize,
    },
    /// There are more bytes than the header tells of.
    Trailing {
        /// How many more.
        bytes: usize,
    },
    /// The header is no JSON, or says impossible things about its tensors.
    Header(String),
    /// PyTorch's own format (a zip or a bare pickle): running it can execute code, so it is never read.
    Pickle,
    /// The text that git stores in place of a large file.
    LfsPointer,
    /// The format of llama.cpp.
    Gguf,
}

impl HowNot {
    /// Recognises other kinds of file by their first bytes. Only for files that failed to parse: a header of 640 bytes
    /// begins like a pickle.
    pub(super) fn of_content(file: &[u8]) -> Option<Self> {
        match file {
            [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => Some(Self::Pickle),
            [b'G', b'G', b'U', b'F', ..] => Some(Self::Gguf),
            _ if file.starts_with(b"version https://git-lfs") => Some(Self::LfsPointer),
            _ => None,
        }
    }
}

impl fmt::Display for HowNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const AGAIN: &str = "download or copy it again";
        match self {
            Self::Empty => write!(f, "it is empty; {AGAIN}"),
            Self::TooShort { bytes } => write!(f, "it ends after {bytes} bytes; {AGAIN}"),
            Self::HeaderTooLong { length } => {
                write!(f, "its header would be {length} bytes long; give a .safetensors file")
            }
            Self::Cut { bytes } => write!(f, "it is cut short at {bytes} bytes; {AGAIN}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes follow the last tensor; {AGAIN}"),
            Self::Header(what) => write!(f, "its header is invalid ({what}); {AGAIN}"),
            Self::Pickle => f.write_str("it is a PyTorch pickle (.ckpt, .pt, .bin); convert it to safetensors first"),
            Self::LfsPointer => f.write_str("it is a Git LFS pointer; fetch the file itself with git lfs pull"),
            Self::Gguf => f.write_str("it is a GGUF file; give the safetensors file that it was made from"),
        }
    }
}
