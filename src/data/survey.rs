//! What recordings are there, before it is known how they are read: their rates and lengths, by their headers; and what a model's
//! exporter states of sound.

use super::clips::SoundPreprocessing;
use super::recording::Recording;
use super::stated::{Stated, beside, shown};
use super::{Error, Limits, Options, filesystem, records, sound, table};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What is there of recordings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Files of sound.
    pub sounds: usize,
    /// Arrays of one axis, which are samples without a rate.
    pub arrays: usize,
    /// The rates of the sounds, in Hz.
    pub rates: BTreeSet<u32>,
    /// The longest sound, or the longest part that is meant of one, in seconds.
    pub longest_s: f64,
    /// The lengths of the arrays, in samples.
    pub lengths: BTreeSet<u64>,
}

/// The recordings in a folder, in a file, or named by a table; `None` where they are no recordings by their names.
///
/// # Errors
/// A folder that cannot be read. A file that cannot be read is passed over: who opens it tells.
pub fn survey(path: &Path, file: Option<&str>) -> Result<Option<Survey>, Error> {
    let options = Options { file: file.map(String::from), ..Options::default() };
    let is_clip = |path: &Path| filesystem::has_sound_name(path) || filesystem::has_array_name(path);
    let files: Vec<(PathBuf, Option<[f64; 2]>)> = match table::resolve(path, true)? {
        Some(table) => match records::format(&table) {
            Some(format) if table::names_in_first_row(&table, format, &is_clip) => {
                table::named_files(&table, format, &options)
            }
            None if filesystem::has_sound_name(&table) => vec![(table, None)],
            _ => return Ok(None),
        },
        None if filesystem::first_named(path).is_some_and(|file| is_clip(&file)) => {
            filesystem::below(path)?.into_iter().filter(|file| is_clip(file)).map(|file| (file, None)).collect()
        }
        None => return Ok(None),
    };
    let mut survey = Survey::default();
    files.iter().for_each(|(file, part)| survey.add(file, *part, &options.limits));
    Ok(Some(survey))
}

/// Whether the data are sounds by their names: a file, files in folders, or files that a table names.
pub fn holds_sounds(path: &Path) -> bool {
    match table::resolve(path, true) {
        Ok(Some(file)) => {
            let named = |format| table::names_in_first_row(&file, format, &filesystem::has_sound_name);
            filesystem::has_sound_name(&file) || records::format(&file).is_some_and(named)
        }
        Ok(None) => filesystem::first_named(path).is_some_and(|file| filesystem::has_sound_name(&file)),
        Err(_) => false,
    }
}

impl Survey {
    fn add(&mut self, file: &Path, part: Option<[f64; 2]>, limits: &Limits) {
        let Ok(bytes) = filesystem::map_at_most(file, limits.file_bytes_max) else {
            self.sounds += usize::from(filesystem::has_sound_name(file));
            return;
        };
        match length(&bytes, limits) {
            Some((samples, None)) => {
                self.arrays += 1;
                self.lengths.insert(samples);
            }
            Some((samples, Some(rate))) if rate > 0 => {
                self.sounds += 1;
                self.rates.insert(rate);
                let whole = samples as f64 / f64::from(rate);
                self.longest_s = self.longest_s.max(part.map_or(whole, |[start, end]| (end - start).min(whole)));
            }
            _ => self.sounds += usize::from(filesystem::has_sound_name(file)),
        }
    }
}

/// Samples and rate by the header, or where that does not tell by decoding.
fn length(bytes: &Bytes, limits: &Limits) -> Option<(u64, Option<u32>)> {
    let decoded = |sound: Recording| (sound.samples.len() as u64, Some(sound.rate).filter(|rate| *rate > 0));
    sound::length(bytes).or_else(|| sound::decode(bytes, limits).ok().map(decoded))
}

/// What an exporter states of sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StatedSound {
    /// The sample rate, in Hz.
    Rate(u32),
    /// All of it: `edgetune export` wrote it.
    All(SoundPreprocessing),
}

/// Keys of a model's metadata, and of a file beside it, that hold a sample rate.
const RATES: [&str; 4] = ["sample_rate", "sampling_rate", "samplerate", "sampling_frequency"];

/// What a model's metadata or a file beside it states of sound: a sample rate, as Transformers' feature extractors have it in
/// `preprocessor_config.json`, or what `edgetune export` has written.
///
/// # Errors
/// A file that cannot be read, or that is no JSON.
pub fn stated_sound(model: &Path, metadata: &BTreeMap<String, String>) -> Result<Option<Stated<StatedSound>>, Error> {
    let own = metadata.get("edgetune.preprocessing").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let own = own.and_then(|mut json| serde_json::from_value(json.get_mut("sound")?.take()).ok());
    if let Some(sound) = own {
        return Ok(Some(Stated {
            value: StatedSound::All(sound),
            source: "the model's metadata `edgetune.preprocessing`".into(),
        }));
    }
    let in_metadata = RATES.iter().find_map(|key| Some((*key, metadata.get(*key)?.trim().parse().ok()?)));
    if let Some((key, rate)) = in_metadata {
        let source = format!("the model's metadata `{key}`");
        return Ok(Some(Stated { value: StatedSound::Rate(rate), source }));
    }
    for path in beside(model, &["preprocessor_config.json", "config.json"]) {
        let text = fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|error| Error::content(&path, format!("is no JSON ({error}); correct or remove it")))?;
        let rate = RATES.iter().find_map(|key| json.get(*key)?.as_u64()).and_then(|rate| u32::try_from(rate).ok());
        if let Some(rate) = rate {
            return Ok(Some(Stated { value: StatedSound::Rate(rate), source: shown(&path) }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_stands_in_the_metadata_or_beside_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        let found = |metadata: &[(&str, &str)]| {
            let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            stated_sound(&model, &metadata).unwrap().map(|stated| stated.value)
        };
        assert_eq!(found(&[("author", "me"), ("sample_rate", "fast")]), None);
        assert_eq!(found(&[("sample_rate", "16000")]), Some(StatedSound::Rate(16_000)));
        fs::write(folder.path().join("preprocessor_config.json"), r#"{"sampling_rate": 22050}"#).unwrap();
        assert_eq!(found(&[]), Some(StatedSound::Rate(22_050)));
    }
}
