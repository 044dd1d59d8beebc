//! Folders of samples: one folder a class, its files the samples, in an order that is the same on every machine.
//!
//! Takes a path and the kind of the files, gives labelled files with their content's hash. Reads each file once and decodes no image.

use super::Limits;
use super::classes::Names;
use super::clips::Part;
use super::image::probe;
use super::labels::{Labels, unknown_class};
use super::names::Paths;
use super::parts::is_part;
use super::sound;
use super::{Error, Report, foreign, npy};
use crate::graph::DType;
use crate::mapped;
use bytes::Bytes;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the names of photographs end; of those that are not read, only such as people take for photographs.
const IMAGE_EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif"];

/// How the names of sounds end; of those that are not read, only such as people take for sounds.
const SOUND_EXTENSIONS: [&str; 12] =
    ["wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "m4a", "aac", "aif", "aiff", "wma"];

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
            Self::Text => super::text::of_bytes(bytes).map(|_| ()),
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
) -> Result<(Files, Labels, Report), Error> {
    let mut report = Report::default();
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
pub(super) fn open_unlabelled(paths: &[PathBuf], kind: &mut Kind, limits: &Limits) -> Result<(Files, Report), Error> {
    let mut report = Report::default();
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
    report: &mut Report,
) -> Result<usize, Error> {
    let before = report.skipped.len();
    for path in below(folder)? {
        if let Err(reason) = files.push(&path, kind, limits) {
            report.skipped.push((path, reason));
        }
    }
    Ok(report.skipped.len() - before)
}

/// All files below a folder in the order of their names; a folder that is a link to one that it lies in is left out.
pub(super) fn below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut left = visible(folder)?;
    left.reverse();
    while let Some(path) = left.pop() {
        if !path.is_dir() {
            files.push(path);
        } else if !is_loop(&path) {
            left.extend(visible(&path)?.into_iter().rev());
        }
    }
    Ok(files)
}

/// Whether a folder is a link to one that it lies in.
fn is_loop(folder: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    folder.is_symlink()
        && folder.parent().and_then(real).zip(real(folder)).is_some_and(|(above, own)| above.starts_with(own))
}

/// A file's bytes, if it may be a sample.
pub(super) fn read_limited(path: &Path, limits: &Limits) -> io::Result<Vec<u8>> {
    read_at_most(path, limits.file_bytes_max)
}

/// A file's bytes, unless there are too many or it is no plain file (a pipe would never end).
pub(super) fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    length(path, bytes_max)?;
    fs::read(path)
}

/// As [`read_at_most`], but the pages stay the file's; where the system cannot map it, or not so much, it is read.
pub(super) fn map_at_most(path: &Path, bytes_max: u64) -> io::Result<Bytes> {
    let length = length(path, bytes_max)?;
    match mapped::map(&Arc::new(fs::File::open(path)?), length) {
        Ok(bytes) => Ok(bytes),
        Err(_) => fs::read(path).map(Bytes::from),
    }
}

/// The bytes that a plain file has.
fn length(path: &Path, bytes_max: u64) -> io::Result<u64> {
    let metadata = fs::metadata(path)?;
    match metadata.len() {
        _ if !metadata.is_file() => Err(io::Error::other("not a plain file")),
        size if size > bytes_max => Err(io::Error::other(format!("{size} bytes are too many (at most {bytes_max})"))),
        size => Ok(size),
    }
}

/// What systems and programs leave in folders of others: macOS in archives, Windows, NAS devices, Linux on a disk's root.
const LEFT_BY_SYSTEMS: [&str; 10] = [
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "icon\r",
];

/// Whether a name is of something that nobody has put into a folder as a sample or class: a hidden entry, or what a system leaves.
pub fn is_no_sample(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || LEFT_BY_SYSTEMS.iter().any(|left| name.eq_ignore_ascii_case(left))
}

/// What a folder holds, in the order of the names' bytes (Python's `sorted`), without what [`is_no_sample`].
pub(super) fn visible(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let entry = entry.map_err(|source| Error::io(folder, source))?;
        if !is_no_sample(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
    Ok(paths)
}

/// Whether the name ends as an image's does.
pub(super) fn has_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether the name ends as a sound's does.
pub(super) fn has_sound_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    SOUND_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether the name ends as that of a NumPy array.
pub(super) fn has_array_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

/// Whether the name ends as that of a text.
fn has_text_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
}

/// The first file in a folder of class folders whose name is that of a sample.
pub(super) fn first_named(root: &Path) -> Option<PathBuf> {
    let is_sample = |path: &PathBuf| has_image_name(path) || has_array_name(path) || has_sound_name(path);
    let in_folder = |folder: PathBuf| below(&folder).ok()?.into_iter().find(is_sample);
    let entries = visible(root).ok()?;
    entries
        .iter()
        .filter(|path| path.is_dir())
        .cloned()
        .find_map(in_folder)
        .or_else(|| entries.into_iter().find(is_sample))
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
