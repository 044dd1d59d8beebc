//! How raw samples become the numbers that a model expects: plain values that fit into a delta's header.
//!
//! Takes the strings of a recipe or command line and gives [`Preprocessing`]. Only `core` and `serde` are needed by the
//! types, so that a delta can carry them; nothing here touches a file or a pixel.

use super::Error;
use super::clips::SoundPreprocessing;
use super::series::SeriesPreprocessing;
use serde::{Deserialize, Serialize};

/// The largest side of a model's image input that is accepted, in pixels.
const SIDE_MAX: u32 = 8192;

/// What is done to a sample before the model sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Preprocessing {
    /// Nothing: tables and arrays are fed as they are.
    #[default]
    Plain,
    /// Photographs: resize, crop, scale, normalise.
    Image(ImagePreprocessing),
    /// Text: everything but the length is in the model's `tokenizer.json`.
    Text {
        /// Most tokens a sample keeps, special tokens included; 0 takes the length that `tokenizer.json` states, or 512.
        max_length: u32,
        /// BLAKE3 of that file, where it is known.
        tokenizer: Option<[u8; 32]>,
    },
    /// Sound: resample, cut, scale, perhaps a spectrogram.
    Sound(SoundPreprocessing),
    /// Sensor series: cut into windows, scaled.
    Series(SeriesPreprocessing),
}

impl Preprocessing {
    /// Whether each sample is a file of its own, or named as one by a table.
    pub(super) fn takes_files(&self) -> bool {
        matches!(self, Self::Image(_) | Self::Sound(_))
    }

    /// The bytes that features are kept under and a delta carries.
    pub fn wire(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain values always encode")
    }
}

/// Order of a tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Layout {
    /// `[channels, height, width]`, PyTorch's habit.
    #[default]
    Nchw,
    /// `[height, width, channels]`, TensorFlow's habit.
    Nhwc,
}

/// The channels that the model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// One channel: luma by ITU-R BT.601.
    Grey,
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Channels::Rgb => 3,
            Channels::Grey => 1,
        }
    }
}

/// How a photograph is resized, as Pillow does it: with antialiasing, but for [`Filter::Nearest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Filter {
    /// A triangle: torchvision's and Keras' habit.
    #[default]
    Bilinear,
    /// The nearest pixel alone.
    Nearest,
    /// The mean over the area that becomes a pixel; Pillow's `BOX`, OpenCV's `INTER_AREA`.
    Area,
    /// Cubic convolution with a = -0.5: the habit of timm, CLIP and torchvision's EfficientNet and Swin.
    Bicubic,
    /// A sinc over three zeros on each side.
    Lanczos,
}

impl Filter {
    const ALL: [(&'static str, Self); 5] = [
        ("bilinear", Self::Bilinear),
        ("nearest", Self::Nearest),
        ("area", Self::Area),
        ("bicubic", Self::Bicubic),
        ("lanczos", Self::Lanczos),
    ];

    /// As settings call it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, filter)| *filter == self).map_or("", |(name, _)| name)
    }

    /// The filter of a name, in either case; also by Pillow's, OpenCV's and timm's names.
    ///
    /// # Errors
    /// [`Error::Setting`] with all names.
    pub fn named(name: &str) -> Result<Self, Error> {
        let low = name.trim().to_ascii_lowercase();
        let plain = match low.trim_start_matches("inter_") {
            "box" => "area",
            "cubic" => "bicubic",
            "linear" => "bilinear",
            "lanczos3" => "lanczos",
            other => other,
        };
        let found = Self::ALL.iter().find(|(known, _)| *known == plain);
        found.map(|(_, filter)| *filter).ok_or_else(|| {
            let known = Self::ALL.map(|(known, _)| known).join(", ");
            Error::setting("interpolation", name, format!("there are {known}"))
        })
    }
}

/// Photograph → `[channels, height, width]` or `[height, width, channels]` f32.
///
/// The image is scaled by `filter` until it covers the crop box blown up so that the box's shortest side is
/// `resize`; the centre `width` × `height` pixels are kept; each 8-bit value p of channel c becomes
/// `(p · scale − mean[c]) / std[c]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ImagePreprocessing {
    /// Pixels that the model sees, across.
    pub width: u32,
    /// Pixels that the model sees, down.
    pub height: u32,
    /// Shortest side before the crop, in pixels; at least the shortest of `width` and `height`. 0: nothing is cropped, the whole
    /// photograph is stretched to `width` × `height`. [`ImagePreprocessing::AS_LINE`]: a line of text, see there.
    pub resize: u32,
    /// Factor for 8-bit values; usually 1/255.
    pub scale: f32,
    /// Subtracted after scaling, for each channel; a grey model uses the first.
    pub mean: [f32; 3],
    /// Divides at last, for each channel; a grey model uses the first.
    pub std: [f32; 3],
    /// Order of axes.
    pub layout: Layout,
    /// Colours.
    pub channels: Channels,
    /// How it is resized; bilinear where a program of before states nothing.
    #[serde(default)]
    pub filter: Filter,
}

