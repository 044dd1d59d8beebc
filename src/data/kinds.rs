//! What data are, by the names of files and a table's first row: which reader is meant, and what is said where none is.

use super::folder::Kind;
use super::{Error, Options, Preprocessing, Target, filesystem, records, segmented, table};
use std::path::Path;

/// What is said of sounds for what has learned from data of another kind.
pub(super) const NO_SOUNDS: &str = "a sound, but nothing says at which rate and length the model takes them, for it was not trained on sounds; \
                         train on WAV or FLAC files, or give a NumPy array in the model's shape";

/// Whether the data are a table of numbers, and of no pictures' paths: its first row tells.
pub fn holds_numbers(path: &Path, label: &[String], file: Option<&str>) -> bool {
    let Ok(Some(table)) = table::resolve(path, true) else { return false };
    // A table beside pictures with masks names their classes.
    if segmented::holds_masks(path) {
        return false;
    }
    let options = Options { label: label.to_vec(), file: file.map(String::from), ..Options::default() };
    records::format(&table).is_some_and(|format| table::is_of_numbers(&table, format, &options))
}

/// Whether the data are NumPy arrays, which are fed as they are: a `.npy` or `.npz` file, a folder that stands for one, or one in
/// which the first sample that is found is a `.npy` file.
pub fn holds_arrays(path: &Path) -> bool {
    let is_array = |path: &Path| path.extension().is_some_and(|extension| extension == "npy" || extension == "npz");
    let stands_for = || table::resolve(path, true).is_ok_and(|file| file.is_some_and(|file| is_array(&file)));
    is_array(path)
        || stands_for()
        || filesystem::first_named(path).is_some_and(|file| filesystem::has_array_name(&file))
}

/// Whether all samples lie in one file of arrays: `.npz`, or `x.npy` with `y.npy` beside it.
pub fn is_one_file_of_arrays(path: &Path) -> bool {
    let is_one = |path: &Path| path.extension().is_some_and(|extension| extension == "npz") || path.ends_with("x.npy");
    is_one(path) || table::resolve(path, true).is_ok_and(|file| file.is_some_and(|file| is_one(&file)))
}

/// What the files are that a table names.
pub(super) fn kind_of_rows(path: &Path, options: &Options) -> Result<Kind, Error> {
    match options.preprocessing {
        Preprocessing::Plain => Ok(Kind::Array { dtype: options.inputs.first().map(|(_, dtype)| *dtype), shape: None }),
        _ => kind_of_files(path, options),
    }
}

/// Why a single file is neither a table nor arrays, and what to give instead.
pub(super) fn no_table(path: &Path, labelled: bool) -> &'static str {
    match (filesystem::has_image_name(path), filesystem::has_sound_name(path), records::remedy(path)) {
        (true, ..) => "an image has no label of its own; give the folder that holds the class folders",
        (_, true, _) if !labelled => NO_SOUNDS,
        (_, true, _) => "a sound has no label of its own; give the folder that holds the class folders",
        (.., Some(remedy)) => remedy,
        _ => "unknown kind of data; give a folder of images or sounds, .csv, .tsv, .jsonl, .txt, .npz or x.npy",
    }
}

/// What the files of a folder are.
pub(super) fn kind_of_files(path: &Path, options: &Options) -> Result<Kind, Error> {
    match options.preprocessing {
        Preprocessing::Image(preprocessing) => preprocessing.validate().map(|()| Kind::Image),
        Preprocessing::Sound(preprocessing) => preprocessing.validate().map(|()| Kind::Sound),
        Preprocessing::Plain if holds_arrays(path) => match options.inputs.len() {
            0 | 1 => Ok(Kind::Array { dtype: options.inputs.first().map(|(_, dtype)| *dtype), shape: None }),
            count => {
                let problem = format!("a file each for a model of {count} inputs; put the samples into one .npz file");
                Err(Error::content(path, problem))
            }
        },
        Preprocessing::Text { .. } if !matches!(options.target, Target::NextTokens | Target::Tokens) => Ok(Kind::Text),
        _ => Err(Error::content(
            path,
            match filesystem::first_named(path).or_else(|| path.is_file().then(|| path.into())) {
                Some(file) if filesystem::has_image_name(&file) => {
                    "images, but nothing says how to size and scale them; give a model that takes images, or an image size"
                }
                Some(file) if filesystem::has_sound_name(&file) => NO_SOUNDS,
                _ => {
                    "no data that this model takes; give class folders of .npy files, a .csv, .tsv, .jsonl, .txt or .npz file"
                }
            },
        )),
    }
}
