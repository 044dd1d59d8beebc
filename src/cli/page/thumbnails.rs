//! Small pictures of samples, as text that lies in a page.

use crate::data::{ImagePreprocessing, Layout, Limits, decode_photograph};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Width and height of what is cut out of the middle.
const SIDE: u32 = 112;
/// Bytes up to which a file is shown as it is.
const SMALL_BYTES: usize = 16 << 10;
/// Bytes of a file that is read for it.
const BYTES_MAX: u64 = 64 << 20;

/// By name a `data:` URI of each sample that is a picture; what is none, or cannot be read, is left out.
pub fn thumbnails<'n>(names: impl IntoIterator<Item = &'n str>) -> HashMap<String, String> {
    names.into_iter().filter_map(|name| Some((name.to_string(), thumbnail(Path::new(name))?))).collect()
}

fn thumbnail(path: &Path) -> Option<String> {
    if !fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= BYTES_MAX) {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    // What cannot be decoded here is not shown there.
    let small = small(&bytes)?;
    let (kind, bytes) = match shown_by_browsers(&bytes) {
        Some(kind) if bytes.len() <= SMALL_BYTES => (kind, bytes),
        _ => ("png", small),
    };
    Some(format!("data:image/{kind};base64,{}", STANDARD.encode(&bytes)))
}

/// The kind of a picture, by its first bytes, where every browser shows it.
fn shown_by_browsers(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [b'G', b'I', b'F', b'8', ..] => Some("gif"),
        _ => None,
    }
}

/// The middle of a picture as a PNG of [`SIDE`] pixels.
fn small(bytes: &[u8]) -> Option<Vec<u8>> {
    let as_seen = ImagePreprocessing { scale: 1.0, layout: Layout::Nhwc, ..ImagePreprocessing::new(SIDE, SIDE) };
    let pixels = decode_photograph(bytes, &as_seen, &Limits::default()).ok()?.to_f32()?;
    let pixels: Vec<u8> = pixels.into_iter().map(|value| value as u8).collect();
    let mut written = Vec::new();
    let mut encoder = png::Encoder::new(&mut written, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photograph_is_small_and_what_is_none_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let (photo, large, text) = (file("a.png"), file("b.bmp"), file("c.png"));
        image::RgbImage::from_pixel(64, 48, image::Rgb([200, 30, 30])).save(&photo).unwrap();
        image::RgbImage::from_pixel(640, 480, image::Rgb([200, 30, 30])).save(&large).unwrap();
        fs::write(&text, "no picture").unwrap();
        let names = [photo.to_str().unwrap(), large.to_str().unwrap(), text.to_str().unwrap(), "missing.png"];
        let found = thumbnails(names);
        assert_eq!(found.len(), 2);
        assert_eq!(found[names[0]], format!("data:image/png;base64,{}", STANDARD.encode(fs::read(&photo).unwrap())));
        let bytes = STANDARD.decode(found[names[1]].strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let shown = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!((shown.dimensions(), shown.get_pixel(50, 50).0), ((SIDE, SIDE), [200, 30, 30]));
    }
}
