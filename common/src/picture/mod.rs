//! Pictures: from the bytes of a file to the numbers that the picture autoencoder reads.
//!
//! A file is decoded upright and opaque ([`decode`]), then scaled, cut to its bucket and perhaps mirrored
//! ([`prepare`]). Both are exact functions of their input, so every worker computes the same pixels.

mod decode;
mod encode;
mod jpeg;
mod resample;
#[cfg(test)]
mod tests;

use crate::dataset::buckets::Fit;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

pub use encode::{from_pixels, to_png};
pub use image::RgbImage;

/// Longest side of a picture or a bucket, in pixels.
pub const MAX_SIDE: u32 = 16384;

/// Most bytes that a file, and a decoded picture, may have.
pub const MAX_BYTES: u64 = 512 << 20;

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the picture {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was taken for a picture.
        path: PathBuf,
    },
    /// The content is of another kind, whatever the file's name says.
    #[error("{} is not a PNG, JPEG or WebP picture: convert or remove it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The content is damaged, cut off, or of a variety that the decoder does not know.
    #[error("the picture {} cannot be decoded: {source}; replace or remove it", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        source: image::ImageError,
    },
    /// The end of a JPEG is missing.
    #[error("the picture {} is cut off: its end is missing; replace or remove it", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
    /// Over [`MAX_SIDE`] or [`MAX_BYTES`].
    #[error("the picture {} is over {MAX_SIDE} pixels a side or 512 MiB: make it smaller", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A fit that no picture can have, which did not come from [`Buckets::fit`](crate::dataset::buckets::Buckets::fit).
    #[error("bucket {bucket:?} at {cut:?} does not lie within the picture resized to {resized:?}")]
    Fit {
        /// Width and height of the bucket.
        bucket: (u32, u32),
        /// Left and top edge of the cut.
        cut: (u32, u32),
        /// Width and height after scaling.
        resized: (u32, u32),
    },
}

/// A picture as the autoencoder's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Pixels in a row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
    /// `[3, height, width]`: red, green and blue from -1 to 1.
    pub data: Vec<f32>,
}

/// The bytes of a picture's file.
///
/// # Errors
/// When it is no regular file, is too large or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    // One byte over the limit tells a file that grew meanwhile.
    let taken = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    taken.map_err(|source| Error::Read { path: path.into(), source })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

/// Width and height of the upright picture, from the file's headers alone: a damaged file may well pass.
///
/// # Errors
/// When the file cannot be read, is no picture or is too large.
pub fn probe(path: &Path) -> Result<(u32, u32), Error> {
    decode::size(BufReader::new(open(path)?), path)
}

/// The upright, opaque picture in a file's bytes: PNG, JPEG or WebP by content, turned as its EXIF orientation says,
/// laid over white where it is transparent, 8 bits per channel. Of a moving picture, the first frame.
///
/// `path` serves only to name the file in errors.
///
/// # Errors
/// When the content is no picture, is damaged or cut off, or is too large.
pub fn decode(bytes: &[u8], path: &Path) -> Result<RgbImage, Error> {
    decode::picture(bytes, path)
}

/// The part of a picture that its bucket shows: scaled to `fit.resized` by area, cut to the bucket, mirrored when
/// `flip` says so; each value is `pixel / 127.5 - 1`.
///
/// # Errors
/// When the cut does not lie within the resized picture, or a side of the bucket is over [`MAX_SIDE`].
pub fn prepare(image: &RgbImage, fit: &Fit, flip: bool) -> Result<Pixels, Error> {
    let (width, height) = fit.bucket;
    let rgb = resample::area(image, fit)?;
    let plane = rgb.len() / 3;
    let columns = width as usize;
    let mut data = vec![0.0; rgb.len()];
    for (channel, plane) in data.chunks_exact_mut(plane.max(1)).enumerate() {
        for (to, from) in plane.chunks_exact_mut(columns).zip(rgb.chunks_exact(3 * columns)) {
            let values = from.iter().skip(channel).step_by(3).map(|&value| f32::from(value) / 127.5 - 1.0);
            to.iter_mut().zip(values).for_each(|(to, value)| *to = value);
            if flip {
                to.reverse();
            }
        }
    }
    Ok(Pixels { width, height, data })
}

/// Opens a regular file of bearable size. Opening a pipe would wait for a writer, so the kind is looked at first.
fn open(path: &Path) -> Result<File, Error> {
    let unreadable = |source| Error::Read { path: path.into(), source };
    let metadata = path.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.into() });
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    File::open(path).map_err(unreadable)
}
