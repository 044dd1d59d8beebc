//! Folders of samples: one folder a class, its files the samples, in an order that is the same on every machine.
//!
//! Takes a path and the kind of the files, gives labelled files with their content's hash. Reads each file once and decodes no image.

use super::Limits;
use super::classes::Names;
use super::clips::Part;
use super::filesystem::{below, has_array_name, has_image_name, has_sound_name, has_text_name, read_limited, visible};
use super::image::probe;
use super::labels::{Labels, unknown_class};
use super::names::Paths;
use super::parts::is_part;
use super::{Error, ReadingReport, decoding, foreign, npy, sound};
use crate::graph::DType;
use bytes::Bytes;
use std::fs;
use std::path::{Path, PathBuf};

/// What the files are, each one sample.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A photograph, in any format that `image.rs` reads.
    Image,
    /// A sound, in any format that `sound.rs` reads.
    Sound,
    /// Text as UTF-8.
    Text,
    /// `.npy`, without a batch axis, for an input of this type where that is known. The first one tells the shape of all.
    Array { dtype: Option<DType>, shape: Option<Vec<u64>> },
}

impl Kind {
    /// Whether a file can be a sample, by what it holds.
    fn probe(&mut self, bytes: &Bytes, limits: &Limits) -> Result<(), String> {
        match self {
            Self::Image => probe(bytes, limits),
            Self::Sound => sound::decode(bytes, limits).map(drop),
            Self::Text => decoding::utf8(bytes).map(drop),
            Self::Array { dtype, shape } => {
                *shape = Some(npy::sample(bytes, *dtype, shape.as_deref())?.shape);
                Ok(())
            }
        }
    }

    fn one(&self) -> &'static str {
        match self {
            Self::Image => "an image",
            Self::Sound => "a sound",
            Self::Text => "a text",
            Self::Array { .. } => "an array",
        }
    }

    /// Without its article.
    pub(super) fn what(&self) -> &'static str {
        self.one().split_once(' ').map_or("", |(_, what)| what)
    }

    fn files(&self) -> &'static str {
        match self {
            Self::Image => "photographs (JPEG, PNG, WebP, BMP, GIF or TIFF)",
            Self::Sound => "sounds (WAV or FLAC)",
            Self::Text => ".txt files",
            Self::Array { .. } => ".npy files",
        }
    }

    /// Whether a name ends as such a file's does.
    fn names(&self, path: &Path) -> bool {
        match self {
            Self::Image => has_image_name(path),
            Self::Sound => has_sound_name(path) || has_array_name(path),
            Self::Text => has_text_name(path),
            Self::Array { .. } => has_array_name(path),
        }
    }
}

/// Samples on disk, a file each.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub paths: Paths,
    /// BLAKE3 of each.
    pub keys: Vec<[u8; 32]>,
    /// Of sounds, the part that is meant of each. Empty: all of it.
    pub parts: Vec<Part>,
}

impl Files {
    /// Appends a file that can be a sample.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn push(&mut self, path: &Path, kind: &mut Kind, limits: &Limits) -> Result<(), String> {
        // Parts of one recording follow each other.
        if let Some(key) = self.keys.last().copied().filter(|_| self.paths.path(self.len() - 1) == path) {
            self.paths.push(path);
            self.keys.push(key);
            return Ok(());
        }
        let bytes = Bytes::from(read_limited(path, limits).map_err(|error| error.to_string())?);
        kind.probe(&bytes, limits)?;
        self.paths.push(path);
        self.keys.push(*blake3::hash(&bytes).as_bytes());
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.paths.len()
    }
}

