//! A mask's PNG → a class number a pixel: the places in its palette, or its grey values, as they are stored.
//!
//! A decoder of pictures would turn both into colours, of which nobody could say any more which class they were.

use super::Limits;
use png::{ColorType, Decoder, Transformations};
use std::io::Cursor;

/// A mask of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indices {
    pub width: u32,
    pub height: u32,
    /// A class number a pixel, row by row.
    pub pixels: Vec<u8>,
}

const NO_PNG: &str =
    "no PNG; a mask holds a class number a pixel, which other formats blur: save it as PNG, with a palette or in grey";

/// Reads a mask.
///
/// # Errors
/// Why it is none, with what to do about it.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Indices, String> {
    if !bytes.starts_with(b"\x89PNG") {
        return Err(NO_PNG.into());
    }
    let mut decoder = Decoder::new_with_limits(
        Cursor::new(bytes),
        png::Limits { bytes: usize::try_from(limits.decoded_bytes_max).unwrap_or(usize::MAX) },
    );
    decoder.set_transformations(Transformations::IDENTITY);
    let damaged = |error: png::DecodingError| format!("damaged ({error}); save the mask again");
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = reader.info().size();
    let too_large = format!("{width}×{height} pixels are too many; scale picture and mask down");
    if width.max(height) > limits.side_max {
        return Err(too_large);
    }
    let size = reader.output_buffer_size().filter(|size| *size as u64 <= limits.decoded_bytes_max).ok_or(too_large)?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer).map_err(damaged)?;
    let depth = frame.bit_depth as usize;
    let lines = buffer.chunks_exact(frame.line_size).take(height as usize);
    let samples = match frame.color_type {
        ColorType::Grayscale | ColorType::Indexed => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
    };
    let mut pixels = Vec::with_capacity(width as usize * height as usize);
    for line in lines {
        for column in 0..width as usize {
            let value = |sample: usize| value(line, column * samples + sample, depth);
            if samples > 2 && (value(0) != value(1) || value(0) != value(2)) {
                return Err("in colours, of which nothing says which class each is; save it as PNG with a palette or in grey, the class \
                            number as each pixel's value"
                    .into());
            }
            pixels.push(u8::try_from(value(0)).map_err(|_| {
                format!(
                    "a pixel of value {}, where classes are 0 to 254 and 255 does not count; save it with 8 bits",
                    value(0)
                )
            })?);
        }
    }
    Ok(Indices { width, height, pixels })
}

/// A value of a line of so many bits a value.
fn value(line: &[u8], place: usize, depth: usize) -> u16 {
    match depth {
        16 => u16::from_be_bytes([line[2 * place], line[2 * place + 1]]),
        8 => line[place].into(),
        _ => {
            let shift = 8 - depth - place * depth % 8;
            u16::from(line[place * depth / 8] >> shift) & ((1 << depth) - 1)
        }
    }
}

/// A mask as a PNG with a palette that tells its classes apart.
///
/// # Errors
/// Where there is no memory left to write it.
pub fn mask_png(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let failed = |error: png::EncodingError| error.to_string();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette((0..=255u8).flat_map(colour).collect::<Vec<u8>>());
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// The colour of a class: the bits of its number, three by three, from the highest of each channel down, as the palette of PASCAL VOC has
/// it. 0 is black, and 255 a light grey.
pub fn colour(class: u8) -> [u8; 3] {
    let mut colour = [0u8; 3];
    for place in 0..8 {
        for (channel, value) in colour.iter_mut().enumerate() {
            let bit = 3 * place + channel;
            if bit < 8 && class >> bit & 1 == 1 {
                *value |= 0x80 >> place;
            }
        }
    }
    colour
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of these packed bytes.
    fn written(colour: ColorType, depth: png::BitDepth, (width, height): (u32, u32), data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette([9u8; 12].to_vec());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn numbers_are_read_as_they_are_stored() {
        let limits = Limits::default();
        let palette =
            written(ColorType::Indexed, png::BitDepth::Two, (5, 2), &[0b00_01_10_11, 0b01_000000, 0, 0b10_000000]);
        assert_eq!(read(&palette, &limits).unwrap().pixels, [0, 1, 2, 3, 1, 0, 0, 0, 0, 2]);
        let bits = written(ColorType::Grayscale, png::BitDepth::One, (3, 1), &[0b101_00000]);
        assert_eq!(read(&bits, &limits).unwrap().pixels, [1, 0, 1]);
        let wide = written(ColorType::Grayscale, png::BitDepth::Sixteen, (2, 1), &[0, 7, 0, 255]);
        assert_eq!(read(&wide, &limits).unwrap().pixels, [7, 255]);
        let grey = written(ColorType::Rgb, png::BitDepth::Eight, (2, 1), &[4, 4, 4, 0, 0, 0]);
        assert_eq!(read(&grey, &limits).unwrap().pixels, [4, 0]);
        let back = mask_png(&[0, 1, 5, 255], 2, 2).unwrap();
        assert_eq!(read(&back, &limits).unwrap(), Indices { width: 2, height: 2, pixels: vec![0, 1, 5, 255] });
    }

    #[test]
    fn what_is_no_mask_is_refused_with_a_remedy() {
        let limits = Limits::default();
        let colours = written(ColorType::Rgb, png::BitDepth::Eight, (1, 1), &[200, 0, 0]);
        assert!(read(&colours, &limits).unwrap_err().contains("in colours"));
        let wide = written(ColorType::Grayscale, png::BitDepth::Sixteen, (1, 1), &[3, 0]);
        assert!(read(&wide, &limits).unwrap_err().contains("value 768"));
        assert!(read(b"\xff\xd8\xff", &limits).unwrap_err().contains("no PNG"));
        let whole = mask_png(&[1; 64], 8, 8).unwrap();
        assert!(read(&whole[..whole.len() / 2], &limits).unwrap_err().contains("damaged"));
        let small = Limits { side_max: 4, ..limits };
        assert!(read(&whole, &small).unwrap_err().contains("8×8 pixels are too many"));
    }

    #[test]
    fn the_palette_is_that_of_pascal_voc() {
        // The first colours as the benchmark's own tools list them.
        let first = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]];
        assert_eq!(std::array::from_fn::<_, 7, _>(|class| colour(class as u8)), first);
        assert_eq!((colour(8), colour(15), colour(20)), ([64, 0, 0], [192, 128, 128], [0, 64, 128]));
        assert_eq!(colour(255), [224, 224, 192]);
    }
}
