//! Whether all of a photograph's file is there, told by its structure alone: no pixel is decoded.
//!
//! Where a JPEG ends early, decoders make up the rest in grey. What is refused here is what a strict one refuses, such as
//! Pillow's: a copy that was interrupted, a full disk, a damaged card.

use image::ImageFormat;

/// Whether [`complete`] finds out that a file of this format ends early; of the others only decoding tells.
pub(super) fn tells(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)
}

/// Walks through a file of this format, whose header has been read.
///
/// # Errors
/// What is missing, for a person to read.
pub(super) fn complete(format: ImageFormat, bytes: &[u8]) -> Result<(), String> {
    let problem = match format {
        ImageFormat::Jpeg => jpeg(bytes).is_none().then_some("the JPEG file ends early"),
        ImageFormat::Png => png(bytes).err(),
        ImageFormat::WebP => (riff(bytes) > bytes.len() as u64).then_some("the WebP file ends early"),
        _ => None,
    };
    problem.map_or(Ok(()), |problem| Err(problem.into()))
}

/// The place behind a JPEG's end (ITU-T T.81, annex B): segments that tell their length, and scans up to the next marker.
fn jpeg(bytes: &[u8]) -> Option<usize> {
    const END: u8 = 0xd9;
    let mut at = 2;
    loop {
        // Bytes that are no marker are passed over, as decoders do; markers may be preceded by more 0xff.
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        at += bytes[at..].iter().position(|byte| *byte != 0xff)? + 1;
        match bytes[at - 1] {
            END => return Some(at),
            // Within a scan, 0xff 0x00 is a byte of data, and restarts may come anywhere.
            0 | 1 | 0xd0..=0xd8 => {}
            _ => {
                let length = u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]);
                at += usize::from(length.max(2));
            }
        }
    }
}

/// Whether a PNG's chunks go on to its last one, and those that pixels are made from are as they were written (PNG specification,
/// section 5).
fn png(bytes: &[u8]) -> Result<(), &'static str> {
    const EARLY: &str = "the PNG file ends early";
    let mut rest = bytes.get(8..).ok_or(EARLY)?;
    loop {
        let (length, chunk) = rest.split_at_checked(4).ok_or(EARLY)?;
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let (content, behind) = length.checked_add(4).and_then(|end| chunk.split_at_checked(end)).ok_or(EARLY)?;
        let (sum, behind) = behind.split_at_checked(4).ok_or(EARLY)?;
        let needed = content[0].is_ascii_uppercase();
        if needed && crc32fast::hash(content).to_be_bytes() != sum {
            return Err("the PNG file is damaged: a checksum in it does not fit");
        }
        if content.starts_with(b"IEND") {
            return Ok(());
        }
        rest = behind;
    }
}

/// The bytes that a WebP file says to have (RFC 9649, section 2.4).
fn riff(bytes: &[u8]) -> u64 {
    bytes.get(4..8).map_or(u64::MAX, |size| 8 + u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOSAIC: &[u8] = include_bytes!("../../tests/goldens/images/mosaic.png");
    const MOSAIC_JPEG: &[u8] = include_bytes!("../../tests/goldens/images/mosaic.jpg");

    #[test]
    fn only_the_whole_file_is_complete() {
        for (format, bytes) in [(ImageFormat::Png, MOSAIC), (ImageFormat::Jpeg, MOSAIC_JPEG)] {
            assert_eq!(complete(format, bytes), Ok(()));
            assert_eq!(complete(format, &[bytes, b"what a camera appends"].concat()), Ok(()));
            for length in 2..bytes.len() {
                let problem = complete(format, &bytes[..length]).unwrap_err();
                assert!(problem.contains("ends early"), "{length} of {}: {problem}", bytes.len());
            }
            // A card that was pulled out too early leaves zeros.
            let zeros = [&bytes[..bytes.len() / 2], &vec![0; bytes.len() / 2][..]].concat();
            assert!(complete(format, &zeros).is_err());
        }
        let mut flipped = MOSAIC.to_vec();
        flipped[MOSAIC.len() / 2] ^= 1;
        assert!(complete(ImageFormat::Png, &flipped).unwrap_err().contains("checksum"));
    }

    #[test]
    fn a_preview_within_a_photograph_is_not_its_end() {
        // A whole JPEG in a segment of the outer one, as cameras put their previews.
        let preview = [&MOSAIC_JPEG[..2], b"\xff\xda\x00\x02\xff\xd9"].concat();
        let segment = [b"\xff\xe1", &(preview.len() as u16 + 2).to_be_bytes()[..], &preview].concat();
        let photograph = [&MOSAIC_JPEG[..2], &segment, &MOSAIC_JPEG[2..]].concat();
        assert_eq!(complete(ImageFormat::Jpeg, &photograph), Ok(()));
        for length in [segment.len(), segment.len() + 2, segment.len() + 30, photograph.len() - 2] {
            assert!(complete(ImageFormat::Jpeg, &photograph[..length]).is_err(), "{length}");
        }
    }
}
