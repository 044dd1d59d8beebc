//! How much a cache may take: what a person has set, else a share of the file system, so that a small SD card is not filled.

use super::evict::{Entry, entries, remove_oldest, root_of};
use super::space::system_bytes;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The share of its file system that a cache may take where nothing is set: of a card of 8 GB, 0.8 GB.
const SHARE: u64 = 10;
/// However large the file system is, a cache takes no more where nothing is set.
pub const LIMIT_BYTES_MAX: u64 = 2_000_000_000;
/// The file in the cache with the limit that was set.
const LIMIT: &str = "limit";

/// How much a cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes of everything in it.
    pub bytes: u64,
    /// Whether a person has set it.
    pub is_set: bool,
}

/// The limit of the cache in `root`, which need not be there yet.
pub fn limit(root: &Path) -> Limit {
    let set = fs::read_to_string(root.join(LIMIT)).ok().and_then(|text| text.trim().parse().ok());
    let there = root.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let default = || system_bytes(there).map_or(LIMIT_BYTES_MAX, |bytes| (bytes / SHARE).min(LIMIT_BYTES_MAX));
    Limit { bytes: set.unwrap_or_else(default), is_set: set.is_some() }
}

/// Sets the limit, or takes it back to the default, and removes what is beyond it.
pub fn set_limit(root: &Path, bytes: Option<u64>) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let file = root.join(LIMIT);
    match bytes {
        Some(bytes) => {
            crate::atomic::write_atomically(&file, |file| io::Write::write_all(file, format!("{bytes}\n").as_bytes()))?
        }
        None => match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        },
    }
    make_room(root, Path::new(""), 0);
    Ok(())
}

/// Bytes of all features and bundles, and of the types that ONNX Runtime inferred.
pub fn taken_bytes(root: &Path) -> u64 {
    entries(root).iter().map(|entry| entry.bytes).sum::<u64>() + types_bytes(root)
}

/// Bytes of the inferred types, which have a small limit of their own.
pub fn types_bytes(root: &Path) -> u64 {
    let files = fs::read_dir(root.join("types")).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}

/// Removes what is beyond a limit that a person has set. One that nobody has set is no reason to make a large model's bundle anew in
/// every run.
pub(super) fn keep_set_limit(root: &Path) {
    if limit(root).is_set {
        make_room(root, Path::new(""), 0);
    }
}

/// Removes what was used longest ago until so many bytes more are within the limit, or nothing is left that no process uses.
fn make_room(root: &Path, own: &Path, bytes: u64) {
    let limit = limit(root).bytes;
    while taken_bytes(root).saturating_add(bytes) > limit && remove_oldest(root, own) {}
}

/// Sees to it that the weights of a bundle fit under the limit of the cache that it is in; what they need themselves they get.
pub fn make_room_for_bundle(bundle: &Path, bytes: u64) {
    if let Some(root) = root_of(bundle) {
        make_room(root, bundle, bytes);
    }
}

/// Removes everything that no process uses. Gives what stays, and why.
pub fn clear(root: &Path) -> Vec<(Entry, io::Error)> {
    for file in fs::read_dir(root.join("types")).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|extension| extension == "types") {
            // What cannot be removed still counts in the sum that is shown.
            let _ = fs::remove_file(file);
        }
    }
    entries(root)
        .into_iter()
        .filter_map(|entry| Some((entry.remove().err()?, entry)))
        .map(|(why, entry)| (entry, why))
        .collect()
}
