//! From the numbers that the picture autoencoder writes to the bytes of a file.

use super::{Pixels, RgbImage};
use image::{ImageError, ImageFormat};
use std::io::Cursor;

/// The picture of these pixels, what is over -1 to 1 cut off; black where there are too few.
#[must_use]
pub fn from_pixels(pixels: &Pixels) -> RgbImage {
    let (width, height) = (pixels.width, pixels.height);
    let plane = width as usize * height as usize;
    RgbImage::from_fn(width, height, |x, y| {
        let at = y as usize * width as usize + x as usize;
        let value = |channel: usize| pixels.data.get(channel * plane + at).copied().unwrap_or(-1.0);
        // Rust's conversion saturates, and makes 0 of what is no number.
        image::Rgb([0, 1, 2].map(|channel| ((value(channel) + 1.0) * 127.5).round() as u8))
    })
}

/// A PNG file of the picture.
///
/// # Errors
/// The picture is empty.
pub fn to_png(picture: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::decode;
    use std::path::Path;

    #[test]
    fn a_picture_is_written_and_read_again() {
        let data = vec![-1.0, 1.0, 0.0, -9.0, 9.0, f32::NAN];
        let picture = from_pixels(&Pixels { width: 2, height: 1, data });
        assert_eq!(picture.clone().into_raw(), [0, 128, 255, 255, 0, 0]);
        let bytes = to_png(&picture).unwrap();
        assert_eq!(decode(&bytes, Path::new("it.png")).unwrap(), picture);
        assert!(to_png(&RgbImage::new(0, 0)).is_err());
    }
}
