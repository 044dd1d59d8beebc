//! Small pictures of samples, as text that lies in a page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageReader, Limits};
use std::collections::HashMap;
use std::path::Path;

/// The longer side.
const SIDE: u32 = 160;
const QUALITY: u8 = 80;
/// Bytes that a picture may take while it is read.
const BYTES_MAX: u64 = 256 << 20;

/// By name a `data:` URI of each sample that is a picture; what is none, or cannot be read, is left out.
pub fn thumbnails<'n>(names: impl IntoIterator<Item = &'n str>) -> HashMap<String, String> {
    names.into_iter().filter_map(|name| Some((name.to_string(), thumbnail(Path::new(name))?))).collect()
}

fn thumbnail(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let mut reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(BYTES_MAX);
    reader.limits(limits);
    let small = reader.decode().ok()?.thumbnail(SIDE, SIDE).to_rgb8();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&small).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photograph_is_small_and_what_is_none_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (photo, text) = (folder.path().join("a.png"), folder.path().join("b.png"));
        image::RgbImage::from_pixel(640, 480, image::Rgb([200, 30, 30])).save(&photo).unwrap();
        std::fs::write(&text, "no picture").unwrap();
        let names = [photo.to_str().unwrap(), text.to_str().unwrap(), "missing.png"];
        let found = thumbnails(names);
        assert_eq!(found.len(), 1);
        let picture = &found[names[0]];
        assert!(picture.starts_with("data:image/jpeg;base64,") && picture.len() < 8000, "{}", picture.len());
    }
}
