use super::*;
use crate::dataset::buckets::{BucketOptions, Buckets};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, Luma, Rgb, Rgba, RgbaImage};
use safetensors::SafeTensors;

const RED: Rgb<u8> = Rgb([255, 0, 0]);
const BLUE: Rgb<u8> = Rgb([0, 0, 255]);

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { RED } else { BLUE })
}

/// EXIF data, little-endian, with nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut data = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    data.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    data
}

fn encoded(image: &RgbImage, mut encoder: impl ImageEncoder, exif: Option<Vec<u8>>) {
    if let Some(exif) = exif {
        encoder.set_exif_metadata(exif).unwrap();
    }
    encoder.write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8).unwrap();
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_with_encoder(PngEncoder::new(&mut bytes)).unwrap();
    bytes
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoded(image, JpegEncoder::new_with_quality(&mut bytes, 100), None);
    bytes
}

/// A JPEG whose EXIF segment follows the start marker, as cameras write it.
fn jpeg_with_exif(image: &RgbImage, exif: &[u8]) -> Vec<u8> {
    let mut bytes = jpeg(image);
    let length = (2 + 6 + exif.len()) as u16;
    let segment = [&[0xFF, 0xE1], &length.to_be_bytes()[..], b"Exif\0\0", exif].concat();
    bytes.splice(2..2, segment);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<RgbImage, Error> {
    decode(bytes, Path::new("folder/some.png"))
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(lora_rates_test_support::fixture(name)).unwrap()
}

/// A fit that shows the whole picture at this size.
fn whole(width: u32, height: u32) -> Fit {
    let bucket = (width, height);
    Fit { bucket, resized: bucket, cut: (0, 0), crop: (0, 0), crop_flipped: (0, 0) }
}

#[test]
fn scaling_agrees_with_opencv_within_one_and_almost_everywhere_exactly() {
    let source = decoded(&golden("image/resize_source_158x118.png")).unwrap();
    assert_eq!(source.dimensions(), (158, 118));
    let file = golden("image/resize_area.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.len(), 5);
    for (name, expected) in tensors.tensors() {
        let [height, width, 3] = *expected.shape() else { panic!("{name}") };
        let scaled = resample::area(&source, &whole(width as u32, height as u32)).unwrap();
        assert_eq!(scaled.len(), expected.data().len(), "{name}");
        let differences = scaled.iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b));
        let off = differences.clone().filter(|&difference| difference > 0).count();
        assert!(differences.max() <= Some(1), "{name}");
        // Two pixels of 97x73, where OpenCV's f32 sums fall on the other side of a half.
        assert!(off <= 2, "{name}: {off} of {} differ", scaled.len());
    }
}

#[test]
fn pixels_are_those_of_the_golden_autoencoder_input() {
    let file = golden("image/vae.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for name in ["astronaut_64x64.png", "coffee_96x64.png"] {
        let image = decoded(&golden(&format!("image/{name}"))).unwrap();
        let pixels = prepare(&image, &whole(image.width(), image.height()), false).unwrap();
        let key = tensors.names().into_iter().find(|key| key.contains(name) && key.ends_with("input")).unwrap();
        let expected = tensors.tensor(key).unwrap();
        assert_eq!(expected.shape(), [1, 3, pixels.height as usize, pixels.width as usize]);
        let expected = expected.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        for (value, expected) in pixels.data.iter().zip(expected) {
            assert!((value - expected).abs() < 2e-7, "{name}: {value} {expected}");
        }
    }
}

#[test]
fn the_cut_alone_is_what_the_whole_picture_shows_there() {
    let source = decoded(&golden("image/resize_source_158x118.png")).unwrap();
    // Shrunk, enlarged, and one side of each.
    for (width, height) in [(97, 73), (200, 150), (97, 150), (158, 300)] {
        let all = resample::area(&source, &whole(width, height)).unwrap();
        let fit = Fit { bucket: (32, 64), cut: (30, 5), ..whole(width, height) };
        let cut = resample::area(&source, &fit).unwrap();
        assert_eq!(cut.len(), 3 * 32 * 64);
        for (row, line) in cut.chunks_exact(3 * 32).enumerate() {
            let start = ((row + 5) * width as usize + 30) * 3;
            assert_eq!(line, &all[start..start + 3 * 32], "{width}x{height}");
        }
    }
}

#[test]
fn an_even_colour_stays_what_it_is_at_any_scale() {
    for value in [0, 1, 77, 254, 255] {
        let image = RgbImage::from_pixel(61, 47, Rgb([value; 3]));
        for (width, height) in [(1, 1), (7, 45), (61, 47), (62, 48), (64, 40), (500, 311)] {
            let scaled = resample::area(&image, &whole(width, height)).unwrap();
            assert_eq!(scaled.len(), 3 * (width * height) as usize);
            assert!(scaled.iter().all(|&scaled| scaled == value), "{value} at {width}x{height}");
        }
    }
}

