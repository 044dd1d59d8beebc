//! How a sensor series becomes the numbers that a model expects: plain values that fit into a delta's header, and windows of series.
//!
//! Takes readings row by row, gives `[rows, channels]` or `[channels, rows]`, scaled by the training data.

use super::Error;
use super::times::{self, Time, TimeUnit};
use crate::graph::Tensor;
use serde::{Deserialize, Serialize};

/// Most channels of a series.
pub(super) const CHANNELS_MAX: usize = 4096;
/// Most numbers of a window.
const NUMBERS_MAX: u64 = 1 << 26;
/// A deviation below this share of the mean is the rounding of a constant.
const CONSTANT: f64 = 1e-7;

/// What the values of each channel are brought to mean 0 and deviation 1 by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// Subtracted, for each channel.
    pub mean: Vec<f32>,
    /// Divides then, for each channel.
    pub std: Vec<f32>,
}

/// Series → windows: `rows` rows from every `hop` rows on, of the named channels, each `(value − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesPreprocessing {
    /// Rows in a second; 0 where nothing tells the time.
    pub rate: f64,
    /// Whether rows are interpolated to that rate, instead of having it.
    pub resampled: bool,
    /// Rows of a window.
    pub rows: u32,
    /// Rows from the start of one window to that of the next.
    pub hop: u32,
    /// Whether the model takes `[channels, rows]` and not `[rows, channels]`.
    pub channels_first: bool,
    /// The column of time; `None` where there is none.
    pub time: Option<String>,
    /// What a number in it counts; a date tells that itself.
    pub unit: TimeUnit,
    /// The channels by name, in the model's order. An array has no names: there they are the numbers of its columns.
    pub channels: Vec<String>,
    /// By what the values are scaled; `None`: they are fed as they are.
    pub scaler: Option<Scaler>,
}

impl SeriesPreprocessing {
    /// The shape of one sample, without the batch axis.
    pub fn shape(&self) -> [u64; 2] {
        let (rows, channels) = (self.rows.into(), self.channels.len() as u64);
        if self.channels_first { [channels, rows] } else { [rows, channels] }
    }

    /// All of it in words, for a line that a person reads.
    pub fn described(&self) -> String {
        const SHOWN: usize = 12;
        let seconds = |rows: u32| times::number(f64::from(rows) / self.rate);
        let windows = match self.rate > 0.0 {
            true => {
                let how = if self.resampled { ", interpolated" } else { "" };
                let (rate, rows, hop) = (times::number(self.rate), self.rows, self.hop);
                format!("{rate} Hz{how}, windows of {rows} rows ({} s) every {hop} ({} s)", seconds(rows), seconds(hop))
            }
            false => format!("windows of {} rows every {}", self.rows, self.hop),
        };
        let more = if self.channels.len() > SHOWN { ", …" } else { "" };
        let names = self.channels.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{windows}, {} channels ({names}{more})", self.channels.len())
    }

    /// Whether the values make sense; they may come out of a delta that somebody else wrote.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first field that does not.
    pub fn validate(&self) -> Result<(), Error> {
        let rows = self.rows;
        if rows < 2 {
            return Err(Error::setting("samples.window", rows, "a window has two rows at least"));
        }
        if self.hop == 0 {
            return Err(Error::setting(
                "samples.hop",
                0,
                "windows would all start at the same row; give one row at least",
            ));
        }
        if !self.rate.is_finite() || self.rate < 0.0 {
            return Err(Error::setting("samples.sample-rate", self.rate, "must be a number above 0"));
        }
        let channels = self.channels.len();
        if !(1..=CHANNELS_MAX).contains(&channels) || u64::from(rows) * channels as u64 > NUMBERS_MAX {
            let problem = format!("{rows} rows of so many are no window: there are 1 to {CHANNELS_MAX} channels");
            return Err(Error::setting("samples.channels", channels, problem));
        }
        let Some(Scaler { mean, std }) = &self.scaler else { return Ok(()) };
        let divides = std.iter().all(|std| std.is_finite() && *std > 0.0) && mean.iter().all(|mean| mean.is_finite());
        match divides && mean.len() == channels && std.len() == channels {
            true => Ok(()),
            false => Err(Error::setting("samples.scale", "standard", "the stored means and deviations are damaged")),
        }
    }