impl ImagePreprocessing {
    /// In the place of `resize`: the picture is made `height` pixels high with its proportions kept, stands at the left, and what is
    /// empty at its right is filled with what the model sees as 0. One that would be wider than `width` is made as narrow as that.
    pub const AS_LINE: u32 = u32::MAX;

    /// Whether pictures are lines of text.
    pub fn is_line(&self) -> bool {
        self.resize == Self::AS_LINE
    }

    /// Values in 0..1, RGB, channels first, no margin around the crop.
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            resize: width.min(height),
            scale: 1.0 / 255.0,
            mean: [0.0; 3],
            std: [1.0; 3],
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            filter: Filter::Bilinear,
        }
    }

    /// All of it in words, for a line that a person reads.
    pub fn described(&self) -> String {
        let Self { width, height, resize, .. } = self;
        let (layout, colours) = match (self.layout, self.channels) {
            (Layout::Nchw, Channels::Rgb) => ("nchw", "RGB"),
            (Layout::Nhwc, Channels::Rgb) => ("nhwc", "RGB"),
            (Layout::Nchw, Channels::Grey) => ("nchw", "grey"),
            (Layout::Nhwc, Channels::Grey) => ("nhwc", "grey"),
        };
        let scale = match self.scale {
            scale if scale == 1.0 / 255.0 => "1/255".into(),
            scale => scale.to_string(),
        };
        let each = |values: [f32; 3]| match values {
            [red, green, blue] if red == green && green == blue => red.to_string(),
            values => values.map(|value| value.to_string()).join(","),
        };
        let (mean, std, filter) = (each(self.mean), each(self.std), self.filter.name());
        let fitted = match resize {
            0 => "stretched".into(),
            _ if self.is_line() => "as high as that, filled up at the right".into(),
            side => format!("shortest side {side}, centre cut out"),
        };
        format!("{width}×{height} {colours} {layout}, {fitted}, {filter}, scale {scale}, mean {mean}, std {std}")
    }

    /// The shape of one sample, without the batch axis.
    pub fn shape(&self) -> [u64; 3] {
        let (channels, height, width) = (self.channels.count() as u64, self.height.into(), self.width.into());
        match self.layout {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }

    /// Whether the values make sense; they may come out of a delta that somebody else wrote.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first field that does not.
    pub fn validate(&self) -> Result<(), Error> {
        let stretched = self.resize == 0 || self.is_line();
        let resize = if stretched { 1 } else { self.resize };
        let sides = [("size", self.width), ("size", self.height), ("resize", resize)];
        for (setting, side) in sides {
            if !(1..=SIDE_MAX).contains(&side) {
                return Err(Error::setting(setting, side, format!("must be 1 to {SIDE_MAX} pixels")));
            }
        }
        if !stretched && self.resize < self.width.min(self.height) {
            return Err(Error::setting(
                "resize",
                self.resize,
                "must not be smaller than the image size it is cropped to",
            ));
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return Err(Error::setting("scale", self.scale, "must be a finite number other than 0, such as 1/255"));
        }
        for (mean, std) in self.mean.iter().zip(self.std) {
            if !mean.is_finite() {
                return Err(Error::setting("mean", mean, "must be finite"));
            }
            if !std.is_finite() || std <= 0.0 {
                return Err(Error::setting("std", std, "must be finite and above 0"));
            }
        }
        Ok(())
    }
}

/// Reads `224` or `320x240` (width × height).
///
/// # Errors
/// [`Error::Setting`] for anything else.
pub fn parse_size(text: &str) -> Result<(u32, u32), Error> {
    let fail = || Error::setting("size", text, "write one number (224) or WIDTHxHEIGHT (320x240), in pixels");
    let side = |text: &str| text.trim().parse::<u32>().ok().filter(|side| (1..=SIDE_MAX).contains(side));
    match text.split_once(['x', 'X', '×']) {
        Some((width, height)) => Ok((side(width).ok_or_else(fail)?, side(height).ok_or_else(fail)?)),
        None => side(text).map(|side| (side, side)).ok_or_else(fail),
    }
}

/// Reads a factor: `0.0039`, or a quotient such as `1/255`.
///
/// # Errors
/// [`Error::Setting`] when it is no finite number other than 0.
pub fn parse_scale(text: &str) -> Result<f32, Error> {
    let number = match text.split_once('/') {
        // In f64, so that 1/127.5 rounds once.
        Some((over, under)) => parse_f64(over).zip(parse_f64(under)).map(|(over, under)| over / under),
        None => parse_f64(text),
    };
    number
        .map(|number| number as f32)
        .filter(|number| number.is_finite() && *number != 0.0)
        .ok_or_else(|| Error::setting("scale", text, "write a number other than 0, or a quotient such as 1/255"))
}

