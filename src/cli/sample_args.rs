//! The options that say how samples are read and prepared, for the commands that read samples.

use crate::data::Filter;
use crate::recipe::{Reading, Samples};
use clap::Args;
use std::path::PathBuf;

/// How samples become the model's inputs. For images: (pixel × scale − mean) / std.
#[derive(Debug, Clone, Default, Args)]
pub struct SamplesArgs {
    /// What is done to pixels, by name: unit, imagenet, torchvision, timm, inception, clip, efficientnet-lite or raw
    /// [default: what stands in or beside the model, or unit]
    #[arg(long, help_heading = "Images", value_name = "NAME")]
    pub preprocessing: Option<String>,
    /// Image size, S or WxH [default: what the model declares]
    #[arg(long, help_heading = "Images", value_name = "S|WxH")]
    pub size: Option<String>,
    /// Shortest side before the centre crop, in pixels [default: --size]
    #[arg(long, help_heading = "Images", value_name = "PIXELS", value_parser = resize)]
    pub resize: Option<u32>,
    /// How images are resized: bilinear, bicubic, lanczos, area or nearest, as Pillow does it [default: the preset's, or
    /// bilinear]
    #[arg(long, help_heading = "Images", value_name = "FILTER", aliases = ["resample", "filter"])]
    pub interpolation: Option<String>,
    /// What pixels are multiplied by, a number or a fraction, or sounds' samples, which lie in -1 to 1 (32768 gives the range of
    /// 16-bit integers). For sensor series: standard (each channel gets mean 0 and deviation 1) or none [default: 1/255 for pixels,
    /// 1 for sounds, standard]
    #[arg(long, help_heading = "Images")]
    pub scale: Option<String>,
    /// What is subtracted from scaled pixels, one or three numbers [default: 0]
    #[arg(long, help_heading = "Images", value_name = "M[,M,M]", allow_hyphen_values = true)]
    pub mean: Option<String>,
    /// What the difference is divided by, one or three numbers [default: 1]
    #[arg(long, help_heading = "Images", value_name = "S[,S,S]")]
    pub std: Option<String>,
    /// Order of an image's axes, nchw or nhwc, or of a series', nct or ntc [default: what the model declares]
    #[arg(long, help_heading = "Images", value_name = "ORDER")]
    pub layout: Option<String>,
    /// Samples in a second that the model takes of sounds, or rows in a second that series are interpolated to [default: what
    /// stands in or beside the model, or the files' own where all have one]
    #[arg(long, help_heading = "Sounds", value_name = "HZ", aliases = ["sampling-rate", "rate"])]
    pub sample_rate: Option<f64>,
    /// Length of a sound, such as 1s or 800ms: longer ones are cut, shorter ones filled up with silence [default: what the model
    /// declares, or that of the longest]
    #[arg(long, help_heading = "Sounds", value_name = "TIME")]
    pub duration: Option<String>,
    /// What a model is fed of a sound: waveform, or a log-mel spectrogram as torchaudio or librosa computes it [default: waveform,
    /// or torchaudio where the model takes a spectrogram]
    ///
    /// Behind torchaudio or librosa stands what is different, such as torchaudio:mels=64,window=25ms,hop=10ms,low=0,high=8000. The
    /// other keys are fft, scale, norm, edge and log
    #[arg(long, help_heading = "Sounds", value_name = "NAME[:KEY=VALUE,…]")]
    pub front_end: Option<String>,
    /// Length of a window of a sensor series, such as 2s, 500ms or 128 rows [default: the rows that the model declares]
    #[arg(long, help_heading = "Sensor series", value_name = "TIME|N")]
    pub window: Option<String>,
    /// From the start of one window to that of the next, such as 1s or 64 rows [default: half a window]
    #[arg(long, help_heading = "Sensor series", value_name = "TIME|N")]
    pub hop: Option<String>,
    /// Channels of a series in the model's order, with commas between them [default: all columns of numbers that are neither time
    /// nor label nor group]
    #[arg(long, help_heading = "Sensor series", value_name = "COLUMN,…")]
    pub channels: Option<String>,
    /// Column of the time of a series' rows, with a unit behind it where its numbers are no seconds: t:ms, t:us or t:ns; none
    /// where there is none [default: time and other usual names]
    #[arg(long, help_heading = "Sensor series", value_name = "COLUMN[:UNIT]")]
    pub time: Option<String>,
    /// Tokens of a text, at most [default: what tokenizer.json says, or 512; 128 for a language model]
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub max_length: Option<u32>,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Join rows of text into sequences of full length, for a language model
    #[arg(long, help_heading = "Text")]
    pub packing: bool,
}

