//! What lies in a folder, what the names of files promise, and files read up to a size.
//!
//! Takes paths, gives paths and bytes, in an order that is the same on every machine. Knows nothing of samples and labels.

use super::{Error, Limits};
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
pub(super) fn has_text_name(path: &Path) -> bool {
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
