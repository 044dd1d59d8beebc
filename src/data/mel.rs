//! Samples → the logarithm of their power in bands of the mel scale, as torchaudio and librosa compute it.
//!
//! Plain values and pure functions; nothing here reads a file.

use super::Error;
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, TAU};

/// The largest transform, in samples.
const FFT_MAX: u32 = 1 << 14;
/// The most bands.
const MELS_MAX: u32 = 1024;

/// How frequencies are spread over bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MelScale {
    /// 2595 · log10(1 + f / 700): torchaudio's default, `htk=True` of librosa.
    Htk,
    /// Linear up to 1 kHz, logarithmic above (Slaney's Auditory Toolbox): librosa's default.
    Slaney,
}

/// What stands beside a clip, so that the first and the last frame have their middle on its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edge {
    /// The clip mirrored: torchaudio's default.
    Reflect,
    /// Silence: librosa's default.
    Zero,
    /// Nothing: the first frame begins with the clip (`center=False`).
    Open,
}

/// The logarithm of a band's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Logarithm {
    /// 10 · log10(max(power, floor)): torchaudio's `AmplitudeToDB`, librosa's `power_to_db` with `ref=1, top_db=None`.
    Decibel,
    /// ln(power + floor).
    Natural,
}

/// A log-mel spectrogram: a Hann window, the power of its Fourier transform, triangular bands, a logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LogMel {
    /// Samples of the transform; at least `window`.
    pub fft: u32,
    /// Samples of the window.
    pub window: u32,
    /// Samples from one frame to the next.
    pub hop: u32,
    /// Bands.
    pub mels: u32,
    /// Where the lowest band begins, in Hz.
    pub low_hz: f32,
    /// Where the highest band ends, in Hz.
    pub high_hz: f32,
    /// How the bands are spread.
    pub scale: MelScale,
    /// Whether each band is divided by its width, so that all have the same area (`norm="slaney"`).
    pub same_area: bool,
    /// What stands beside the clip.
    pub edge: Edge,
    /// Which logarithm.
    pub log: Logarithm,
    /// What keeps the logarithm of silence finite.
    pub floor: f32,
}

impl LogMel {
    /// Windows of 25 ms every 10 ms and the next power of two as transform, by the defaults of a library: `torchaudio` or `librosa`.
    pub fn new(library: &str, rate: u32, mels: u32) -> Option<Self> {
        let window = (rate / 40).max(1);
        let own = Self {
            fft: window.checked_next_power_of_two().unwrap_or(window),
            window,
            hop: (rate / 100).max(1),
            mels,
            low_hz: 0.0,
            high_hz: rate as f32 / 2.0,
            scale: MelScale::Htk,
            same_area: false,
            edge: Edge::Reflect,
            log: Logarithm::Decibel,
            floor: 1e-10,
        };
        match library {
            "torchaudio" => Some(own),
            "librosa" => Some(Self { scale: MelScale::Slaney, same_area: true, edge: Edge::Zero, ..own }),
            _ => None,
        }
    }

    /// Frames of a clip of so many samples.
    pub fn frames(&self, samples: usize) -> usize {
        match self.edge {
            Edge::Open => samples.checked_sub(self.fft as usize).map_or(0, |rest| rest / self.hop as usize + 1),
            Edge::Reflect | Edge::Zero => samples / self.hop as usize + 1,
        }
    }

    /// The shortest clip of so many frames, in samples.
    pub fn samples(&self, frames: usize) -> usize {
        let hops = frames.saturating_sub(1).saturating_mul(self.hop as usize);
        if self.edge == Edge::Open { hops.saturating_add(self.fft as usize) } else { hops }
    }

