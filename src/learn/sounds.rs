//! From a recipe's settings to what is done to sounds: rate, length and front end, and by whose word.

use super::observer::Observer;
use super::samples::inputs_of;
use crate::data::{self, LogMel, SoundPreprocessing, Stated, StatedSound, Survey, UnitAxis};
use crate::graph::{DType, Dim, TensorType};
use crate::recipe::{Error, Samples, refuse};
use crate::train::prepare::Base;
use std::path::Path;

/// Where what is said of sounds comes from, for a line that a person reads.
const ASSUMED: &str = "the files' own";

/// What a model's input is to a sound.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Takes {
    /// The samples of a waveform, or the sizes of a spectrogram, as the input has them; `None` where it leaves one open.
    sizes: [Option<u64>; 2],
    is_waveform: bool,
    unit_axis: UnitAxis,
}

impl Samples {
    /// What is done to the sounds at `path` for a model's input; `None` where they are no sounds.
    ///
    /// # Errors
    /// A setting of sounds for data of another kind, or sounds that the model does not take or that nothing tells the rate of.
    pub(super) fn sound(
        &self,
        base: &Base,
        path: &Path,
        observer: &dyn Observer,
    ) -> Result<Option<SoundPreprocessing>, Error> {
        let setting = self.sound_setting();
        let inputs = inputs_of(base);
        let takes = match &inputs[..] {
            [(_, ty)] => takes(ty),
            _ => None,
        };
        let asked = takes.is_some() || setting.is_some() || data::holds_sounds(path);
        let survey = if asked { data::survey(path, self.file.as_deref())? } else { None };
        let is_waveform = takes.is_some_and(|takes| takes.is_waveform);
        let is_sound = |survey: &Survey| {
            let arrays = survey.arrays > 0 && is_waveform && (setting.is_some() || survey.lengths.len() > 1);
            survey.sounds > 0 || arrays
        };
        let (Some(survey), Some(takes)) = (survey.filter(is_sound), takes) else {
            let known = inputs.iter().map(|(name, ty)| format!("`{name}` {ty}")).collect::<Vec<_>>().join(", ");
            match setting {
                _ if data::holds_sounds(path) => refuse!(
                    "{}: sounds, but the model takes none: its inputs are {known}, and a sound is one input of floats such as \
                     [batch, samples] or [batch, mels, frames]",
                    path.display()
                ),
                Some(setting) => refuse!("setting `{setting}`: the data are no sounds; remove it"),
                None => return Ok(None),
            }
        };
        let (name, ty) = &inputs[0];
        let stated = data::stated_sound(&base.path, &base.metadata).unwrap_or_else(|error| {
            observer.warn(&format!("how sounds are prepared: {error}"));
            None
        });
        let (rate, source) = self.rate(&survey, stated.as_ref())?;
        let sound = match stated {
            Some(Stated { value: StatedSound::All(all), .. }) if setting.is_none() && fits(&all, ty) => all,
            _ => self.prepared(takes, rate, &survey, &format!("`{name}` ({ty})"))?,
        };
        sound.validate()?;
        observer.note(&format!("sounds    {} (rate: {source})", sound.described()));
        if survey.arrays > 0 {
            observer.note(&format!("sounds    {} arrays of one axis are samples at that rate", survey.arrays));
        }
        Ok(Some(sound))
    }