    /// What the model is fed of one window, `[rows, channels]` row by row.
    pub(super) fn tensor(&self, window: &[f32]) -> Tensor {
        let channels = self.channels.len();
        let scaled = |channel: usize, value: f32| match &self.scaler {
            Some(Scaler { mean, std }) => (value - mean[channel]) / std[channel],
            None => value,
        };
        let of_channel =
            |channel: usize| window.iter().skip(channel).step_by(channels).map(move |value| scaled(channel, *value));
        let values: Vec<f32> = match self.channels_first {
            true => (0..channels).flat_map(of_channel).collect(),
            false => window.iter().enumerate().map(|(place, value)| scaled(place % channels, *value)).collect(),
        };
        Tensor::from_f32(&self.shape(), &values)
    }
}

/// From when to when a sample is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum When {
    /// In seconds of the file's own time, or rows where it has none.
    Number(f64),
    /// A date with its time.
    Date(String),
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => f.write_str(&times::number(*number)),
            Self::Date(date) => f.write_str(date),
        }
    }
}

/// Where a window lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// Which series.
    pub series: usize,
    /// Its first row.
    pub row: usize,
    /// When it starts and ends, in seconds or rows.
    pub from: f64,
    pub to: f64,
    pub is_date: bool,
}

/// Windows of series in memory.
#[derive(Debug)]
pub(super) struct Windows {
    pub preprocessing: SeriesPreprocessing,
    /// Each `[rows, channels]`, row by row.
    pub series: Vec<Vec<f32>>,
    pub windows: Vec<Window>,
}

impl Windows {
    fn values(&self, sample: usize) -> &[f32] {
        let (channels, rows) = (self.preprocessing.channels.len(), self.preprocessing.rows as usize);
        let Window { series, row, .. } = self.windows[sample];
        &self.series[series][row * channels..(row + rows) * channels]
    }

    /// What the model is fed of a window.
    pub fn load(&self, sample: usize) -> Tensor {
        self.preprocessing.tensor(self.values(sample))
    }

    /// The hash of each window's values, before they are scaled.
    pub fn keys(&self) -> Vec<[u8; 32]> {
        let key = |sample| {
            let bytes: Vec<u8> = self.values(sample).iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut hasher = blake3::Hasher::new();
            hasher.update(&(self.preprocessing.channels.len() as u64).to_le_bytes()).update(&bytes);
            *hasher.finalize().as_bytes()
        };
        (0..self.windows.len()).map(key).collect()
    }

    /// From when to when a window is.
    pub fn when(&self, sample: usize) -> [When; 2] {
        let Window { from, to, is_date, .. } = self.windows[sample];
        [from, to].map(|seconds| match is_date {
            true => When::Date(times::format_time(Time { seconds, is_date })),
            false => When::Number((seconds * 1e6).round() / 1e6),
        })
    }

    /// How a window is called, whose file is.
    pub fn name(&self, file: String, sample: usize) -> String {
        let [from, to] = self.when(sample);
        match (self.windows[sample].is_date, self.preprocessing.rate > 0.0) {
            (true, _) => format!("{file}[{from} to {to}]"),
            (false, true) => format!("{file}[{from}-{to} s]"),
            (false, false) => format!("{file}[rows {from}-{to}]"),
        }
    }

    /// The mean and the standard deviation of each channel over some windows, each window's rows counted.
    pub fn scaler(&self, samples: &[usize]) -> Scaler {
        let channels = self.preprocessing.channels.len();
        let count = (samples.len() * self.preprocessing.rows as usize) as f64;
        let (mut mean, mut variance) = (vec![0.0f64; channels], vec![0.0f64; channels]);
        let each = |work: &mut dyn FnMut(usize, f64)| {
            for sample in samples {
                self.values(*sample)
                    .iter()
                    .enumerate()
                    .for_each(|(place, value)| work(place % channels, (*value).into()));
            }
        };
        each(&mut |channel, value| mean[channel] += value / count);
        // In a second pass: the difference of two large sums would lose what is small beside the mean.
        each(&mut |channel, value| variance[channel] += (value - mean[channel]).powi(2) / count);
        let std = variance.iter().zip(&mean).map(|(variance, mean)| match variance.sqrt() {
            std if std <= mean.abs() * CONSTANT || (std as f32) == 0.0 => 1.0,
            std => std as f32,
        });
        Scaler { std: std.collect(), mean: mean.iter().map(|mean| *mean as f32).collect() }
    }
}
