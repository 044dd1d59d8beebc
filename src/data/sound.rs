//! One sound: file bytes → its samples, mixed down to one channel.
//!
//! Pure functions of bytes. WAV (integers of 8 to 32 bits, floats) and FLAC are read, and `.npy` arrays of one axis. What a header
//! claims is held against a limit before anything is allocated for it.

use super::Limits;
use super::npy::Array;
use super::recording::Recording;
use bytes::Bytes;
use std::io::Cursor;

/// Why a sound that ends in the middle is refused.
const CUT_OFF: &str = "cut off, or damaged";

/// The samples of a sound in -1 to 1, the mean of its channels.
///
/// # Errors
/// Why it is none that can be used, for a person to read.
pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Recording, String> {
    let recording = match bytes.get(..4).unwrap_or_default() {
        b"RIFF" => wav(bytes, limits)?,
        b"fLaC" => flac(bytes, limits)?,
        b"\x93NUM" => array(bytes, limits)?,
        _ => return Err(not_read(bytes)),
    };
    if recording.samples.is_empty() {
        return Err("a sound of 0 s: there is no sample in it".into());
    }
    if let Some(place) = recording.samples.iter().position(|sample| !sample.is_finite()) {
        return Err(format!("sample {place} is no finite number"));
    }
    Ok(recording)
}

/// Samples and their rate, by the header alone; `None` where it does not tell. The samples of an array have no rate.
pub fn length(bytes: &Bytes) -> Option<(u64, Option<u32>)> {
    match bytes.get(..4).unwrap_or_default() {
        b"RIFF" => {
            let reader = hound::WavReader::new(Cursor::new(&bytes[..])).ok()?;
            Some((reader.duration().into(), Some(reader.spec().sample_rate)))
        }
        b"fLaC" => {
            let info = claxon::FlacReader::new(Cursor::new(&bytes[..])).ok()?.streaminfo();
            Some((info.samples?, Some(info.sample_rate)))
        }
        b"\x93NUM" => Some((Array::parse(bytes).ok().filter(|array| array.shape.len() == 1)?.len() as u64, None)),
        _ => None,
    }
}

/// What a file that is no sound for this program may be instead, with what to do about it.
fn not_read(bytes: &[u8]) -> String {
    let starts = |mark: &[u8]| bytes.starts_with(mark);
    let is_mp3 = starts(b"ID3") || matches!(bytes, [0xff, second, ..] if second & 0xe0 == 0xe0);
    let what = match () {
        () if bytes.is_empty() => return "an empty file".into(),
        () if starts(b"OggS") => "Ogg",
        () if is_mp3 => "MP3",
        () if starts(b"FORM") => "AIFF",
        () if starts(b"RF64") || starts(b"RIFX") => "WAV of a kind that is not read",
        () if bytes.get(4..8) == Some(b"ftyp") => "MP4",
        () => return "not a sound".into(),
    };
    format!("{what}; WAV and FLAC are read, convert it (ffmpeg -i FILE OUT.wav)")
}

fn refuse_rate(rate: u32) -> Result<(), String> {
    match rate {
        0 => Err("its header states a sample rate of 0".into()),
        _ => Ok(()),
    }
}

fn refuse_long(samples: u64, limits: &Limits) -> Result<(), String> {
    let most = limits.decoded_bytes_max / size_of::<f32>() as u64;
    match samples > most {
        true => Err(format!("{samples} samples are too many (at most {most}); divide the recording")),
        false => Ok(()),
    }
}