    /// The first setting given that only sounds need.
    fn sound_setting(&self) -> Option<&'static str> {
        let given = [
            ("samples.sample-rate", self.sample_rate.is_some()),
            ("samples.duration", self.duration.is_some()),
            ("samples.front-end", self.front_end.is_some()),
        ];
        given.into_iter().find_map(|(setting, given)| given.then_some(setting))
    }

    /// The model's sample rate, and who says so.
    fn rate(&self, survey: &Survey, stated: Option<&Stated<StatedSound>>) -> Result<(u32, String), Error> {
        if let Some(rate) = self.sample_rate {
            let whole = (1.0..=f64::from(u32::MAX)).contains(&rate) && rate.fract() == 0.0;
            if !whole {
                refuse!(
                    "setting `samples.sample-rate = {rate}`: write the samples in a second as a whole number, such as 16000"
                );
            }
            return Ok((rate as u32, format!("setting `samples.sample-rate = {rate}`")));
        }
        if let Some(Stated { value, source }) = stated {
            let rate = match value {
                StatedSound::Rate(rate) => *rate,
                StatedSound::All(sound) => sound.rate,
            };
            return Ok((rate, format!("from {source}")));
        }
        let rates: Vec<String> = survey.rates.iter().map(|rate| format!("{rate} Hz")).collect();
        match survey.rates.iter().collect::<Vec<_>>()[..] {
            [] => Ok((0, "nothing tells it; setting `samples.sample-rate` does".into())),
            [rate] => Ok((*rate, format!("{ASSUMED}; setting `samples.sample-rate` says it otherwise"))),
            _ => refuse!(
                "the sounds have several rates ({}), and nothing says which one the model takes; give it with setting \
                 `samples.sample-rate`, such as setting `samples.sample-rate = 16000`",
                rates.join(", ")
            ),
        }
    }

    /// What the settings and the model's input say.
    fn prepared(&self, takes: Takes, rate: u32, survey: &Survey, input: &str) -> Result<SoundPreprocessing, Error> {
        let scale = self.scale.as_deref().map(data::parse_scale).transpose()?.unwrap_or(1.0);
        let plain =
            SoundPreprocessing { rate, samples: 0, scale, unit_axis: takes.unit_axis, mel: None, frames_first: false };
        let front_end = self.front_end.as_deref();
        if takes.is_waveform {
            if let Some(front_end) = front_end.filter(|name| *name != "waveform") {
                refuse!(
                    "setting `samples.front-end = {front_end}`: input {input} takes a waveform; a spectrogram has two open or \
                     larger axes besides the batch's"
                );
            }
            let fixed = takes.sizes[0].map(|samples| samples as usize);
            return Ok(SoundPreprocessing { samples: self.samples(fixed, rate, survey, input)?, ..plain });
        }
        let (mels, frames_first) = self.mels(takes.sizes, rate, input)?;
        let Some(mel) = data::parse_front_end(front_end.unwrap_or("torchaudio"), rate, mels)? else {
            refuse!("setting `samples.front-end = waveform`: input {input} takes a spectrogram");
        };
        if mel.mels != mels {
            refuse!(
                "setting `samples.front-end`: {} bands, but input {input} takes {mels}; write mels={mels}",
                mel.mels
            );
        }
        let frames = takes.sizes[usize::from(!frames_first)].map(|frames| mel.samples(frames as usize));
        let samples = self.samples(frames, rate, survey, input)?;
        Ok(SoundPreprocessing { samples, mel: Some(mel), frames_first, ..plain })
    }

    /// The bands that a spectrogram has, and whether its frames come before them: the axis that the setting names the size of; else the
    /// one that is not open; else the shorter one.
    fn mels(&self, sizes: [Option<u64>; 2], rate: u32, input: &str) -> Result<(u32, bool), Error> {
        let asked = match self.front_end.as_deref().filter(|text| text.contains("mels=")) {
            Some(text) => data::parse_front_end(text, rate, 1)?.map(|mel: LogMel| u64::from(mel.mels)),
            None => None,
        };
        let (mels, frames_first) = match (asked, sizes) {
            (Some(mels), [first, second]) if first != Some(mels) && (second == Some(mels) || first.is_some()) => {
                (mels, true)
            }
            (Some(mels), _) => (mels, false),
            (None, [Some(mels), None]) => (mels, false),
            (None, [None, Some(mels)]) => (mels, true),
            (None, [Some(first), Some(second)]) => (first.min(second), second < first),
            (None, [None, None]) => refuse!(
                "input {input} leaves the number of mel bands open; give it with setting `samples.front-end`, such as \
                 setting `samples.front-end = torchaudio:mels=64`"
            ),
        };
        Ok((u32::try_from(mels).unwrap_or(u32::MAX), frames_first))
    }

    /// The samples of a clip: what the model's input has, what is asked for, or the longest that there is.
    fn samples(&self, fixed: Option<usize>, rate: u32, survey: &Survey, input: &str) -> Result<u32, Error> {
        let asked = self.duration.as_deref().map(|text| parse_duration(text, rate)).transpose()?;
        let longest = (survey.longest_s * f64::from(rate)).ceil() as u64;
        let longest = longest.max(survey.lengths.last().copied().unwrap_or(0));
        match (asked, fixed) {
            (Some(asked), Some(fixed)) if asked != fixed as u64 => {
                refuse!("setting `samples.duration`: {asked} samples, but input {input} takes {fixed}; remove it")
            }
            (Some(samples), _) => Ok(u32::try_from(samples).unwrap_or(u32::MAX)),
            (None, Some(samples)) => Ok(u32::try_from(samples).unwrap_or(u32::MAX)),
            (None, None) => Ok(u32::try_from(longest).unwrap_or(u32::MAX)),
        }
    }
}

/// Reads a time in samples: `1.5s`, `800ms`, or a number of samples.
fn parse_duration(text: &str, rate: u32) -> Result<u64, Error> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|time| time.is_finite() && *time > 0.0);
    let seconds = match text.strip_suffix("ms") {
        Some(time) => number(time).map(|time| time / 1000.0),
        None => text.strip_suffix('s').and_then(number),
    };
    match (seconds, text.trim().parse::<u64>()) {
        (Some(_), _) if rate == 0 => {
            refuse!(
                "setting `samples.duration = {text}`: nothing tells the sample rate; give it with setting `samples.sample-rate`"
            )
        }
        (Some(seconds), _) => Ok((seconds * f64::from(rate)).round() as u64),
        (None, Ok(samples)) if samples > 0 => Ok(samples),
        _ => refuse!("setting `samples.duration = {text}`: write a time such as 1s or 800ms, or a number of samples"),
    }
}

