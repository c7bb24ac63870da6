//! Decoding with limits, orientation and transparency.

use super::{Error, MAX_BYTES, MAX_SIDE, RgbImage, jpeg};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb};
use std::io::{BufRead, Cursor, Seek};
use std::path::Path;

/// Width and height after turning, from the headers.
pub(super) fn size(from: impl BufRead + Seek, path: &Path) -> Result<(u32, u32), Error> {
    let (mut decoder, _) = open(from, path)?;
    let (width, height) = decoder.dimensions();
    let on_its_side = matches!(
        orientation(&mut decoder),
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    Ok(if on_its_side { (height, width) } else { (width, height) })
}

/// The whole picture, upright and opaque.
pub(super) fn picture(bytes: &[u8], path: &Path) -> Result<RgbImage, Error> {
    let (mut decoder, format) = open(Cursor::new(bytes), path)?;
    // The decoder fills what is missing of a JPEG with grey instead of failing.
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        return Err(Error::Truncated { path: path.into() });
    }
    if decoder.total_bytes() > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    let orientation = orientation(&mut decoder);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|source| error(source, path))?;
    image.apply_orientation(orientation);
    Ok(over_white(image))
}

/// A decoder for the kind of picture that the content is, whatever the name says.
fn open<'a>(from: impl BufRead + Seek + 'a, path: &Path) -> Result<(impl ImageDecoder + 'a, ImageFormat), Error> {
    let mut reader =
        ImageReader::new(from).with_guessed_format().map_err(|source| Error::Read { path: path.into(), source })?;
    // Another crate of the build may enable further formats in the decoder: they stay closed here.
    let format = match reader.format() {
        Some(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        _ => return Err(Error::Format { path: path.into() }),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|source| error(source, path))?;
    Ok((decoder, format))
}

/// How the picture must be turned. Unreadable EXIF data is no reason to refuse the pixels.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    let exif = decoder.exif_metadata().ok().flatten().unwrap_or_default();
    // Some programs keep JPEG's mark in front of the EXIF data of a WebP or PNG.
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
    Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms)
}

/// Eight bits per channel, without transparency: `alpha * colour + (1 - alpha) * white`, rounded half up.
fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let mut opaque = RgbImage::new(image.width(), image.height());
    for (to, from) in opaque.pixels_mut().zip(image.pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        *to = Rgb([red, green, blue].map(|colour| ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8));
    }
    opaque
}

fn error(source: ImageError, path: &Path) -> Error {
    let path = path.to_path_buf();
    match source {
        ImageError::Limits(_) => Error::TooLarge { path },
        source => Error::Decode { path, source },
    }
}
