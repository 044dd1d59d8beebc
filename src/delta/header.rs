//! The header as it lies on the wire. The order of the fields and variants *is* the format: see `format.md`.

use super::{Error, Field, LABEL_BYTES_MAX, NAME_BYTES_MAX, RANK_MAX, RECIPE_BYTES_MAX, WORD_BYTES_MAX};
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// What an adapter belongs to, what it was learned from and how well it did. Texts are borrowed from the delta.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Header<'a> {
    /// Hash of the base that the adapter was learned on; it must not be applied to any other.
    pub base: [u8; 32],
    /// Identity of the delta that this one is a difference to; `None` where it stands alone on the base.
    pub parent: Option<[u8; 32]>,
    /// Version of the edgetune that wrote the delta.
    pub tool: &'a str,
    /// When it was written, in seconds since 1970; `None` keeps equal commands giving equal bytes.
    pub created_unix_s: Option<u64>,
    /// What the device calls itself; may be empty.
    pub device: &'a str,
    /// The turn of the fleet that it belongs to.
    pub round: Option<u32>,
    /// Hash of the recipe that it was trained by.
    pub recipe: Option<[u8; 32]>,
    /// What the output means.
    pub task: Task,
    /// Name of the loss; informs, readers need not know it.
    pub loss: &'a str,
    /// Name of the model output that was trained.
    pub output: &'a str,
    /// A head that the base does not have, if one was appended.
    #[serde(borrow)]
    pub head: Option<AppendedHead<'a>>,
    /// How the base was changed, where the tensors do not replace those of the base as they are.
    pub method: Option<Method>,
    /// What was done to samples before the model saw them.
    #[serde(borrow)]
    pub preprocessing: Preprocessing<'a>,
    /// What was measured before and after training.
    pub metrics: Metrics,
    /// What the gates have said, if there were any.
    #[serde(borrow)]
    pub gate: Option<GateVerdict<'a>>,
    /// Seed of the run.
    pub seed: u64,
    /// Training samples that the adapter has learned from.
    pub samples: u64,
    /// Under what terms it may be used, such as an SPDX expression; may be empty.
    pub licence: &'a str,
    /// Where the data came from and what else a reader should know; may be empty.
    pub notes: &'a str,
    /// The recipe as TOML, whose BLAKE3 is `recipe`; empty where a delta does not carry it, as none of format version 1 does.
    #[serde(skip)]
    pub recipe_text: &'a str,
}

/// What the trained output means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    #[default]
    /// One of the labels: `[batch, labels]` logits.
    Classification,
    /// Any number of the labels: `[batch, labels]` logits.
    MultiLabel,
    /// Numbers.
    Regression,
    /// The next token: `[batch, sequence, vocabulary]` logits.
    LanguageModel,
    /// One of the labels, which stand in an order, the lowest first: `[batch, labels − 1]` logits of "above this label".
    Ordinal,
    /// One of the labels for each token: `[batch, sequence, labels]` logits.
    TokenClassification,
    /// Whatever the user's own loss is computed on: `[batch, …]`.
    Anything,
    /// One of the labels for each pixel: `[batch, labels, height, width]` logits.
    Segmentation,
    /// Boxes around objects, each of one of the labels: `[batch, cells, labels + 4 · bins]` logits of scores and of edges.
    Detection,
    /// A vector, `[batch, dimensions]`: the cosine of two of them says how alike their samples are.
    Likeness,
    /// A vector, `[batch, dimensions]`, whose length says how far a sample is from normal ones: above 1 it is none.
    Anomaly,
    /// A text, one of the labels or none at each step: `[batch, steps, labels]` logits, of which the label `<blank>` stands for none.
    Transcription,
}

/// A linear layer that is appended to a value of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendedHead<'a> {
    /// The value that the head reads: `[batch, features]`.
    pub value: &'a str,
    /// Size of the value's last dimension.
    pub features: u32,
    /// Size of the output's last dimension: `[batch, classes]`.
    pub classes: u32,
}