impl From<SamplesArgs> for Samples {
    fn from(typed: SamplesArgs) -> Self {
        let SamplesArgs {
            preprocessing,
            size,
            resize,
            interpolation,
            scale,
            mean,
            std,
            layout,
            sample_rate,
            duration,
            front_end,
            window,
            hop,
            channels,
            time,
            max_length,
            packing,
            reading,
        } = typed;
        let ReadingArgs { tokenizer, bos_token, eos_token, label, text, file, group } = reading;
        Self {
            preprocessing,
            size,
            resize,
            interpolation,
            scale,
            mean,
            std,
            layout,
            sample_rate,
            duration,
            front_end,
            window,
            hop,
            channels,
            time,
            tokenizer,
            max_length,
            bos_token,
            eos_token,
            packing,
            label,
            text,
            file,
            group,
        }
    }
}

/// What a delta does not carry of how samples are read.
#[derive(Debug, Clone, Default, Args)]
pub struct ReadingArgs {
    /// The model's tokenizer.json, for text [default: the one beside the model or the adapter]
    #[arg(long, help_heading = "Text", value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// The token that a language model's sequences begin with [default: what the tokenizer says]
    #[arg(long, help_heading = "Text", value_name = "TOKEN")]
    pub bos_token: Option<String>,
    /// The token that a language model's texts end with [default: what the tokenizer says]
    #[arg(long, help_heading = "Text", value_name = "TOKEN")]
    pub eos_token: Option<String>,
    /// Label column of a table, repeatable [default: label and other usual names, or the last]
    #[arg(long, help_heading = "Data", value_name = "COLUMN", alias = "label-column")]
    pub label: Vec<String>,
    /// Text column of a table, or two with a comma between them [default: text and other usual names]
    #[arg(long, help_heading = "Data", value_name = "COLUMN", alias = "text-column")]
    pub text: Option<String>,
    /// Column of a table that names the images or sounds [default: file and other usual names]
    #[arg(id = "file_column", long = "file", help_heading = "Data", value_name = "COLUMN", alias = "image-column")]
    pub file: Option<String>,
    /// Which samples belong together, such as those of one recording or person: they all go to the same side of the split
    ///
    /// A column of a table, an array of an .npz file, `folder` for the folders inside a class, or a regular expression for the part of
    /// a file's name that names the group, such as 'subject[0-9]+'. Without the option, a column or an array called `group` or `subject` is
    /// used where there is one; `none` uses none.
    #[arg(long, help_heading = "Data", value_name = "COLUMN|PATTERN|folder", alias = "groups")]
    pub group: Option<String>,
}

impl From<ReadingArgs> for Reading {
    fn from(typed: ReadingArgs) -> Self {
        let ReadingArgs { tokenizer, bos_token, eos_token, label, text, file, group } = typed;
        Self { tokenizer, bos_token, eos_token, label, text, file, group, packing: false }
    }
}

/// What a delta carries of how samples become the model's inputs, where no data are at hand.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Preprocessing")]
pub struct Pixels {
    /// What is done to pixels, by name: unit, imagenet, torchvision, timm, inception, clip, efficientnet-lite or raw
    /// [default: what stands in or beside the model, or unit]
    #[arg(long, value_name = "NAME")]
    pub preprocessing: Option<String>,
    /// Image size, S or WxH [default: what the model declares]
    #[arg(long, value_name = "S|WxH")]
    pub size: Option<String>,
    /// Shortest side before the centre crop, in pixels [default: --size]
    #[arg(long, value_name = "PIXELS", value_parser = resize)]
    pub resize: Option<u32>,
    /// How images are resized: bilinear, bicubic, lanczos, area or nearest, as Pillow does it [default: the preset's, or
    /// bilinear]
    #[arg(long, value_name = "FILTER", aliases = ["resample", "filter"])]
    pub interpolation: Option<String>,
    /// Factor for pixels, a number or a fraction [default: 1/255]
    #[arg(long)]
    pub scale: Option<String>,
    /// What is subtracted from scaled pixels, one or three numbers [default: 0]
    #[arg(long, value_name = "M[,M,M]", allow_hyphen_values = true)]
    pub mean: Option<String>,
    /// What the difference is divided by, one or three numbers [default: 1]
    #[arg(long, value_name = "S[,S,S]")]
    pub std: Option<String>,
    /// Order of an image's axes [default: what the model declares]
    #[arg(long, value_name = "nchw|nhwc")]
    pub layout: Option<String>,
    /// Tokens of a text, at most [default: what tokenizer.json says, or 512; 128 for a language model]
    #[arg(long, value_name = "N")]
    pub max_length: Option<u32>,
}

impl From<&Pixels> for Samples {
    fn from(pixels: &Pixels) -> Self {
        let Pixels { preprocessing, size, resize, interpolation, scale, mean, std, layout, max_length } =
            pixels.clone();
        Self { preprocessing, size, resize, interpolation, scale, mean, std, layout, max_length, ..Self::default() }
    }
}

/// A shortest side; the name of a filter is another option's.
fn resize(text: &str) -> Result<u32, String> {
    text.parse().map_err(|error| match Filter::named(text) {
        Ok(filter) => format!("this is the shortest side in pixels; write --interpolation {}", filter.name()),
        Err(_) => format!("{error}; write the shortest side in pixels, such as 256"),
    })
}
