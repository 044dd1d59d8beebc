//! How a sound becomes the numbers that a model expects: plain values that fit into a delta's header, and clips that lie in files.
//!
//! Takes a recording, gives a waveform or a spectrogram of the model's length. A clip may be a part of a file.

use super::mel::LogMel;
use super::recording::Recording;
use super::{Error, Limits};
use crate::graph::Tensor;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The longest clip that a model is fed with, in samples.
const SAMPLES_MAX: u32 = 1 << 26;

/// Where an axis of size 1 stands in a model's input, besides the batch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UnitAxis {
    /// Nowhere: `[batch, samples]`.
    #[default]
    None,
    /// Before the others: `[batch, 1, samples]`.
    First,
    /// Behind the others: `[batch, samples, 1]`.
    Last,
}

/// Sound → a waveform or a spectrogram.
///
/// The mean of the channels is resampled to `rate`, cut behind `samples` samples or filled up with silence, and multiplied by `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SoundPreprocessing {
    /// Samples in a second; 0 takes recordings as they are.
    pub rate: u32,
    /// Samples of a clip.
    pub samples: u32,
    /// Factor for samples in -1 to 1; 32768 for those in the range of 16-bit integers.
    pub scale: f32,
    /// Where an axis of size 1 stands.
    pub unit_axis: UnitAxis,
    /// The spectrogram; `None` for a waveform.
    pub mel: Option<LogMel>,
    /// Whether a spectrogram is `[frames, mels]` and not `[mels, frames]`.
    #[serde(default)]
    pub frames_first: bool,
}

impl SoundPreprocessing {
    /// The shape of one sample, without the batch axis.
    pub fn shape(&self) -> Vec<u64> {
        let mut shape = match &self.mel {
            None => vec![self.samples.into()],
            Some(mel) => vec![mel.mels.into(), mel.frames(self.samples as usize) as u64],
        };
        if self.frames_first {
            shape.reverse();
        }
        match self.unit_axis {
            UnitAxis::None => {}
            UnitAxis::First => shape.insert(0, 1),
            UnitAxis::Last => shape.push(1),
        }
        shape
    }

    /// All of it in words, for a line that a person reads.
    pub fn described(&self) -> String {
        let length = match self.rate {
            0 => format!("{} samples at their own rate", self.samples),
            rate => format!("{rate} Hz, {} samples ({:.2} s)", self.samples, f64::from(self.samples) / f64::from(rate)),
        };
        let scale = if self.scale == 1.0 { String::new() } else { format!(", times {}", self.scale) };
        let front = self.mel.as_ref().map_or("waveform".into(), LogMel::described);
        format!("mono {length}, cut or filled with silence at the end{scale}, {front}")
    }

    /// Whether the values make sense; they may come out of a delta that somebody else wrote.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first field that does not.
    pub fn validate(&self) -> Result<(), Error> {
        if !(1..=SAMPLES_MAX).contains(&self.samples) {
            return Err(Error::setting("samples.duration", self.samples, "a clip has 1 to 67,108,864 samples"));
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return Err(Error::setting("samples.scale", self.scale, "must be a finite number other than 0"));
        }
        match &self.mel {
            Some(_) if self.rate == 0 => {
                let problem = "a spectrogram needs it; give the rate that the model was trained at, such as 16000";
                Err(Error::setting("samples.sample-rate", 0, problem))
            }
            Some(mel) => mel.validate(self.rate, self.samples as usize),
            None => Ok(()),
        }
    }

    /// What the model is fed of a recording.
    pub fn tensor(&self, recording: &Recording) -> Tensor {
        let mut samples = recording.at(self.rate, self.samples as usize);
        samples.resize(self.samples as usize, 0.0);
        if self.scale != 1.0 {
            samples.iter_mut().for_each(|sample| *sample *= self.scale);
        }
        let values = match &self.mel {
            None => samples,
            Some(mel) => {
                let (frames, mels) = (mel.spectrogram(&samples, self.rate), mel.mels as usize);
                match self.frames_first {
                    true => frames,
                    false => (0..mels).flat_map(|band| frames.iter().skip(band).step_by(mels).copied()).collect(),
                }
            }
        };
        Tensor::from_f32(&self.shape(), &values)
    }
}

/// A part of a file, in seconds.
pub(super) type Part = [f64; 2];

/// Clips of sound in files.
#[derive(Debug)]
pub(super) struct Clips {
    pub preprocessing: SoundPreprocessing,
    pub limits: Limits,
    /// For each clip, the part of its file that it is. Empty: all of it.
    pub parts: Vec<Part>,
    /// The file that was decoded last: clips of one file follow each other.
    decoded: Mutex<Option<(PathBuf, Arc<Recording>)>>,
}