/// What the tensors are to the base, so that a reader knows what to do with them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// The family.
    pub kind: MethodKind,
    /// Rank of the factors; 0 where the kind has none.
    pub rank: u32,
    /// Numerator of the factors' scale; 0 where the kind has none.
    pub alpha: f32,
}

/// Families of adapters, named as in the PEFT library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MethodKind {
    /// `W + alpha / rank · B A` (arXiv 2106.09685).
    Lora,
    /// `W + alpha / √rank · B A` (arXiv 2312.03732).
    RsLora,
    /// Magnitude times the normalised direction of `W + alpha / rank · B A` (arXiv 2402.09353).
    Dora,
    /// [`MethodKind::Lora`] with `A` frozen at its first values (arXiv 2308.03303).
    LoraFa,
    /// Activations times learned vectors (arXiv 2205.05638).
    Ia3,
    /// Biases alone (arXiv 2106.10199).
    BitFit,
    /// Scales and shifts of normalisations alone.
    Norm,
}

/// What was done to samples before the model saw them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Preprocessing<'a> {
    #[default]
    /// The model was fed with the data as it was.
    Plain,
    /// Images.
    Image(ImagePreprocessing),
    /// Text.
    Text {
        /// Tokens of a sample, at most; 0 is what the tokenizer states.
        max_length: u32,
    },
    /// Images, resized by another filter than the bilinear one of [`Preprocessing::Image`].
    ImageBy(ImagePreprocessing, Filter),
    /// Sounds.
    Sound(SoundPreprocessing),
    /// Windows of sensor series.
    #[serde(borrow)]
    Series(SeriesPreprocessing<'a>),
    /// Text, by a tokenizer that is known.
    TextBy {
        /// Tokens of a sample, at most; 0 is what the tokenizer states.
        max_length: u32,
        /// BLAKE3 of its tokenizer.json.
        tokenizer: [u8; 32],
    },
}

/// From a table of sensor readings to inputs: windows of its rows, each channel `(value − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesPreprocessing<'a> {
    /// Rows in a second; 0 where nothing tells the time.
    pub rate: f64,
    /// Whether rows are interpolated to that rate.
    pub resampled: bool,
    /// Rows of a window.
    pub rows: u32,
    /// Rows from the start of one window to that of the next.
    pub hop: u32,
    /// Whether the input is `[channels, rows]` and not `[rows, channels]`.
    pub channels_first: bool,
    /// The column of time; empty where there is none.
    pub time: &'a str,
    /// What a number in that column counts.
    pub unit: TimeUnit,
    /// The names of the channels, in the model's order, a line each.
    pub channels: &'a str,
    /// For each channel mean and standard deviation, each four bytes of a little-endian f32; empty: values are fed as they are.
    pub scaler: &'a [u8],
}

/// What a number in a column of time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Thousandths.
    Milliseconds,
    /// Millionths.
    Microseconds,
    /// Billionths.
    Nanoseconds,
}

impl SeriesPreprocessing<'_> {
    /// For each channel mean and standard deviation; nothing where values are fed as they are.
    pub fn scales(&self) -> impl Iterator<Item = [f32; 2]> + '_ {
        let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.scaler.chunks_exact(8).map(move |pair| [number(&pair[..4]), number(&pair[4..])])
    }

    fn check(&self) -> Result<(), Error> {
        ensure(self.rows >= 2, Error::Number(Field::SeriesRows))?;
        ensure(self.hop >= 1, Error::Number(Field::SeriesHop))?;
        ensure(self.rate.is_finite() && self.rate >= 0.0, Error::Number(Field::SeriesRate))?;
        ensure(self.time.is_empty() || is_name(self.time, LABEL_BYTES_MAX), Error::Text(Field::SeriesTime))?;
        let channels = self.channels.split('\n');
        ensure(channels.clone().all(|name| is_name(name, LABEL_BYTES_MAX)), Error::Text(Field::SeriesChannels))?;
        let fits = self.scaler.is_empty() || self.scaler.len() == 8 * channels.count();
        let divides = self.scales().all(|[mean, std]| mean.is_finite() && std.is_finite() && std > 0.0);
        ensure(fits && divides, Error::Number(Field::SeriesScaler))
    }
}

