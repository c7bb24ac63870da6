//! Why a dataset cannot be used.

use super::{buckets, folder::MAX_REPEATS};
use crate::picture;
use std::io;
use std::path::PathBuf;

/// Why a dataset cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket options make no sense.
    #[error(transparent)]
    Buckets(#[from] buckets::Error),
    /// A picture cannot be read.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// A folder cannot be listed; there may be none of this name, or a file.
    #[error("cannot read {}, expected a folder of pictures: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No pictures.
    #[error(
        "no pictures in {}: expected .png, .jpg, .jpeg or .webp files there, or in folders named N_class in it, \
         such as 5_cat for five repeats", path.display()
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Both layouts at once.
    #[error(
        "both a picture, {}, and a folder named N_class, {}: move the picture into such a folder, or give that alone",
        picture.display(), folder.display()
    )]
    Both {
        /// A picture beside the folder.
        picture: PathBuf,
        /// A folder named N_class with pictures.
        folder: PathBuf,
    },
    /// The N of a folder `N_class`.
    #[error("the number of repeats in the name of {} must be 1 to {MAX_REPEATS}: rename the folder", path.display())]
    Repeats {
        /// The folder.
        path: PathBuf,
    },
    /// A name that cannot be written into a search's description.
    #[error("the name of {} is not UTF-8: rename it", path.display())]
    Name {
        /// The picture.
        path: PathBuf,
    },
    /// A held-out picture that is trained on.
    #[error(
        "{} has the same content as {}, which is trained on: take one of them away, or the held-out loss says nothing",
        held_out.display(), trained.display()
    )]
    Trained {
        /// The held-out picture.
        held_out: PathBuf,
        /// The other.
        trained: PathBuf,
    },
    /// No extension.
    #[error("{0:?} is no caption extension: expected one such as .txt")]
    CaptionExtension(String),
    /// A caption file cannot be read.
    #[error("cannot read the caption {}: {source}", path.display())]
    Caption {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A caption file is in another encoding.
    #[error("the caption {} is not UTF-8: save it as UTF-8", path.display())]
    CaptionEncoding {
        /// The file.
        path: PathBuf,
    },
    /// A caption file is over any length that a caption can have.
    #[error("the caption {} is over {} KiB: is it a caption?", path.display(), limit >> 10)]
    CaptionTooLong {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
}