#[test]
fn a_flipped_picture_is_mirrored_left_to_right_in_every_channel() {
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, (x + y) as u8]));
    let fit =
        Buckets::new(&BucketOptions { resolution: (64, 64), enable: false, ..Default::default() }).unwrap().fit(64, 64);
    let (plain, flipped) = (prepare(&image, &fit, false).unwrap(), prepare(&image, &fit, true).unwrap());
    assert_ne!(plain, flipped);
    assert_eq!(plain.data[3], 3.0 / 127.5 - 1.0);
    for (a, b) in plain.data.chunks(64).zip(flipped.data.chunks(64)) {
        assert!(a.iter().eq(b.iter().rev()));
    }
}

#[test]
fn a_long_thin_picture_costs_no_more_than_its_cut() {
    // Covering the bucket, this picture would be 16 million rows high.
    let image = RgbImage::from_pixel(1, MAX_SIDE, RED);
    let fit = Buckets::new(&BucketOptions::default()).unwrap().fit(1, MAX_SIDE);
    let pixels = prepare(&image, &fit, false).unwrap();
    assert_eq!((pixels.width, pixels.height), fit.bucket);
    assert!(fit.resized.1 > 4_000_000);
    assert!(pixels.data.iter().all(|&value| value.abs() == 1.0));
}

#[test]
fn a_fit_outside_of_the_picture_is_refused() {
    let image = halves(64, 64);
    let refused = |fit: Fit| matches!(prepare(&image, &fit, false), Err(Error::Fit { .. }));
    assert!(refused(Fit { cut: (1, 0), ..whole(64, 64) }));
    assert!(refused(Fit { cut: (0, u32::MAX), ..whole(64, 64) }));
    assert!(refused(whole(0, 64)));
    assert!(refused(whole(u32::MAX, u32::MAX)));
    assert!(matches!(prepare(&RgbImage::new(0, 0), &whole(64, 64), false), Err(Error::Fit { .. })));
}

