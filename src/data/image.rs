//! One photograph: file bytes → header, or → the tensor that the model sees.
//!
//! Pure functions of bytes. Sizes are checked before pixels are decoded, so that a small file cannot claim gigabytes.

use super::Limits;
use super::masks::Seen;
use super::preprocessing::{Channels, Filter, ImagePreprocessing, Layout};
use super::resample::{Axis, resample};
use super::whole;
use crate::graph::Tensor;
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer, images};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use std::io::Cursor;

impl Limits {
    fn of_decoder(&self) -> image::Limits {
        let mut limits = image::Limits::default();
        limits.max_image_width = Some(self.side_max);
        limits.max_image_height = Some(self.side_max);
        limits.max_alloc = Some(self.decoded_bytes_max);
        limits
    }
}

/// Whether the bytes are a photograph that can be used: format and size from the header, and no part of the file missing.
/// Pixels are decoded only of formats whose structure does not tell whether all is there.
///
/// # Errors
/// The reason for leaving it out, for a person to read.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<(), String> {
    let (format, decoder) = decoder(bytes, limits)?;
    match whole::tells(format) {
        true => Ok(()),
        false => decoded(format, decoder).map(drop),
    }
}

/// Width and height in pixels, upright as the EXIF data say, from the header alone.
///
/// # Errors
/// The reason why the bytes are no photograph.
pub fn size(bytes: &[u8], limits: &Limits) -> Result<[u32; 2], String> {
    use image::metadata::Orientation;
    let (_, mut decoder) = decoder(bytes, limits)?;
    let (width, height) = decoder.dimensions();
    Ok(match decoder.orientation() {
        Ok(
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH,
        ) => [height, width],
        _ => [width, height],
    })
}

/// Whether all of a photograph is there, which is looked for in its structure, and by decoding it where its pixels take no more
/// than `decoded_bytes_max`.
///
/// # Errors
/// The reason for leaving it out, for a person to read.
pub fn whole(bytes: &[u8], limits: &Limits, decoded_bytes_max: u64) -> Result<(), String> {
    let (format, decoder) = decoder(bytes, limits)?;
    if decoder.total_bytes() > decoded_bytes_max {
        return Ok(());
    }
    decoded(format, decoder).map(drop)
}

/// Decodes a photograph, turns it upright as its EXIF data say, and gives the tensor that `preprocessing` describes.
///
/// # Errors
/// The reason why the bytes cannot be decoded.
pub fn load(bytes: &[u8], preprocessing: &ImagePreprocessing, limits: &Limits) -> Result<Tensor, String> {
    let (format, mut decoder) = decoder(bytes, limits)?;
    // Damaged EXIF data do not make the pixels worthless.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut decoded = decoded(format, decoder)?;
    decoded.apply_orientation(orientation);
    let (width, height) = (decoded.width(), decoded.height());
    let to = ImagePreprocessing { width: line_width(width, height, preprocessing), ..*preprocessing };
    let pixels = resize(channel_bytes(decoded, preprocessing.channels), width, height, &to)?;
    let seen = normalise(&pixels, &to);
    Ok(if to.width < preprocessing.width { filled_up(&seen, &to, preprocessing) } else { seen })
}

/// How wide a picture of that size becomes: a line of text keeps its proportions where there is room, as PaddleOCR has it.
fn line_width(width: u32, height: u32, to: &ImagePreprocessing) -> u32 {
    if !to.is_line() {
        return to.width;
    }
    let wide = (u64::from(to.height) * u64::from(width)).div_ceil(u64::from(height).max(1));
    u32::try_from(wide).unwrap_or(u32::MAX).clamp(1, to.width)
}

/// A line of text in a wider picture, zeros at its right.
fn filled_up(line: &Tensor, narrow: &ImagePreprocessing, to: &ImagePreprocessing) -> Tensor {
    let values = line.as_slice::<f32>().unwrap_or_default();
    // Of channels that come last a pixel is several numbers.
    let numbers = if to.layout == Layout::Nhwc { to.channels.count() } else { 1 };
    let [from, wide] = [narrow.width, to.width].map(|width| width as usize * numbers);
    let mut filled = vec![0.0f32; values.len() / from.max(1) * wide];
    let rows = filled.chunks_exact_mut(wide).zip(values.chunks_exact(from));
    rows.for_each(|(to, from)| to[..from.len()].copy_from_slice(from));
    Tensor::from_vec(&to.shape(), filled)
}