impl Clips {
    pub fn new(preprocessing: SoundPreprocessing, limits: Limits, parts: Vec<Part>) -> Self {
        Self { preprocessing, limits, parts, decoded: Mutex::default() }
    }

    /// A clip's key: its file's, and where it lies in it.
    pub fn key(&self, file: [u8; 32], clip: usize) -> [u8; 32] {
        self.parts.get(clip).map_or(file, |part| key_of_part(file, *part))
    }

    /// The tensor of a clip. `decode` reads its file where that is not the one that was read last.
    pub fn load<E>(
        &self,
        path: &Path,
        clip: usize,
        decode: impl FnOnce() -> Result<Recording, E>,
    ) -> Result<Tensor, E> {
        let Some(part) = self.parts.get(clip) else { return decode().map(|sound| self.preprocessing.tensor(&sound)) };
        let held = || self.decoded.lock().unwrap_or_else(|held| held.into_inner());
        let known = held().as_ref().filter(|(last, _)| last == path).map(|(_, sound)| sound.clone());
        let sound = match known {
            Some(sound) => sound,
            None => {
                let sound = Arc::new(decode()?);
                *held() = Some((path.into(), sound.clone()));
                sound
            }
        };
        Ok(self.preprocessing.tensor(&part_of(&sound, *part)))
    }

    /// How a clip is called, whose file is.
    pub fn name(&self, file: String, clip: usize) -> String {
        self.parts.get(clip).map_or(file.clone(), |[start, end]| format!("{file}[{start}-{end} s]"))
    }
}

/// The key of a part of a file.
pub(super) fn key_of_part(file: [u8; 32], [start, end]: Part) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file).update(&start.to_le_bytes()).update(&end.to_le_bytes());
    *hasher.finalize().as_bytes()
}

fn part_of(sound: &Recording, [start, end]: Part) -> Recording {
    let place = |seconds: f64| ((seconds * f64::from(sound.rate)).round() as usize).min(sound.samples.len());
    Recording { rate: sound.rate, samples: sound.samples[place(start)..place(end).max(place(start))].to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(samples: u32) -> SoundPreprocessing {
        let unit_axis = UnitAxis::None;
        SoundPreprocessing { rate: 8000, samples, scale: 1.0, unit_axis, mel: None, frames_first: false }
    }

    #[test]
    fn a_clip_is_cut_or_filled_up_and_scaled() {
        let sound = Recording { rate: 8000, samples: vec![0.5, -1.0, 0.25] };
        let told = |preprocessing: SoundPreprocessing| {
            let tensor = preprocessing.tensor(&sound);
            (tensor.shape.clone(), tensor.to_f32().unwrap())
        };
        assert_eq!(told(plain(2)), (vec![2], vec![0.5, -1.0]));
        let range = SoundPreprocessing { scale: 32768.0, unit_axis: UnitAxis::Last, ..plain(4) };
        assert_eq!(told(range), (vec![4, 1], vec![16384.0, -32768.0, 8192.0, 0.0]));
        assert_eq!(SoundPreprocessing { unit_axis: UnitAxis::First, ..plain(4) }.shape(), [1, 4]);
        let mel = LogMel::new("librosa", 8000, 20);
        let spectrogram = SoundPreprocessing { mel, unit_axis: UnitAxis::First, ..plain(800) };
        assert_eq!(spectrogram.shape(), [1, 20, 11]);
        assert_eq!(SoundPreprocessing { frames_first: true, ..spectrogram }.shape(), [1, 11, 20]);
    }

    #[test]
    fn a_part_is_told_by_its_place_and_read_from_a_file_that_is_decoded_once() {
        let clips = Clips::new(plain(2), Limits::default(), vec![[0.0, 0.00025], [0.000125, 1.0]]);
        let sound = || Ok::<_, ()>(Recording { rate: 8000, samples: vec![1.0, 2.0, 3.0] });
        assert_eq!(clips.load(Path::new("a"), 0, sound).unwrap().to_f32().unwrap(), [1.0, 2.0]);
        let second = clips.load(Path::new("a"), 1, || panic!("decoded twice") as Result<_, ()>);
        assert_eq!(second.unwrap().to_f32().unwrap(), [2.0, 3.0]);
        assert_ne!(clips.key([1; 32], 0), clips.key([1; 32], 1));
        assert_eq!(clips.name("a.wav".into(), 1), "a.wav[0.000125-1 s]");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let mel = LogMel::new("torchaudio", 8000, 20);
        assert!(plain(8000).validate().is_ok());
        let bad = [
            plain(0),
            plain(u32::MAX),
            SoundPreprocessing { scale: f32::NAN, ..plain(8000) },
            SoundPreprocessing { rate: 0, mel, ..plain(8000) },
            SoundPreprocessing { mel, ..plain(100) },
        ];
        bad.iter().for_each(|bad| assert!(bad.validate().is_err(), "{bad:?}"));
    }
}