/// From a sound file to an input: the mean of its channels, resampled, cut at the end or filled up with silence there, times `scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SoundPreprocessing {
    /// Samples in a second; 0 where recordings are taken as they are.
    pub rate: u32,
    /// Samples that the model sees.
    pub samples: u32,
    /// Factor of samples in -1…1.
    pub scale: f32,
    /// Where an axis of size 1 stands in the input, besides the batch's.
    pub unit_axis: UnitAxis,
    /// The spectrogram; `None` for a waveform.
    pub mel: Option<LogMel>,
}

/// Where an axis of size 1 stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitAxis {
    /// Nowhere.
    None,
    /// Before the others.
    First,
    /// Behind the others.
    Last,
}

/// A spectrogram in bands of the mel scale: the power of the Fourier transform under a periodic Hann window, summed by triangles, and
/// its logarithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogMel {
    /// Samples of the transform.
    pub fft: u32,
    /// Samples of the window, which lies in the middle of the transform.
    pub window: u32,
    /// Samples from one frame to the next.
    pub hop: u32,
    /// Bands.
    pub mels: u32,
    /// Where the lowest band begins, in Hz.
    pub low_hz: f32,
    /// Where the highest band ends, in Hz.
    pub high_hz: f32,
    /// How bands are spread.
    pub scale: MelScale,
    /// Whether each band is divided by half its width.
    pub same_area: bool,
    /// What stands beside the clip.
    pub edge: Edge,
    /// Which logarithm.
    pub log: Logarithm,
    /// Under the logarithm: the least power for decibels, added for the natural one.
    pub floor: f32,
    /// Whether the input is `[frames, mels]` and not `[mels, frames]`.
    pub frames_first: bool,
}

/// The mel scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MelScale {
    /// `2595 · log10(1 + f / 700)`.
    Htk,
    /// Linear up to 1 kHz, logarithmic above.
    Slaney,
}

/// What stands beside a clip for its first and last frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edge {
    /// The clip mirrored.
    Reflect,
    /// Silence.
    Zero,
    /// Nothing: all frames lie in the clip.
    Open,
}

/// A spectrogram's logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Logarithm {
    /// `10 · log10(max(power, floor))`.
    Decibel,
    /// `ln(power + floor)`.
    Natural,
}

/// How an image is resized, as Pillow does it: with antialiasing, but for [`Filter::Nearest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// The nearest pixel alone.
    Nearest,
    /// The mean over the area that becomes a pixel.
    Area,
    /// Cubic convolution with a = -0.5.
    Bicubic,
    /// A sinc over three zeros on each side.
    Lanczos,
}

/// From an image file to an input: resized, cropped to the middle, then per channel `(pixel · scale − mean) / std` with
/// pixels in 0…255.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagePreprocessing {
    /// Pixels that the model sees, across.
    pub width: u32,
    /// Pixels that the model sees, down.
    pub height: u32,
    /// The shortest side before the crop, in pixels; at least the shortest of `width` and `height`.
    pub resize: u32,
    /// Factor of the pixels.
    pub scale: f32,
    /// Subtracted: none for 0, one for all channels, or one per channel.
    pub mean: Vec<f32, 3>,
    /// Divided by: none for 1, one for all channels, or one per channel.
    pub std: Vec<f32, 3>,
    /// Order of the dimensions.
    pub layout: Layout,
    /// Which channels there are.
    pub channels: Channels,
}

impl ImagePreprocessing {
    /// The shortest form of values for three channels, for `mean` and `std`.
    pub fn shortened(values: [f32; 3]) -> Vec<f32, 3> {
        let [first, second, third] = values;
        let mut short = Vec::from(values);
        short.truncate(if first == second && second == third { 1 } else { 3 });
        short
    }

    /// What is subtracted from each channel.
    pub fn means(&self) -> [f32; 3] {
        expanded(&self.mean, 0.0)
    }