/// What of a photograph of that size the model sees, across and down.
pub(super) fn seen(width: u32, height: u32, to: &ImagePreprocessing) -> [Seen; 2] {
    let (left, top, box_width, box_height) = source_box(width, height, to);
    [Seen { start: left, length: box_width, end: width }, Seen { start: top, length: box_height, end: height }]
}

/// The formats that are read. Of one with several pictures, such as a moving GIF, it is the first.
const FORMATS: &[ImageFormat] = &[
    ImageFormat::Bmp,
    ImageFormat::Jpeg,
    ImageFormat::Png,
    #[cfg(feature = "more-images")]
    ImageFormat::Gif,
    #[cfg(feature = "more-images")]
    ImageFormat::Tiff,
    #[cfg(feature = "more-images")]
    ImageFormat::WebP,
];
/// The same in words.
const READ: &str = if cfg!(feature = "more-images") {
    "JPEG, PNG, WebP, BMP, GIF and TIFF are read"
} else {
    "JPEG, PNG and BMP are read by this build, which is without the feature `more-images`"
};

/// A format's name as people write it.
fn name(format: ImageFormat) -> String {
    match format {
        ImageFormat::WebP => "WebP".into(),
        other => format!("{other:?}").to_uppercase(),
    }
}

fn decoded(format: ImageFormat, decoder: impl ImageDecoder) -> Result<DynamicImage, String> {
    DynamicImage::from_decoder(decoder).map_err(|error| problem(format, &error))
}

/// What is wrong with a file, for a person to read: decoders tell it in words of their own.
fn problem(format: ImageFormat, error: &ImageError) -> String {
    let name = name(format);
    let ends_early = |error: &dyn std::error::Error| {
        const WORDS: [&str; 5] = ["fill whole buffer", "unexpected end", "eof", "end of file", "not enough data"];
        let words = error.to_string().to_lowercase();
        WORDS.iter().any(|part| words.contains(part))
    };
    match error {
        ImageError::Limits(_) => format!("the {name} image takes too much memory; scale it down"),
        ImageError::Unsupported(_) => {
            format!("a {name} file of a kind that is not read ({error}); save it as PNG or JPEG")
        }
        error if ends_early(error) => format!("the {name} file ends early"),
        error => format!("the {name} file is damaged ({error})"),
    }
}

/// What a file that is no photograph for this program may be instead, with what to do about it.
fn not_read(bytes: &[u8], format: Option<ImageFormat>) -> String {
    // ISO base media files: the brands that a file is compatible with (ISO/IEC 14496-12, 23008-12).
    let brands = bytes.get(4..).and_then(|rest| rest.strip_prefix(b"ftyp"));
    let brands = brands.map(|rest| &rest[..rest.len().min(32)]).unwrap_or_default();
    let has = |brand: &[u8; 4]| brands.chunks_exact(4).any(|found| found == brand);
    if [b"heic", b"heix", b"heim", b"heis", b"hevc"].into_iter().any(has) {
        return "a HEIC photograph, as iPhones take them; convert it to JPEG, or set the camera to Most Compatible \
                (Settings, Camera, Formats)"
            .into();
    }
    match format {
        _ if has(b"avif") => format!("AVIF image; {READ}, convert it"),
        Some(other) => format!("{} image; {READ}, convert it", name(other)),
        None => "not an image".into(),
    }
}

fn decoder<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(ImageFormat, impl ImageDecoder + 'a), String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let format = reader.format().filter(|format| FORMATS.contains(format));
    let format = format.ok_or_else(|| not_read(bytes, reader.format()))?;
    reader.limits(limits.of_decoder());
    let decoder = reader.into_decoder().map_err(|error| problem(format, &error))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err("an image without pixels".into());
    }
    if decoder.total_bytes() > limits.decoded_bytes_max || width.max(height) > limits.side_max {
        return Err(format!("{width}×{height} pixels are too many; scale the image down"));
    }
    whole::complete(format, bytes)?;
    Ok((format, decoder))
}

/// 8-bit samples, interleaved. Luma is rounded as Pillow's `convert("L")` does, so that models trained there see the
/// same numbers.
fn channel_bytes(decoded: DynamicImage, channels: Channels) -> Vec<u8> {
    match (channels, decoded) {
        (Channels::Rgb, decoded) => decoded.into_rgb8().into_raw(),
        (Channels::Grey, DynamicImage::ImageLuma8(grey)) => grey.into_raw(),
        (Channels::Grey, decoded) => {
            let luma = |[r, g, b]: [u32; 3]| ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8;
            decoded.into_rgb8().pixels().map(|pixel| luma(pixel.0.map(u32::from))).collect()
        }
    }
}

