//! How samples are read and become the model's inputs, as a recipe says it.

use serde::{Deserialize, Serialize, Serializer};
use std::path::PathBuf;

/// How samples become the model's inputs. For images: (pixel × scale − mean) / std.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Samples {
    /// What is done to pixels, by name: unit, imagenet, torchvision, timm, inception, clip, efficientnet-lite or raw
    /// [default: what stands in or beside the model, or unit]
    pub preprocessing: Option<String>,
    /// Image size, S or WxH [default: what the model declares]
    pub size: Option<String>,
    /// Shortest side before the centre crop, in pixels [default: --size]
    pub resize: Option<u32>,
    /// How images are resized: bilinear, bicubic, lanczos, area or nearest, as Pillow does it [default: the preset's, or
    /// bilinear]
    pub interpolation: Option<String>,
    /// What pixels are multiplied by, a number or a fraction, or sounds' samples, which lie in -1 to 1 (32768 gives the range of
    /// 16-bit integers). For sensor series: standard (each channel gets mean 0 and deviation 1) or none [default: 1/255 for pixels,
    /// 1 for sounds, standard]
    pub scale: Option<String>,
    /// What is subtracted from scaled pixels, one or three numbers [default: 0]
    pub mean: Option<String>,
    /// What the difference is divided by, one or three numbers [default: 1]
    pub std: Option<String>,
    /// Order of an image's axes, nchw or nhwc, or of a series', nct or ntc [default: what the model declares]
    pub layout: Option<String>,
    /// Samples in a second that the model takes of sounds, or rows in a second that series are interpolated to [default: what
    /// stands in or beside the model, or the files' own where all have one]
    #[serde(alias = "sampling-rate", serialize_with = "as_written", skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<f64>,
    /// Length of a sound, such as 1s or 800ms: longer ones are cut, shorter ones filled up with silence [default: what the model
    /// declares, or that of the longest]
    pub duration: Option<String>,
    /// What a model is fed of a sound: waveform, or a log-mel spectrogram as torchaudio or librosa computes it [default: waveform,
    /// or torchaudio where the model takes a spectrogram]
    ///
    /// Behind torchaudio or librosa stands what is different, such as torchaudio:mels=64,window=25ms,hop=10ms,low=0,high=8000. The
    /// other keys are fft, scale, norm, edge and log
    pub front_end: Option<String>,
    /// Length of a window of a sensor series, such as 2s, 500ms or 128 rows [default: the rows that the model declares]
    pub window: Option<String>,
    /// From the start of one window to that of the next, such as 1s or 64 rows [default: half a window]
    pub hop: Option<String>,
    /// Channels of a series in the model's order, with commas between them [default: all columns of numbers that are neither time
    /// nor label nor group]
    pub channels: Option<String>,
    /// Column of the time of a series' rows, with a unit behind it where its numbers are no seconds: t:ms, t:us or t:ns; none
    /// where there is none [default: time and other usual names]
    pub time: Option<String>,
    /// The model's tokenizer.json, for text [default: the one beside the model or the adapter]
    #[serde(skip_serializing)]
    pub tokenizer: Option<PathBuf>,
    /// Tokens of a text, at most [default: what tokenizer.json says, or 512; 128 for a language model]
    pub max_length: Option<u32>,
    /// The token that a language model's sequences begin with [default: what the tokenizer says]
    pub bos_token: Option<String>,
    /// The token that a language model's texts end with [default: what the tokenizer says]
    pub eos_token: Option<String>,
    /// Join rows of text into sequences of full length, for a language model
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub packing: bool,
    /// Label column of a table, repeatable [default: label and other usual names, or the last]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub label: Vec<String>,
    /// Text column of a table, or two with a comma between them [default: text and other usual names]
    pub text: Option<String>,
    /// Column of a table that names the images or sounds [default: file and other usual names]
    pub file: Option<String>,
    /// Which samples belong together, such as those of one recording or person: they all go to the same side of the split
    ///
    /// A column of a table, an array of an .npz file, `folder` for the folders inside a class, or a regular expression for the part of
    /// a file's name that names the group, such as 'subject[0-9]+'. Without the option, a column or an array called `group` or `subject` is
    /// used where there is one; `none` uses none.
    pub group: Option<String>,
}

/// What a delta does not carry of how samples are read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The model's tokenizer.json, for text [default: the one beside the model or the adapter]
    pub tokenizer: Option<PathBuf>,
    /// The token that a language model's sequences begin with [default: what the tokenizer says]
    pub bos_token: Option<String>,
    /// The token that a language model's texts end with [default: what the tokenizer says]
    pub eos_token: Option<String>,
    /// Rows one behind the other in full sequences; only where they are learned or measured
    pub packing: bool,
    /// Label column of a table, repeatable [default: label and other usual names, or the last]
    pub label: Vec<String>,
    /// Text column of a table, or two with a comma between them [default: text and other usual names]
    pub text: Option<String>,
    /// Column of a table that names the images or sounds [default: file and other usual names]
    pub file: Option<String>,
    /// Which samples belong together, such as those of one recording or person: they all go to the same side of the split
    ///
    /// A column of a table, an array of an .npz file, `folder` for the folders inside a class, or a regular expression for the part of
    /// a file's name that names the group, such as 'subject[0-9]+'. Without the option, a column or an array called `group` or `subject` is
    /// used where there is one; `none` uses none.
    pub group: Option<String>,
}

/// A whole number without a point, so that its text is as it was typed.
fn as_written<S: Serializer>(rate: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match rate {
        Some(rate) if rate.fract() == 0.0 && rate.abs() < 2f64.powi(53) => serializer.serialize_some(&(*rate as i64)),
        other => other.serialize(serializer),
    }
}

impl Samples {
    /// What these settings leave open is taken from `other` (a recipe's).
    pub fn or(self, other: Self) -> Self {
        Self {
            preprocessing: self.preprocessing.or(other.preprocessing),
            size: self.size.or(other.size),
            resize: self.resize.or(other.resize),
            interpolation: self.interpolation.or(other.interpolation),
            scale: self.scale.or(other.scale),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            layout: self.layout.or(other.layout),
            sample_rate: self.sample_rate.or(other.sample_rate),
            duration: self.duration.or(other.duration),
            front_end: self.front_end.or(other.front_end),
            window: self.window.or(other.window),
            hop: self.hop.or(other.hop),
            channels: self.channels.or(other.channels),
            time: self.time.or(other.time),
            tokenizer: self.tokenizer.or(other.tokenizer),
            max_length: self.max_length.or(other.max_length),
            bos_token: self.bos_token.or(other.bos_token),
            eos_token: self.eos_token.or(other.eos_token),
            packing: self.packing || other.packing,
            label: if self.label.is_empty() { other.label } else { self.label },
            text: self.text.or(other.text),
            file: self.file.or(other.file),
            group: self.group.or(other.group),
        }
    }

    /// What a delta would not carry of these settings.
    pub fn reading(&self) -> Reading {
        Reading {
            tokenizer: self.tokenizer.clone(),
            bos_token: self.bos_token.clone(),
            eos_token: self.eos_token.clone(),
            packing: self.packing,
            label: self.label.clone(),
            text: self.text.clone(),
            file: self.file.clone(),
            group: self.group.clone(),
        }
    }
}