/// WAV's integers are over 2^(bits - 1), as soundfile and torchaudio have them.
fn wav(bytes: &[u8], limits: &Limits) -> Result<Recording, String> {
    let mut reader = hound::WavReader::new(Cursor::new(bytes)).map_err(wav_problem)?;
    let spec = reader.spec();
    refuse_rate(spec.sample_rate)?;
    if spec.channels == 0 || !(1..=32).contains(&spec.bits_per_sample) {
        return Err("no readable WAV file (its header is damaged)".into());
    }
    refuse_long(reader.duration().into(), limits)?;
    let frames = reader.duration() as usize;
    let mut mono = Mono::new(spec.channels.into(), frames.min(bytes.len()));
    match spec.sample_format {
        hound::SampleFormat::Float => {
            reader.samples::<f32>().try_for_each(|sample| sample.map(|sample| mono.push(sample)))
        }
        hound::SampleFormat::Int => {
            let unit = 1.0 / (1u64 << (spec.bits_per_sample - 1)) as f32;
            reader.samples::<i32>().try_for_each(|sample| sample.map(|sample| mono.push(sample as f32 * unit)))
        }
    }
    .map_err(wav_problem)?;
    if mono.samples.len() < frames {
        return Err(CUT_OFF.into());
    }
    Ok(Recording { rate: spec.sample_rate, samples: mono.samples })
}

fn wav_problem(error: hound::Error) -> String {
    match error {
        hound::Error::IoError(_) => CUT_OFF.into(),
        hound::Error::Unsupported => {
            "WAV of a coding that is not read; convert it (ffmpeg -i FILE -c:a pcm_s16le OUT.wav)".into()
        }
        other => format!("no readable WAV file ({other})"),
    }
}

fn flac(bytes: &[u8], limits: &Limits) -> Result<Recording, String> {
    let problem = |error: claxon::Error| match error {
        claxon::Error::IoError(_) => CUT_OFF.to_string(),
        other => format!("no readable FLAC file ({other})"),
    };
    let mut reader = claxon::FlacReader::new(Cursor::new(bytes)).map_err(problem)?;
    let info = reader.streaminfo();
    refuse_rate(info.sample_rate)?;
    refuse_long(info.samples.unwrap_or(0), limits)?;
    if !(1..=32).contains(&info.bits_per_sample) || info.channels == 0 {
        return Err("no readable FLAC file (its header is damaged)".into());
    }
    let unit = 1.0 / (1u64 << (info.bits_per_sample - 1)) as f32;
    let mut mono = Mono::new(info.channels as usize, (info.samples.unwrap_or(0) as usize).min(bytes.len() * 8));
    let mut blocks = reader.blocks();
    let mut buffer = Vec::new();
    while let Some(block) = blocks.read_next_or_eof(buffer).map_err(problem)? {
        for frame in 0..block.duration() {
            (0..block.channels()).for_each(|channel| mono.push(block.sample(channel, frame) as f32 * unit));
        }
        // A header need not state how long the stream is.
        refuse_long(mono.samples.len() as u64, limits)?;
        buffer = block.into_buffer();
    }
    match info.samples {
        Some(samples) if samples != mono.samples.len() as u64 => Err(CUT_OFF.into()),
        _ => Ok(Recording { rate: info.sample_rate, samples: mono.samples }),
    }
}

/// An array of one axis: its numbers are samples at the model's own rate.
fn array(bytes: &Bytes, limits: &Limits) -> Result<Recording, String> {
    let array = Array::parse(bytes)?;
    if array.shape.len() != 1 || array.is_text() {
        return Err(format!("an array of shape {:?}; a sound has one axis of numbers", array.shape));
    }
    refuse_long(array.len() as u64, limits)?;
    Ok(Recording { rate: 0, samples: (0..array.len()).map(|place| array.number(place) as f32).collect() })
}

/// Interleaved samples → the mean of the channels.
struct Mono {
    channels: usize,
    within: usize,
    sum: f32,
    samples: Vec<f32>,
}

impl Mono {
    fn new(channels: usize, capacity: usize) -> Self {
        Self { channels, within: 0, sum: 0.0, samples: Vec::with_capacity(capacity) }
    }

    fn push(&mut self, sample: f32) {
        self.sum += sample;
        self.within += 1;
        if self.within == self.channels {
            self.samples.push(self.sum / self.channels as f32);
            (self.sum, self.within) = (0.0, 0);
        }
    }
}
