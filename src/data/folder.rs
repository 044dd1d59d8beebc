//! Image folders: one folder a class, its files the samples, in an order that is the same on every machine.
//!
//! Takes a path, gives labelled files with their content's hash. Reads each file once (header and hash) and decodes
//! nothing.

use super::image::{Limits, probe};
use super::labels::{Labels, unknown_class};
use super::{Error, Report};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Names of sub-folders that are parts of a data set, not classes.
const PARTS: [&str; 7] = ["train", "training", "test", "val", "valid", "validation", "eval"];

/// One photograph on disk.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub path: PathBuf,
    /// BLAKE3 of the file.
    pub key: [u8; 32],
}

/// Every photograph below `root`, class by class in the order of names.
///
/// # Errors
/// No class folder, an empty one, an image outside of any, or a class that is not in `known`.
pub(super) fn open(
    root: &Path,
    known: Option<&[String]>,
    limits: &Limits,
) -> Result<(Vec<File>, Labels, Report), Error> {
    let mut report = Report::default();
    let mut folders = Vec::new();
    for path in visible(root)? {
        if path.is_dir() {
            folders.push(path);
        } else if has_image_name(&path) {
            return Err(Error::content(
                &path,
                "an image outside of any class folder; move it to the folder of its class",
            ));
        } else {
            report.skipped.push((path, "not in a class folder".into()));
        }
    }
    refuse_parts(root, &folders)?;
    let mut names: Vec<String> = folders.iter().map(|folder| class_name(folder)).collect::<Result<_, _>>()?;
    let mut files = Vec::new();
    let mut index = Vec::new();
    for (position, folder) in folders.iter().enumerate() {
        let class = match known {
            None => position,
            Some(known) => (known.iter().position(|name| *name == names[position]))
                .ok_or_else(|| Error::content(folder, unknown_class(&names[position], known)))?,
        };
        let before = files.len();
        let skipped = read_class(folder, limits, &mut files, &mut report)?;
        if files.len() == before {
            let first = report.skipped.iter().rev().take(skipped).next_back();
            let first =
                first.map(|(path, reason)| format!(", such as {} ({reason})", path.display())).unwrap_or_default();
            let remedy = "add JPEG or PNG files or remove the folder";
            let problem = format!("class folder without a usable image ({skipped} skipped){first}; {remedy}");
            return Err(Error::content(folder, problem));
        }
        index.resize(files.len(), class as u32);
    }
    if let Some(known) = known {
        names = known.to_vec();
    }
    Ok((files, Labels::Classes { names, index }, report))
}

/// Photographs without labels: files as they are given, folders with all that lies below them.
///
/// # Errors
/// A path that cannot be read.
pub(super) fn open_unlabelled(paths: &[PathBuf], limits: &Limits) -> Result<(Vec<File>, Report), Error> {
    let mut report = Report::default();
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = paths.iter().rev().cloned().collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(visible(&path)?.into_iter().rev());
        } else {
            match read(&path, limits) {
                Ok(file) => files.push(file),
                // A file that somebody named must exist; a file found in a folder may be damaged.
                Err(reason) => {
                    fs::metadata(&path).map_err(|source| Error::io(&path, source))?;
                    report.skipped.push((path, reason));
                }
            }
        }
    }
    Ok((files, report))
}

/// Appends a class's images and gives the number of files skipped.
fn read_class(folder: &Path, limits: &Limits, files: &mut Vec<File>, report: &mut Report) -> Result<usize, Error> {
    let before = report.skipped.len();
    for path in visible(folder)? {
        let read = if path.is_dir() { Err("a folder inside a class folder".into()) } else { read(&path, limits) };
        match read {
            Ok(file) => files.push(file),
            Err(reason) => report.skipped.push((path, reason)),
        }
    }
    Ok(report.skipped.len() - before)
}

/// A photograph whose header is sound, with its hash, or why it cannot be used.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<File, String> {
    let bytes = read_limited(path, limits).map_err(|error| error.to_string())?;
    probe(&bytes, limits)?;
    Ok(File { path: path.into(), key: *blake3::hash(&bytes).as_bytes() })
}

/// A photograph's bytes, if it may be a sample.
pub(super) fn read_limited(path: &Path, limits: &Limits) -> io::Result<Vec<u8>> {
    read_at_most(path, limits.file_bytes_max)
}

/// A file's bytes, unless there are too many or it is no plain file (a pipe would never end).
pub(super) fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    match metadata.len() {
        _ if !metadata.is_file() => Err(io::Error::other("not a plain file")),
        size if size > bytes_max => Err(io::Error::other(format!("{size} bytes are too many (at most {bytes_max})"))),
        _ => fs::read(path),
    }
}

/// What a folder holds, hidden entries left out, in the order of the names' bytes (Python's `sorted`).
pub(super) fn visible(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let entry = entry.map_err(|source| Error::io(folder, source))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
    Ok(paths)
}

/// Whether the name ends as an image's does.
pub(super) fn has_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn class_name(folder: &Path) -> Result<String, Error> {
    let name = folder.file_name().and_then(|name| name.to_str()).map(str::to_string);
    name.ok_or_else(|| Error::content(folder, "the folder's name is not UTF-8, so it cannot name a class; rename it"))
}

fn refuse_parts(root: &Path, folders: &[PathBuf]) -> Result<(), Error> {
    if folders.is_empty() {
        return Err(Error::content(
            root,
            "no class folders; put the images of each class into a folder named after it",
        ));
    }
    let is_part =
        |folder: &PathBuf| folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| PARTS.contains(&name));
    match folders.iter().all(is_part) {
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