    /// Whether the values make sense for clips of so many samples; they may come out of a delta that somebody else wrote.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first that does not.
    pub fn validate(&self, rate: u32, samples: usize) -> Result<(), Error> {
        let fail = |value: String, problem: &str| Err(Error::setting("samples.front-end", value, problem));
        let Self { fft, window, hop, mels, low_hz, high_hz, floor, .. } = *self;
        if !(1..=FFT_MAX).contains(&fft) || !(1..=fft).contains(&window) || hop == 0 {
            return fail(
                format!("fft={fft},window={window},hop={hop}"),
                "a window has 1 to fft samples, a transform 16,384 at most, and a hop 1 or more",
            );
        }
        if !(1..=MELS_MAX).contains(&mels) {
            return fail(format!("mels={mels}"), "there may be 1 to 1,024 bands");
        }
        let above = high_hz.is_finite() && high_hz <= rate as f32 / 2.0;
        if !above || !low_hz.is_finite() || low_hz < 0.0 || low_hz >= high_hz {
            return fail(format!("low={low_hz},high={high_hz}"), "bands lie between 0 Hz and half the sample rate");
        }
        if !floor.is_finite() || floor <= 0.0 {
            return fail(format!("floor={floor}"), "must be above 0");
        }
        let too_short = match self.edge {
            Edge::Reflect => samples <= fft as usize / 2,
            Edge::Open => samples < fft as usize,
            Edge::Zero => false,
        };
        if too_short {
            let problem = format!("clips of {samples} samples are too short for it; take a smaller fft or edge=zero");
            return fail(format!("fft={fft}"), &problem);
        }
        Ok(())
    }

    /// The spectrogram of a clip, frame by frame: `[frames, mels]`.
    pub fn spectrogram(&self, samples: &[f32], rate: u32) -> Vec<f32> {
        let fft = self.fft as usize;
        let (window, twiddles, bands) = (self.hann(), twiddles(fft), self.bands(rate));
        let (mut frame, mut bins) = (vec![0.0f64; fft], vec![(0.0, 0.0); fft]);
        let before = if self.edge == Edge::Open { 0 } else { fft as i64 / 2 };
        let mut told = Vec::with_capacity(self.frames(samples.len()) * self.mels as usize);
        for place in 0..self.frames(samples.len()) {
            let start = (place * self.hop as usize) as i64 - before;
            for (offset, (value, weight)) in frame.iter_mut().zip(&window).enumerate() {
                *value = self.sample(samples, start + offset as i64) * weight;
            }
            transform(&frame, 1, &mut bins, &twiddles);
            let power = |bin: usize| bins[bin].0 * bins[bin].0 + bins[bin].1 * bins[bin].1;
            told.extend(bands.iter().map(|(first, weights)| {
                let sum: f64 = weights.iter().enumerate().map(|(place, weight)| weight * power(first + place)).sum();
                let floor = f64::from(self.floor);
                match self.log {
                    Logarithm::Decibel => (10.0 * sum.max(floor).log10()) as f32,
                    Logarithm::Natural => (sum + floor).ln() as f32,
                }
            }));
        }
        told
    }

    fn sample(&self, samples: &[f32], place: i64) -> f64 {
        let last = samples.len() as i64 - 1;
        let place = match self.edge {
            Edge::Reflect if place < 0 => -place,
            Edge::Reflect if place > last => 2 * last - place,
            _ => place,
        };
        usize::try_from(place).ok().and_then(|place| samples.get(place)).map_or(0.0, |sample| f64::from(*sample))
    }

    /// A periodic Hann window in the middle of the transform.
    fn hann(&self) -> Vec<f64> {
        let (fft, window) = (self.fft as usize, self.window as usize);
        let mut weights = vec![0.0; fft];
        let left = (fft - window) / 2;
        for (place, weight) in weights[left..left + window].iter_mut().enumerate() {
            *weight = (PI * place as f64 / window as f64).sin().powi(2);
        }
        weights
    }

    fn mel(&self, hertz: f64) -> f64 {
        match self.scale {
            MelScale::Htk => 2595.0 * (1.0 + hertz / 700.0).log10(),
            MelScale::Slaney if hertz < 1000.0 => hertz * 3.0 / 200.0,
            MelScale::Slaney => 15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4f64.ln(),
        }
    }

    fn hertz(&self, mel: f64) -> f64 {
        match self.scale {
            MelScale::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
            MelScale::Slaney if mel < 15.0 => mel * 200.0 / 3.0,
            MelScale::Slaney => 1000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp(),
        }
    }

