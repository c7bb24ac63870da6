//! Whether a JPEG has its end.

/// Whether the end-of-image marker stands where the chain of segments leads. It is not enough to look for its two
/// bytes anywhere: EXIF data may hold a whole small JPEG.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        // Within compressed data 0xFF is followed by 0 or a restart marker, so the next other marker ends the scan.
        let Some(start) = rest.iter().position(|&byte| byte == 0xFF) else { return false };
        rest = &rest[start..];
        let skip = match rest.get(1) {
            None => return false,
            Some(0xD9) => return true,
            Some(0xFF) => 1,
            Some(0x00 | 0x01 | 0xD0..=0xD8) => 2,
            Some(_) => match rest.get(2..4) {
                Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        };
        let Some(next) = rest.get(skip..) else { return false };
        rest = next;
    }
}