/// Reads one value for all channels (`0.5`) or three (`0.485,0.456,0.406`); each may be a quotient. `setting` is `mean`
/// or `std` and is named in the error.
///
/// # Errors
/// [`Error::Setting`] for another count or anything that is no number.
pub fn parse_channel_values(setting: &'static str, text: &str) -> Result<[f32; 3], Error> {
    let fail = || Error::setting(setting, text, "write one number, or three separated by commas: 0.485,0.456,0.406");
    let one = |text: &str| -> Option<f32> {
        let number = match text.split_once('/') {
            Some((over, under)) => parse_f64(over)? / parse_f64(under)?,
            None => parse_f64(text)?,
        };
        Some(number as f32).filter(|number| number.is_finite())
    };
    let values: Option<Vec<f32>> = text.split(',').map(one).collect();
    match values.ok_or_else(fail)?[..] {
        [value] => Ok([value; 3]),
        [red, green, blue] => Ok([red, green, blue]),
        _ => Err(fail()),
    }
}

/// Reads `nchw` or `nhwc`, in either case.
///
/// # Errors
/// [`Error::Setting`] for anything else.
pub fn parse_layout(text: &str) -> Result<Layout, Error> {
    match text.trim().to_ascii_lowercase().as_str() {
        "nchw" => Ok(Layout::Nchw),
        "nhwc" => Ok(Layout::Nhwc),
        _ => Err(Error::setting("layout", text, "write nchw (channels first) or nhwc (channels last)")),
    }
}

fn parse_f64(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_size("224").unwrap(), (224, 224));
        assert_eq!(parse_size(" 320x240 ").unwrap(), (320, 240));
        assert_eq!(parse_scale("1/255").unwrap(), 1.0 / 255.0);
        assert_eq!(parse_scale("1/127.5").unwrap(), 1.0 / 127.5);
        assert_eq!(parse_scale("-2").unwrap(), -2.0);
        assert_eq!(parse_channel_values("mean", "0.5").unwrap(), [0.5; 3]);
        assert_eq!(parse_channel_values("mean", "0.485, 0.456,127/255").unwrap(), [0.485, 0.456, 127.0 / 255.0]);
        assert_eq!(parse_layout("NHWC").unwrap(), Layout::Nhwc);
        let filters = ["bicubic", "BOX", "INTER_LINEAR", "Lanczos", "nearest"].map(|name| Filter::named(name).unwrap());
        assert_eq!(filters, [Filter::Bicubic, Filter::Area, Filter::Bilinear, Filter::Lanczos, Filter::Nearest]);
    }

    #[test]
    fn refuses_with_the_setting_and_the_value() {
        for text in ["", "0", "224x", "x224", "1x2x3", "-1", "224.5", "99999"] {
            let message = parse_size(text).unwrap_err().to_string();
            assert!(message.contains("`size`") && message.contains(&format!("`{text}`")), "{message}");
        }
        for text in ["", "1/0", "0", "nan", "inf", "1/255/2", "a"] {
            assert!(parse_scale(text).unwrap_err().to_string().contains("1/255"), "{text}");
        }
        for text in ["", "1,2", "1,2,3,4", "1,,3", "1,2,nan", "1/0"] {
            assert!(parse_channel_values("std", text).unwrap_err().to_string().contains("`std`"), "{text}");
        }
        assert!(parse_layout("chw").is_err());
        assert!(Filter::named("cube").unwrap_err().to_string().contains("bilinear, nearest, area, bicubic, lanczos"));
    }

    #[test]
    fn validation_catches_each_field() {
        let good = ImagePreprocessing::new(224, 160);
        assert!(good.validate().is_ok());
        let bad = [
            ImagePreprocessing { width: 0, ..good },
            ImagePreprocessing { height: 9000, ..good },
            ImagePreprocessing { resize: 159, ..good },
            ImagePreprocessing { scale: f32::NAN, ..good },
            ImagePreprocessing { mean: [0.0, f32::INFINITY, 0.0], ..good },
            ImagePreprocessing { std: [1.0, 1.0, 0.0], ..good },
        ];
        for one in bad {
            assert!(one.validate().is_err(), "{one:?}");
        }
    }

    #[test]
    fn fits_into_a_header() {
        let image = Preprocessing::Image(ImagePreprocessing::new(224, 224));
        let bytes = postcard::to_allocvec(&image).unwrap();
        assert!(bytes.len() <= 40, "{} bytes", bytes.len());
        assert_eq!(postcard::from_bytes::<Preprocessing>(&bytes).unwrap(), image);
    }
}