/// Every sample below `root`, class by class in the order of names.
///
/// # Errors
/// No class folder, an empty one, a sample outside of any, or a class that is not in `known`.
pub(super) fn open(
    root: &Path,
    kind: &mut Kind,
    known: Option<&[String]>,
    limits: &Limits,
) -> Result<(Files, Labels, ReadingReport), Error> {
    let mut report = ReadingReport::default();
    let mut folders = Vec::new();
    for path in visible(root)? {
        if path.is_dir() {
            folders.push(path);
        } else if kind.names(&path) {
            let one = kind.one();
            let problem = format!("{one} outside of any class folder; move it to the folder of its class");
            return Err(Error::content(&path, problem));
        } else {
            report.skipped.push((path, "not in a class folder".into()));
        }
    }
    refuse_parts(root, kind, &folders)?;
    if matches!(kind, Kind::Image) {
        foreign::refuse_marked_pictures(root, &folders)?;
    }
    foreign::refuse_unsorted(&folders, known)?;
    report.notes.extend(foreign::perhaps_unsorted(&folders, known));
    let mut names: Vec<String> = folders.iter().map(|folder| class_name(folder)).collect::<Result<_, _>>()?;
    let mut files = Files::default();
    let mut index = Vec::new();
    for (position, folder) in folders.iter().enumerate() {
        let class = match known {
            None => position,
            Some(known) => Names::new(known)
                .find(&names[position])
                .ok_or_else(|| Error::content(folder, unknown_class(&names[position], known)))?,
        };
        let before = files.len();
        let skipped = read_class(folder, kind, limits, &mut files, &mut report)?;
        if files.len() == before {
            let first = report.skipped.iter().rev().take(skipped).next_back();
            let first =
                first.map(|(path, reason)| format!(", such as {} ({reason})", path.display())).unwrap_or_default();
            let what = kind.what();
            let remedy = format!("add {} or remove the folder", kind.files());
            let problem = format!("class folder without a usable {what} ({skipped} skipped){first}; {remedy}");
            return Err(Error::content(folder, problem));
        }
        index.resize(files.len(), class as u32);
    }
    if let Some(known) = known {
        names = known.to_vec();
    }
    Ok((files, Labels::Classes { names, index }, report))
}

/// Samples without labels: files as they are given, folders with all that lies below them.
///
/// # Errors
/// Nothing that can be used, or a path that cannot be read.
pub(super) fn open_unlabelled(
    paths: &[PathBuf],
    kind: &mut Kind,
    limits: &Limits,
) -> Result<(Files, ReadingReport), Error> {
    let mut report = ReadingReport::default();
    let mut files = Files::default();
    for named in paths {
        for path in if named.is_dir() { below(named)? } else { vec![named.clone()] } {
            // A file that somebody named must exist; a file found in a folder may be damaged.
            if let Err(reason) = files.push(&path, kind, limits) {
                fs::metadata(&path).map_err(|source| Error::io(&path, source))?;
                report.skipped.push((path, reason));
            }
        }
    }
    if files.len() == 0 {
        let (path, problem) = match &report.skipped[..] {
            [] => (&paths[0], format!("no {} in it that can be read", kind.files())),
            [(path, reason), ..] => (path, reason.clone()),
        };
        return Err(Error::content(path, format!("{problem}; name {}s or folders of them", kind.what())));
    }
    Ok((files, report))
}

/// Appends a class's files, also those in folders of its folder, and gives the number of files skipped.
fn read_class(
    folder: &Path,
    kind: &mut Kind,
    limits: &Limits,
    files: &mut Files,
    report: &mut ReadingReport,
) -> Result<usize, Error> {
    let before = report.skipped.len();
    for path in below(folder)? {
        if let Err(reason) = files.push(&path, kind, limits) {
            report.skipped.push((path, reason));
        }
    }
    Ok(report.skipped.len() - before)
}

fn class_name(folder: &Path) -> Result<String, Error> {
    let name = folder.file_name().and_then(|name| name.to_str()).map(str::to_string);
    name.ok_or_else(|| Error::content(folder, "the folder's name is not UTF-8, so it cannot name a class; rename it"))
}

fn refuse_parts(root: &Path, kind: &Kind, folders: &[PathBuf]) -> Result<(), Error> {
    if folders.is_empty() {
        let files = kind.files();
        let problem = format!("no class folders; put the {files} of each class into a folder named after it");
        return Err(Error::content(root, problem));
    }
    match folders.iter().all(|folder| is_part(folder)) {
        true => {
            let first = folders[0].display();
            Err(Error::content(
                root,
                format!("holds parts of a data set, not classes; give one of them, such as {first}"),
            ))
        }
        false => Ok(()),
    }
}