    /// Triangles over the transform's bins, each from the first bin that it weighs.
    fn bands(&self, rate: u32) -> Vec<(usize, Vec<f64>)> {
        let (low, high) = (self.mel(self.low_hz.into()), self.mel(self.high_hz.into()));
        let corner = |place: u32| self.hertz(low + (high - low) * f64::from(place) / f64::from(self.mels + 1));
        let bin_hz = f64::from(rate) / f64::from(self.fft);
        let band = |place: u32| {
            let [from, middle, to] = [corner(place), corner(place + 1), corner(place + 2)];
            let area = if self.same_area { 2.0 / (to - from) } else { 1.0 };
            let weight = |bin: usize| {
                let at = bin as f64 * bin_hz;
                ((at - from) / (middle - from)).min((to - at) / (to - middle)).max(0.0) * area
            };
            let bins = (from / bin_hz).floor() as usize..=((to / bin_hz).ceil() as usize).min(self.fft as usize / 2);
            (*bins.start(), bins.map(weight).collect())
        };
        (0..self.mels).map(band).collect()
    }

    /// All of it in words, for a line that a person reads.
    pub fn described(&self) -> String {
        let scale = if self.scale == MelScale::Htk { "HTK" } else { "Slaney" };
        let log = if self.log == Logarithm::Decibel { "dB" } else { "ln" };
        let Self { fft, window, hop, mels, .. } = self;
        format!("{mels} log-mel bands ({scale}, {log}), window {window}, hop {hop}, fft {fft}")
    }
}

/// Reads a front end: `waveform`, or `torchaudio` or `librosa` with what is different behind a colon, such as
/// `torchaudio:mels=64,window=25ms,hop=10ms,fft=400,log=ln`. `mels` is what the model takes. `None`: the waveform.
///
/// # Errors
/// [`Error::Setting`] with what is known.
pub fn parse_front_end(text: &str, rate: u32, mels: u32) -> Result<Option<LogMel>, Error> {
    const KNOWN: &str = "write waveform, torchaudio or librosa, and behind the latter what is different: \
                         torchaudio:mels=64,window=25ms,hop=10ms,fft=512,low=0,high=8000,scale=htk|slaney,norm=slaney|none,\
                         edge=reflect|zero|open,log=db|ln,floor=1e-10";
    let fail = || Error::setting("samples.front-end", text, KNOWN);
    let (library, rest) = text.split_once(':').unwrap_or((text, ""));
    if library == "waveform" && rest.is_empty() {
        return Ok(None);
    }
    let mut mel = LogMel::new(library, rate, mels).ok_or_else(fail)?;
    for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(fail)?;
        let number = |value: &str| value.parse::<u32>().map_err(|_| fail());
        let real = |value: &str| value.parse::<f32>().map_err(|_| fail());
        let time = |value: &str| match value.strip_suffix("ms") {
            Some(milliseconds) => real(milliseconds).map(|ms| (ms / 1000.0 * rate as f32).round() as u32),
            None => number(value),
        };
        match (key, value) {
            ("mels", _) => mel.mels = number(value)?,
            ("fft", _) => mel.fft = number(value)?,
            ("window", _) => {
                mel.window = time(value)?;
                mel.fft = mel.window.checked_next_power_of_two().unwrap_or(mel.window);
            }
            ("hop", _) => mel.hop = time(value)?,
            ("low", _) => mel.low_hz = real(value)?,
            ("high", _) => mel.high_hz = real(value)?,
            ("floor", _) => mel.floor = real(value)?,
            ("scale", "htk") => mel.scale = MelScale::Htk,
            ("scale", "slaney") => mel.scale = MelScale::Slaney,
            ("norm", "slaney" | "none") => mel.same_area = value == "slaney",
            ("edge", "reflect") => mel.edge = Edge::Reflect,
            ("edge", "zero") => mel.edge = Edge::Zero,
            ("edge", "open") => mel.edge = Edge::Open,
            ("log", "db") => (mel.log, mel.floor) = (Logarithm::Decibel, 1e-10),
            ("log", "ln") => (mel.log, mel.floor) = (Logarithm::Natural, 1e-6),
            _ => return Err(fail()),
        }
    }
    Ok(Some(mel))
}