#[test]
fn transparent_parts_are_white_and_half_transparent_ones_half_white() {
    let colours = [[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 128], [255, 255, 255, 7]];
    let image = RgbaImage::from_fn(4, 1, |x, _| Rgba(colours[x as usize]));
    let mut webp = Vec::new();
    WebPEncoder::new_lossless(&mut webp).encode(&image, 4, 1, ExtendedColorType::Rgba8).unwrap();
    for bytes in [png(image), webp] {
        let opaque = decoded(&bytes).unwrap();
        let expected = [[10, 20, 30], [255, 255, 255], [127, 177, 255], [255, 255, 255]];
        assert_eq!(opaque.pixels().map(|pixel| pixel.0).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn grey_and_sixteen_bit_pictures_become_eight_bit_colour() {
    let grey = image::GrayImage::from_pixel(2, 2, Luma([77]));
    assert_eq!(decoded(&png(grey)).unwrap().get_pixel(1, 1).0, [77; 3]);
    let deep = image::ImageBuffer::<Luma<u16>, Vec<u16>>::from_pixel(2, 2, Luma([0x8080]));
    assert_eq!(decoded(&png(deep)).unwrap().get_pixel(0, 0).0, [0x80; 3]);
    let deep = image::ImageBuffer::<Rgba<u16>, Vec<u16>>::from_pixel(2, 2, Rgba([0xFFFF, 0, 0, 0xFFFF]));
    assert_eq!(decoded(&png(deep)).unwrap().get_pixel(0, 0), &RED);
}

#[test]
fn exif_orientation_six_turns_the_left_half_up_in_every_format() {
    let image = halves(32, 16);
    let (mut as_png, mut as_webp, mut marked_webp) = (Vec::new(), Vec::new(), Vec::new());
    encoded(&image, PngEncoder::new(&mut as_png), Some(exif(6)));
    encoded(&image, WebPEncoder::new_lossless(&mut as_webp), Some(exif(6)));
    let marked = [b"Exif\0\0", &exif(6)[..]].concat();
    encoded(&image, WebPEncoder::new_lossless(&mut marked_webp), Some(marked));
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.png", as_png),
        ("a.webp", as_webp),
        ("marked.webp", marked_webp),
        ("a.jpg", jpeg_with_exif(&image, &exif(6))),
    ] {
        let upright = decoded(&bytes).unwrap();
        assert_eq!(upright.dimensions(), (16, 32), "{name}");
        let (top, bottom) = (upright.get_pixel(8, 2), upright.get_pixel(8, 29));
        assert!(top[0] > 240 && top[2] < 16 && bottom[0] < 16 && bottom[2] > 240, "{name}");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(probe(&path).unwrap(), (16, 32), "{name}");
    }
}

#[test]
fn every_exif_orientation_brings_the_marked_corner_where_it_belongs() {
    let mut image = RgbImage::from_pixel(32, 16, BLUE);
    for (x, y) in (0..8).flat_map(|x| (0..8).map(move |y| (x, y))) {
        image.put_pixel(x, y, RED);
    }
    // Where the stored top left corner is shown, and whether width and height change places.
    let expected = [
        (1, (0, 0), false),
        (2, (1, 0), false),
        (3, (1, 1), false),
        (4, (0, 1), false),
        (5, (0, 0), true),
        (6, (1, 0), true),
        (7, (1, 1), true),
        (8, (0, 1), true),
    ];
    for (orientation, (right, bottom), turned) in expected {
        let upright = decoded(&jpeg_with_exif(&image, &exif(orientation))).unwrap();
        assert_eq!(upright.dimensions(), if turned { (16, 32) } else { (32, 16) }, "{orientation}");
        let corner = upright.get_pixel(2 + right * (upright.width() - 5), 2 + bottom * (upright.height() - 5));
        assert!(corner[0] > 200 && corner[2] < 60, "{orientation}: {corner:?}");
    }
}

#[test]
fn damaged_exif_data_does_not_cost_the_picture() {
    for data in [vec![], b"II*\0\xFF\xFF\xFF\xFF".to_vec(), exif(0), exif(9), exif(6)[..12].to_vec()] {
        assert_eq!(decoded(&jpeg_with_exif(&halves(32, 16), &data)).unwrap().dimensions(), (32, 16), "{data:?}");
    }
}

#[test]
fn a_picture_cut_off_anywhere_is_an_error_that_names_the_file() {
    let image = decoded(&golden("image/astronaut_64x64.png")).unwrap();
    let mut webp = Vec::new();
    encoded(&image, WebPEncoder::new_lossless(&mut webp), None);
    for bytes in [jpeg(&image), webp] {
        assert!(decoded(&bytes).is_ok());
        for length in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
            let error = decoded(&bytes[..length]).expect_err("a part is no whole");
            assert!(error.to_string().contains("folder/some.png"), "{error}");
        }
    }
    // A PNG ends in 12 bytes without pixels.
    let bytes = png(image);
    for length in (0..bytes.len() - 16).step_by(13) {
        assert!(decoded(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
    }
}

#[test]
fn a_thumbnail_within_a_cut_off_jpeg_does_not_pass_for_its_end() {
    let image = decoded(&golden("image/astronaut_64x64.png")).unwrap();
    let bytes = jpeg_with_exif(&image, &jpeg(&halves(8, 8)));
    assert!(decoded(&bytes).is_ok());
    assert!(matches!(decoded(&bytes[..bytes.len() - 40]), Err(Error::Truncated { .. })));
}

#[test]
fn changed_bytes_never_panic() {
    let image = decoded(&golden("image/astronaut_64x64.png")).unwrap();
    let mut webp = Vec::new();
    encoded(&image, WebPEncoder::new_lossless(&mut webp), Some(exif(6)));
    for bytes in [jpeg_with_exif(&image, &exif(6)), webp, png(image)] {
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x5A;
            let _ = decoded(&changed);
        }
    }
}

#[test]
fn what_is_no_picture_is_refused_whatever_its_name() {
    for bytes in [&b"a caption, not a picture"[..], b"", b"GIF89a\x01\0\x01\0\0\0\0;", b"BM\0\0\0\0\0\0\0\0\0\0"] {
        let error = decoded(bytes).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
    }
}

#[test]
fn a_picture_with_too_long_a_side_is_refused_before_its_pixels_are_read() {
    let bytes = png(image::GrayImage::new(MAX_SIDE + 1, 1));
    assert!(matches!(decoded(&bytes), Err(Error::TooLarge { .. })));
    assert!(decoded(&png(image::GrayImage::new(MAX_SIDE, 1))).is_ok());
    // Headers that promise 16384 x 16384 x 16 bits of RGBA, 2 GiB, and no pixels.
    let mut bytes = png(image::ImageBuffer::<Rgba<u16>, Vec<u16>>::new(1, 1));
    bytes[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
    let checksum = checksum(&bytes[12..29]).to_be_bytes();
    bytes[29..33].copy_from_slice(&checksum);
    assert!(matches!(decoded(&bytes), Err(Error::TooLarge { .. })));
}

/// CRC-32 as PNG chunks carry it.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[test]
fn missing_files_and_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.png");
    assert!(read(&missing).unwrap_err().to_string().contains("missing.png"));
    assert!(matches!(probe(&missing), Err(Error::Read { .. })));
    assert!(matches!(read(folder.path()), Err(Error::NotAFile { .. })));
}