/// What an input is to a sound; `None` for one that takes none.
fn takes(ty: &TensorType) -> Option<Takes> {
    let sizes: Vec<Option<u64>> = ty.shape.as_deref()?.get(1..)?.iter().map(Dim::fixed).collect();
    if ty.dtype != DType::Float {
        return None;
    }
    let waveform = |samples, unit_axis| Takes { sizes: [samples, None], is_waveform: true, unit_axis };
    let spectrogram = |sizes, unit_axis| Takes { sizes, is_waveform: false, unit_axis };
    match sizes[..] {
        [samples] => Some(waveform(samples, UnitAxis::None)),
        [Some(1), samples] => Some(waveform(samples, UnitAxis::First)),
        [samples, Some(1)] => Some(waveform(samples, UnitAxis::Last)),
        [first, second] => Some(spectrogram([first, second], UnitAxis::None)),
        [Some(1), first, second] => Some(spectrogram([first, second], UnitAxis::First)),
        [first, second, Some(1)] => Some(spectrogram([first, second], UnitAxis::Last)),
        _ => None,
    }
}

/// Whether an input takes what is stated.
fn fits(sound: &SoundPreprocessing, ty: &TensorType) -> bool {
    let shape = sound.shape();
    let sizes = ty.shape.as_deref().and_then(|shape| shape.get(1..)).unwrap_or_default();
    sizes.len() == shape.len()
        && sizes.iter().zip(shape).all(|(dim, size)| dim.fixed().is_none_or(|fixed| fixed == size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(sizes: &[Option<u64>]) -> TensorType {
        let dim = |size: &Option<u64>| size.map_or(Dim::Unknown, Dim::Fixed);
        TensorType::new(DType::Float, sizes.iter().map(dim).collect())
    }

    fn prepared(samples: &Samples, sizes: &[Option<u64>], rate: u32) -> Result<SoundPreprocessing, String> {
        let survey = Survey { sounds: 1, longest_s: 1.0, ..Survey::default() };
        let takes = takes(&input(sizes)).ok_or("no sound")?;
        samples.prepared(takes, rate, &survey, "`x`").map_err(|error| error.to_string())
    }

    #[test]
    fn the_model_s_input_tells_waveform_or_spectrogram_and_the_order_of_axes() {
        let plain = Samples::default();
        let shape = |sizes: &[Option<u64>]| prepared(&plain, sizes, 16_000).map(|sound| sound.shape());
        assert_eq!(shape(&[None, Some(8000)]), Ok(vec![8000]));
        assert_eq!(shape(&[None, None]), Ok(vec![16_000]), "the longest clip's length");
        assert_eq!(shape(&[None, Some(1), None]), Ok(vec![1, 16_000]));
        assert_eq!(shape(&[None, Some(43_844), Some(1)]), Ok(vec![43_844, 1]));
        assert_eq!(shape(&[None, Some(64), None]), Ok(vec![64, 101]));
        assert_eq!(shape(&[None, None, Some(40)]), Ok(vec![101, 40]));
        assert_eq!(shape(&[None, Some(1), Some(64), Some(98)]), Ok(vec![1, 64, 98]));
        assert_eq!(shape(&[None, Some(98), Some(40), Some(1)]), Ok(vec![98, 40, 1]));
        assert!(shape(&[None, None, None]).unwrap_err().contains("mel bands open"));
        assert!(shape(&[None, Some(3), Some(224), Some(224)]).is_err(), "a photograph's");
    }

    #[test]
    fn settings_say_it_otherwise_or_are_refused() {
        let with = |front_end: &str, duration: &str| Samples {
            front_end: Some(front_end.into()).filter(|text: &String| !text.is_empty()),
            duration: Some(duration.into()).filter(|text: &String| !text.is_empty()),
            ..Samples::default()
        };
        let open = [None, None];
        assert_eq!(prepared(&with("", "500ms"), &open, 16_000).unwrap().samples, 8000);
        assert_eq!(prepared(&with("", "8000"), &open, 0).unwrap().samples, 8000);
        assert!(prepared(&with("", "1s"), &open, 0).unwrap_err().contains("sample-rate"));
        assert!(prepared(&with("", "0s"), &open, 8000).unwrap_err().contains("800ms"));
        assert!(prepared(&with("", "2s"), &[None, Some(8000)], 8000).unwrap_err().contains("takes 8000"));
        assert!(prepared(&with("librosa", ""), &open, 8000).unwrap_err().contains("takes a waveform"));
        let mels = prepared(&with("librosa:mels=40", ""), &[None, None, None], 16_000).unwrap();
        assert_eq!((mels.shape(), mels.frames_first), (vec![40, 101], false));
        assert!(
            prepared(&with("librosa:mels=40", ""), &[None, Some(64), None], 16_000)
                .is_ok_and(|sound| sound.frames_first)
        );
        assert!(prepared(&with("waveform", ""), &[None, Some(64), None], 16_000).unwrap_err().contains("spectrogram"));
    }
}