/// The part of the source, in source pixels, that becomes the crop: left, top, width, height.
///
/// Sizes are rounded as torchvision's `Resize` and `CenterCrop` round them. Only this part is resampled: a very long
/// image costs no more than a square one.
fn source_box(width: u32, height: u32, to: &ImagePreprocessing) -> (f64, f64, f64, f64) {
    if to.resize == 0 || to.is_line() {
        return (0.0, 0.0, width.into(), height.into());
    }
    let (crop_width, crop_height) = (f64::from(to.width), f64::from(to.height));
    let (width, height) = (f64::from(width), f64::from(height));
    let margin = f64::from(to.resize) / crop_width.min(crop_height);
    let (cover_width, cover_height) = ((crop_width * margin).floor(), (crop_height * margin).floor());
    let by_width = width * cover_height <= height * cover_width;
    let (full_width, full_height) = if by_width {
        (cover_width, (height * cover_width / width).floor().max(cover_height))
    } else {
        ((width * cover_height / height).floor().max(cover_width), cover_height)
    };
    let left = ((full_width - crop_width) / 2.0).round_ties_even();
    let top = ((full_height - crop_height) / 2.0).round_ties_even();
    let (across, down) = (width / full_width, height / full_height);
    let (left, top) = (left * across, top * down);
    (left, top, within(left, crop_width * across, width), within(top, crop_height * down, height))
}

/// The length, shortened by what rounding pushes past the edge: the resizer refuses a box that is not inside.
fn within(start: f64, mut length: f64, edge: f64) -> f64 {
    while start + length > edge {
        length = length.next_down();
    }
    length
}

/// The part of an image that is cut out, in the size that it is to have.
fn resize(pixels: Vec<u8>, width: u32, height: u32, to: &ImagePreprocessing) -> Result<Vec<u8>, String> {
    match to.channels {
        Channels::Rgb => resize_as::<U8x3>(pixels, width, height, to),
        Channels::Grey => resize_as::<U8>(pixels, width, height, to),
    }
}

/// With the type of pixel known when this is compiled: the crate's other way brings the code of all its types, a quarter of
/// the program.
fn resize_as<P: PixelTrait>(
    pixels: Vec<u8>,
    width: u32,
    height: u32,
    to: &ImagePreprocessing,
) -> Result<Vec<u8>, String> {
    let (left, top, box_width, box_height) = source_box(width, height, to);
    if to.filter != Filter::Bilinear {
        let across = Axis { start: left, length: box_width, count: to.width, end: width };
        let down = Axis { start: top, length: box_height, count: to.height, end: height };
        return Ok(resample(&pixels, to.channels.count(), [across, down], to.filter));
    }
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, box_width, box_height);
    let source =
        images::Image::from_vec_u8(width, height, pixels, P::pixel_type()).map_err(|error| error.to_string())?;
    let mut target = images::Image::new(to.width, to.height, P::pixel_type());
    let (from, mut into) = source.typed_image::<P>().zip(target.typed_image_mut::<P>()).expect("images of that type");
    Resizer::new().resize_typed(&from, &mut into, &options).map_err(|error| error.to_string())?;
    Ok(target.into_vec())
}