    /// What each channel is divided by.
    pub fn stds(&self) -> [f32; 3] {
        expanded(&self.std, 1.0)
    }
}

fn expanded(values: &[f32], otherwise: f32) -> [f32; 3] {
    let first = values.first().copied().unwrap_or(otherwise);
    core::array::from_fn(|channel| values.get(channel).copied().unwrap_or(first))
}

/// Order of an image's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `[batch, channels, height, width]`
    Nchw,
    /// `[batch, height, width, channels]`
    Nhwc,
}

/// Channels of an image, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// One.
    Grey,
}

/// Measured before and after training, on samples that were held out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// On the samples that chose the best epoch.
    pub validation: Option<Measured>,
    /// On samples that nothing was chosen by.
    pub test: Option<Measured>,
}

/// One measurement before training, one after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Mean loss before, after.
    pub loss: [f32; 2],
    /// Part of the samples that were right (0…1) before, after; none where right and wrong do not exist.
    pub accuracy: Option<[f32; 2]>,
}

/// The outcome of the gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateVerdict<'a> {
    /// Whether the adapter may be used.
    pub passed: bool,
    /// Why, in a line; may be empty.
    pub reason: &'a str,
}

/// A class (or an output of a regression) and how often it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label<'a> {
    /// Its name.
    pub name: &'a str,
    /// Training samples of it.
    pub samples: u32,
}

/// How values are stored. A block is a run of as many consecutive values (row-major) with a scale of its own: fp16, not
/// negative. Where a block is as long as what lies behind the first dimension, it is a scale per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// IEEE 754 binary16.
    Fp16,
    /// How many binary16 numbers the value is away from the one that it changes: exact, and small after a small change.
    Steps,
    /// −127…127 times the block's scale.
    Int8 {
        /// Values in a block.
        block: u32,
    },
    /// −7…7 times the block's scale.
    Int4 {
        /// Values in a block.
        block: u32,
    },
    /// The block's scale or its negative (BitDelta, arXiv 2402.10193).
    Sign {
        /// Values in a block.
        block: u32,
    },
    /// Binary16 at the stored places, 0 elsewhere.
    Sparse {
        /// Stored values.
        count: u32,
    },
}

/// Whether values went through the entropy stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// As they are.
    Raw,
    /// Through the adaptive range coder.
    Coded,
}

/// How many labels and tensor entries follow. Not a part of [`Header`], whose callers have them as slices and iterators.
#[derive(Serialize, Deserialize)]
pub(super) struct Counts {
    pub labels: u32,
    pub tensors: u32,
}

/// What the header says of a tensor, without its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Sizes, outermost first; none is 0.
    pub shape: Vec<u32, RANK_MAX>,
    /// How the values are stored.
    pub encoding: Encoding,
    /// Whether they went through the entropy stage.
    pub packing: Packing,
    /// Whether the values are added to the tensor of the parent (of the base, where there is no parent) instead of being it.
    pub difference: bool,
    /// Bytes that the values take in the payload.
    pub length: u32,
    /// BLAKE3 hash of those bytes.
    pub hash: [u8; 32],
}