type Complex = (f64, f64);

fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// exp(-2πi k / n) for each k.
fn twiddles(n: usize) -> Vec<Complex> {
    (0..n).map(|k| TAU * k as f64 / n as f64).map(|angle| (angle.cos(), -angle.sin())).collect()
}

/// The discrete Fourier transform of every `stride`-th value: halves while the length is even (Cooley and Tukey 1965), and by its
/// definition what is odd.
fn transform(values: &[f64], stride: usize, bins: &mut [Complex], twiddles: &[Complex]) {
    let n = bins.len();
    let step = twiddles.len() / n;
    if n % 2 == 1 {
        for (k, bin) in bins.iter_mut().enumerate() {
            *bin = (0..n).fold((0.0, 0.0), |sum, j| {
                let (value, turn) = (values[j * stride], twiddles[j * k % n * step]);
                (sum.0 + value * turn.0, sum.1 + value * turn.1)
            });
        }
        return;
    }
    let (even, odd) = bins.split_at_mut(n / 2);
    transform(values, stride * 2, even, twiddles);
    transform(&values[stride..], stride * 2, odd, twiddles);
    for (k, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
        let turned = times(twiddles[k * step], *odd);
        (*even, *odd) = ((even.0 + turned.0, even.1 + turned.1), (even.0 - turned.0, even.1 - turned.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_that_of_its_definition_at_every_length() {
        for n in [1, 2, 3, 8, 15, 40, 50] {
            let values: Vec<f64> = (0..n).map(|j| ((j * j % 7) as f64).sin()).collect();
            let mut bins = vec![(0.0, 0.0); n];
            transform(&values, 1, &mut bins, &twiddles(n));
            for (k, bin) in bins.iter().enumerate() {
                let sum = |part: fn(f64) -> f64| -> f64 {
                    (0..n).map(|j| values[j] * part(-TAU * (j * k) as f64 / n as f64)).sum()
                };
                assert!((bin.0 - sum(f64::cos)).abs() < 1e-9 && (bin.1 - sum(f64::sin)).abs() < 1e-9, "{n}, bin {k}");
            }
        }
    }

    #[test]
    fn a_front_end_is_read_with_what_is_different() {
        let read = |text: &str| parse_front_end(text, 16_000, 40).map_err(|error| error.to_string());
        assert_eq!(read("waveform"), Ok(None));
        let mel = read("torchaudio").unwrap().unwrap();
        assert_eq!((mel.fft, mel.window, mel.hop, mel.mels), (512, 400, 160, 40));
        let other = read("librosa:window=32ms,hop=8ms,log=ln,mels=64,high=7000").unwrap().unwrap();
        assert_eq!((other.fft, other.window, other.hop, other.mels), (512, 512, 128, 64));
        assert_eq!((other.scale, other.same_area, other.floor, other.high_hz), (MelScale::Slaney, true, 1e-6, 7000.0));
        for text in ["", "mfcc", "torchaudio:mel=3", "torchaudio:fft", "waveform:fft=2", "librosa:log=lg"] {
            assert!(read(text).unwrap_err().contains("torchaudio:mels=64"), "{text}");
        }
    }

    #[test]
    fn what_a_clip_is_too_short_for_is_refused() {
        let mel = LogMel::new("torchaudio", 16_000, 40).unwrap();
        assert!(mel.validate(16_000, 16_000).is_ok());
        assert!(mel.validate(16_000, 256).unwrap_err().to_string().contains("too short"));
        let bad = [
            LogMel { fft: 0, ..mel },
            LogMel { hop: 0, ..mel },
            LogMel { mels: 0, ..mel },
            LogMel { window: 600, ..mel },
            LogMel { high_hz: 9000.0, ..mel },
            LogMel { low_hz: f32::NAN, ..mel },
            LogMel { floor: 0.0, ..mel },
        ];
        bad.iter().for_each(|bad| assert!(bad.validate(16_000, 16_000).is_err(), "{bad:?}"));
        assert_eq!((mel.frames(16_000), mel.samples(101)), (101, 16_000));
    }
}
