//! A picture's encoding as a blob: its moments as a safetensors file of one tensor.
//!
//! Such a file has exactly one form for each size, so reading it is comparing its beginning with that form: nothing of
//! what others put into the store is parsed.

use crate::engine::Moments;
use std::io::Write as _;

/// Channels of the moments: means and log variances of the latent's four.
const CHANNELS: usize = 8;
/// Pixels of the picture for each of the latent, in both directions.
const SCALE: usize = 8;
/// What the log variances are clamped to.
const LOG_VARIANCES: std::ops::RangeInclusive<f32> = -30.0..=20.0;

/// Why bytes are no encoding of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Of another size, or of another kind.
    #[error("it is no encoding of a picture of {} x {} pixels", .0.0, .0.1)]
    Form((u32, u32)),
    /// Infinite, or not a number, or of a variance that there is none of.
    #[error("its number {0} is out of range")]
    Value(usize),
}

/// The beginning of the file: the header's length, and the header padded to a multiple of eight bytes.
fn header(height: usize, width: usize) -> Vec<u8> {
    let bytes = 4 * CHANNELS * height * width;
    let text =
        format!(r#"{{"moments":{{"dtype":"F32","shape":[{CHANNELS},{height},{width}],"data_offsets":[0,{bytes}]}}}}"#);
    let length = text.len().next_multiple_of(8);
    let mut header = (length as u64).to_le_bytes().to_vec();
    // Writing to a vector can't fail.
    let _ = write!(header, "{text:length$}");
    header
}

/// The latent's height and width for a bucket's width and height.
fn latent((width, height): (u32, u32)) -> (usize, usize) {
    (height as usize / SCALE, width as usize / SCALE)
}

/// Bytes of the encoding of a picture of this bucket, of width and height in pixels.
pub fn size(bucket: (u32, u32)) -> usize {
    let (height, width) = latent(bucket);
    header(height, width).len() + 4 * CHANNELS * height * width
}

/// The file.
pub fn to_bytes(moments: &Moments) -> Vec<u8> {
    let mut bytes = header(moments.height, moments.width);
    bytes.extend(moments.values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The moments in a file, of a picture of this bucket.
///
/// # Errors
/// It is of another size or form, or a number is out of range.
pub fn from_bytes(bytes: &[u8], bucket: (u32, u32)) -> Result<Moments, Error> {
    let (height, width) = latent(bucket);
    let wrong = Error::Form(bucket);
    let data = bytes.strip_prefix(header(height, width).as_slice()).ok_or(wrong)?;
    let count = CHANNELS * height * width;
    let (numbers, []) = data.as_chunks::<4>() else { return Err(wrong) };
    if numbers.len() != count {
        return Err(wrong);
    }
    let values: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let fits = |(at, value): (usize, &f32)| match at < count / 2 {
        true => value.is_finite(),
        false => LOG_VARIANCES.contains(value),
    };
    match values.iter().enumerate().position(|it| !fits(it)) {
        Some(at) => Err(Error::Value(at)),
        None => Ok(Moments { height, width, values }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lora_rates_common::tensor_file::TensorFile;

    const BUCKET: (u32, u32) = (32, 16);

    fn moments() -> Moments {
        let values = (0..CHANNELS * 2 * 4).map(|at| at as f32 / 7.0 - 3.0).collect();
        Moments { height: 2, width: 4, values }
    }

    #[test]
    fn an_encoding_comes_back_as_it_was() {
        let bytes = to_bytes(&moments());
        assert_eq!(bytes.len(), size(BUCKET));
        assert_eq!(from_bytes(&bytes, BUCKET), Ok(moments()));
    }

    #[test]
    fn it_is_a_safetensors_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encoding.safetensors");
        std::fs::write(&path, to_bytes(&moments())).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let tensor = file.get("moments").unwrap();
        assert_eq!(tensor.shape, [8, 2, 4]);
        assert_eq!(tensor.to_f32().unwrap(), moments().values);
    }

    #[test]
    fn other_sizes_and_forms_are_refused() {
        let bytes = to_bytes(&moments());
        assert_eq!(from_bytes(&bytes, (16, 32)), Err(Error::Form((16, 32))));
        assert_eq!(from_bytes(&bytes[..bytes.len() - 1], BUCKET), Err(Error::Form(BUCKET)));
        assert_eq!(from_bytes(&bytes[..bytes.len() - 4], BUCKET), Err(Error::Form(BUCKET)));
        assert_eq!(from_bytes(&[bytes.clone(), vec![0; 4]].concat(), BUCKET), Err(Error::Form(BUCKET)));
        assert_eq!(from_bytes(b"", BUCKET), Err(Error::Form(BUCKET)));
    }

    #[test]
    fn numbers_that_no_vae_makes_are_refused() {
        for (at, value) in [(0, f32::NAN), (3, f32::INFINITY), (40, f32::NAN), (41, 21.0), (63, -31.0)] {
            let mut moments = moments();
            moments.values[at] = value;
            assert_eq!(from_bytes(&to_bytes(&moments), BUCKET), Err(Error::Value(at)), "{value}");
        }
    }
}