impl Header<'_> {
    /// Refuses what decodes but cannot be meant.
    pub(super) fn check(&self, labels: u32) -> Result<(), Error> {
        let Header { task, loss, output, head, method, preprocessing, metrics, gate, .. } = self;
        let texts = [
            (self.tool, WORD_BYTES_MAX, Field::Tool),
            (self.device, WORD_BYTES_MAX, Field::Device),
            (gate.map_or("", |gate| gate.reason), LABEL_BYTES_MAX, Field::GateReason),
            (self.licence, WORD_BYTES_MAX, Field::Licence),
            (self.notes, NAME_BYTES_MAX, Field::Notes),
        ];
        for (text, bytes_max, field) in texts {
            ensure(text.is_empty() || is_name(text, bytes_max), Error::Text(field))?;
        }
        ensure(self.is_recipe_whole(), Error::Text(Field::Recipe))?;
        ensure(is_name(loss, WORD_BYTES_MAX), Error::Text(Field::Loss))?;
        ensure(is_name(output, NAME_BYTES_MAX), Error::Text(Field::Output))?;
        if let Some(head) = head {
            ensure(is_name(head.value, NAME_BYTES_MAX), Error::Text(Field::HeadValue))?;
            ensure(head.features > 0, Error::Number(Field::HeadFeatures))?;
            ensure(head.classes > 0, Error::Number(Field::HeadClasses))?;
            let columns = if *task == Task::Ordinal { labels.saturating_sub(1) } else { labels };
            ensure(labels == 0 || columns == head.classes, Error::Number(Field::HeadClasses))?;
        }
        ensure(method.is_none_or(|method| method.alpha.is_finite()), Error::Number(Field::Method))?;
        check_preprocessing(preprocessing)?;
        let measured = [metrics.validation, metrics.test].into_iter().flatten();
        for Measured { loss, accuracy } in measured {
            let finite = loss.iter().chain(accuracy.iter().flatten()).all(|value| value.is_finite());
            let part = accuracy.iter().flatten().all(|value| (0.0..=1.0).contains(value));
            ensure(finite && part, Error::Number(Field::Metrics))?;
        }
        Ok(())
    }
}

impl Header<'_> {
    /// Whether the text of the recipe, where there is one, is the text that the hash is of.
    fn is_recipe_whole(&self) -> bool {
        let text = self.recipe_text;
        text.is_empty() || is_recipe(text) && self.recipe == Some(blake3::hash(text.as_bytes()).into())
    }
}

/// Whether a delta can hold this text of a recipe: there, short enough, and of lines that are harmless on a terminal.
pub fn is_recipe(text: &str) -> bool {
    let harmless = |letter: char| letter == '\n' || !letter.is_control();
    (1..=RECIPE_BYTES_MAX).contains(&text.len()) && text.chars().all(harmless)
}

pub(crate) fn check_preprocessing(preprocessing: &Preprocessing<'_>) -> Result<(), Error> {
    match preprocessing {
        Preprocessing::Plain | Preprocessing::Text { .. } | Preprocessing::TextBy { .. } => Ok(()),
        Preprocessing::Image(image) | Preprocessing::ImageBy(image, _) => {
            let channels = if image.channels == Channels::Grey { 1 } else { 3 };
            let fits = |values: &[f32]| values.len() <= 1 || values.len() == channels;
            let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
            ensure(image.width > 0 && image.height > 0, Error::Number(Field::ImageSize))?;
            ensure(
                image.resize == 0 || image.resize >= image.width.min(image.height),
                Error::Number(Field::ImageResize),
            )?;
            ensure(image.scale.is_finite() && image.scale != 0.0, Error::Number(Field::ImageScale))?;
            ensure(fits(&image.mean) && finite(&image.mean), Error::Number(Field::ImageMean))?;
            let divides = fits(&image.std) && finite(&image.std) && image.std.iter().all(|std| *std > 0.0);
            ensure(divides, Error::Number(Field::ImageStd))
        }
        Preprocessing::Series(series) => series.check(),
        Preprocessing::Sound(sound) => {
            ensure(sound.samples > 0, Error::Number(Field::SoundLength))?;
            ensure(sound.scale.is_finite() && sound.scale != 0.0, Error::Number(Field::SoundScale))?;
            let Some(mel) = &sound.mel else { return Ok(()) };
            let windows = (1..=mel.fft).contains(&mel.window) && mel.hop > 0 && mel.mels > 0 && sound.rate > 0;
            let bands = mel.low_hz >= 0.0 && mel.low_hz < mel.high_hz && mel.high_hz.is_finite();
            ensure(windows && bands && mel.floor.is_finite() && mel.floor > 0.0, Error::Number(Field::LogMel))
        }
    }
}

pub(super) fn ensure(holds: bool, otherwise: Error) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// Whether a text can be a name: there, short enough, and harmless on a terminal.
pub(crate) fn is_name(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.contains(char::is_control)
}