/// `(p · scale − mean) / std` for each 8-bit value, and the order of axes. In f32, as inference code computes it; only
/// 256 values a channel exist, so they are computed once and looked up.
fn normalise(pixels: &[u8], to: &ImagePreprocessing) -> Tensor {
    let table = |channel: usize| -> Vec<f32> {
        (0..=255u8).map(|value| (f32::from(value) * to.scale - to.mean[channel]) / to.std[channel]).collect()
    };
    let channels = to.channels.count();
    let tables: Vec<Vec<f32>> = (0..channels).map(table).collect();
    let values: Vec<f32> = match to.layout {
        Layout::Nhwc => pixels
            .chunks_exact(channels)
            .flat_map(|pixel| pixel.iter().zip(&tables).map(|(value, table)| table[usize::from(*value)]))
            .collect(),
        Layout::Nchw => (0..channels)
            .flat_map(|channel| {
                let table = &tables[channel];
                pixels.iter().skip(channel).step_by(channels).map(|value| table[usize::from(*value)])
            })
            .collect(),
    };
    Tensor::from_vec(&to.shape(), values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_crop_is_the_centre() {
        let to = ImagePreprocessing::new(100, 100);
        assert_eq!(source_box(200, 100, &to), (50.0, 0.0, 100.0, 100.0));
        assert_eq!(source_box(100, 300, &to), (0.0, 100.0, 100.0, 100.0));
        let wide = ImagePreprocessing::new(200, 100);
        assert_eq!(source_box(400, 400, &wide), (0.0, 100.0, 400.0, 200.0));
        let margin = ImagePreprocessing { resize: 128, ..to };
        assert_eq!(source_box(256, 256, &margin), (28.0, 28.0, 200.0, 200.0));
        let stretched = ImagePreprocessing { resize: 0, ..to };
        assert_eq!(source_box(256, 300, &stretched), (0.0, 0.0, 256.0, 300.0));
    }

    #[test]
    fn normalises_by_the_formula_in_both_layouts() {
        let mut to = ImagePreprocessing::new(2, 1);
        to.scale = 0.5;
        to.mean = [0.0, 0.5, 1.0];
        to.std = [1.0, 0.5, 2.0];
        let pixels = [0, 1, 2, 3, 4, 5];
        let planes = normalise(&pixels, &to);
        assert_eq!(planes.shape, [3, 1, 2]);
        assert_eq!(planes.to_f32().unwrap(), [0.0, 1.5, 0.0, 3.0, 0.0, 0.75]);
        to.layout = Layout::Nhwc;
        let interleaved = normalise(&pixels, &to);
        assert_eq!(interleaved.shape, [1, 2, 3]);
        assert_eq!(interleaved.to_f32().unwrap(), [0.0, 0.0, 0.0, 1.5, 3.0, 0.75]);
    }

    #[test]
    fn a_line_keeps_its_proportions_and_is_filled_up() {
        let to = ImagePreprocessing { resize: ImagePreprocessing::AS_LINE, ..ImagePreprocessing::new(8, 2) };
        assert_eq!(line_width(6, 4, &to), 3);
        assert_eq!(line_width(7, 4, &to), 4, "rounded up");
        assert_eq!(line_width(90, 4, &to), 8, "as narrow as there is room");
        let narrow = ImagePreprocessing { width: 1, ..to };
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let (narrow, to) = (ImagePreprocessing { layout, ..narrow }, ImagePreprocessing { layout, width: 2, ..to });
            let line = normalise(&[255, 0, 255, 0, 255, 0], &narrow);
            let filled = filled_up(&line, &narrow, &to).to_f32().unwrap();
            let expected = match layout {
                Layout::Nchw => [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0],
                Layout::Nhwc => [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            };
            assert_eq!(filled, expected, "{layout:?}");
        }
    }

    proptest! {
        #[test]
        fn every_shape_is_cropped_inside(
            source in (1u32..20_000, 1u32..20_000), size in (1u32..600, 1u32..600), margin in 0u32..100,
        ) {
            let to = ImagePreprocessing { resize: size.0.min(size.1) + margin, ..ImagePreprocessing::new(size.0, size.1) };
            let (left, top, width, height) = source_box(source.0, source.1, &to);
            prop_assert!(left >= 0.0 && top >= 0.0 && width > 0.0 && height > 0.0);
            prop_assert!(left + width <= source.0.into() && top + height <= source.1.into());
            // The crop keeps its proportions, but for torchvision's whole-pixel sizes and very thin images.
            let stretch = (width / height) / (f64::from(size.0) / f64::from(size.1));
            let coarse = f64::from(size.0.min(size.1));
            prop_assert!((stretch - 1.0).abs() <= 2.0 / coarse, "stretched by {}", stretch);
        }

        #[test]
        fn thin_images_are_resized(source in (1u32..4, 500u32..1500), turned: bool) {
            let (width, height) = if turned { (source.1, source.0) } else { source };
            let to = ImagePreprocessing::new(32, 24);
            let pixels = vec![7; (width * height * 3) as usize];
            prop_assert_eq!(resize(pixels, width, height, &to).unwrap(), vec![7; 32 * 24 * 3]);
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(
            png: bool, cut in 0usize..32_000, damage in prop::collection::vec((0usize..11_000, any::<u8>()), 0..8),
        ) {
            let whole: &[u8] = match png {
                true => include_bytes!("../../tests/goldens/images/mosaic.png"),
                false => include_bytes!("../../tests/goldens/images/mosaic.jpg"),
            };
            let mut bytes = whole[..whole.len() - cut.min(whole.len() - 1) / 16].to_vec();
            for (place, value) in damage {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            let limits = Limits { side_max: 2000, ..Limits::default() };
            if let Ok(tensor) = load(&bytes, &ImagePreprocessing::new(16, 16), &limits) {
                prop_assert_eq!(tensor.shape, vec![3, 16, 16]);
            }
        }
    }
}
