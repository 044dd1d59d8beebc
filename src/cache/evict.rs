//! What gives way when the limit is reached: the features of a body, or the bundle of a model, that were used longest ago and
//! that no process has in use.
//!
//! “Long ago” is counted, not timed: many small devices have no clock that survives a power cut. Who uses features holds
//! locks on their files (see `disk.rs`); who uses a bundle holds a shared lock on its file `used`.

use super::file_names::{KEYS, RECORDS, USED};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A folder of the cache that can be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub holds: Holds,
    /// Where it is.
    pub folder: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// What a folder of the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A model's weights and graphs.
    Model,
    /// Features of a model's frozen part.
    Features,
}

/// The folders of a cache that are ours by their names, the one used longest ago first. Links and anything else are not.
pub fn entries(root: &Path) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for (holds, within, is_ours) in
        [(Holds::Features, "features", is_features as fn(&str) -> bool), (Holds::Model, "bundles", is_bundle)]
    {
        let ours = fs::read_dir(root.join(within)).into_iter().flatten().flatten().filter(|entry| {
            let is_folder = entry.file_type().is_ok_and(|ty| ty.is_dir());
            is_folder && entry.file_name().to_str().is_some_and(is_ours)
        });
        found.extend(ours.map(|entry| {
            let folder = entry.path();
            let files = files(&folder).filter(|file| !file.ends_with(USED));
            let bytes = files.filter_map(|file| fs::symlink_metadata(file).ok()).map(|file| file.len()).sum();
            Entry { holds, folder, bytes }
        }));
    }
    found.sort_by_cached_key(|entry| (used(&entry.folder), entry.folder.clone()));
    found
}

impl Entry {
    /// Whether a process has it in use.
    pub fn in_use(&self) -> bool {
        let open = |name| File::open(self.folder.join(name));
        let read = |name| open(name).is_ok_and(|file| file.try_lock().is_err());
        let written = |name| open(name).is_ok_and(|file| file.try_lock_shared().is_err());
        match self.holds {
            Holds::Model => read(USED),
            Holds::Features => written(KEYS) || read(RECORDS),
        }
    }

    /// Removes our files, then the folder.
    ///
    /// # Errors
    /// A process has it in use, or the system's.
    pub fn remove(&self) -> io::Result<()> {
        match self.holds {
            Holds::Model => remove_bundle(&self.folder),
            Holds::Features => remove_features(&self.folder),
        }
    }
}

/// Writes zeros over all features and removes them: whoever reads the disk finds none. What a process has in use is an error.
pub fn erase_features(root: &Path) -> io::Result<()> {
    for entry in entries(root).into_iter().filter(|entry| entry.holds == Holds::Features) {
        if entry.in_use() {
            return Err(io::Error::new(
                ErrorKind::WouldBlock,
                format!("{}: a process uses it", entry.folder.display()),
            ));
        }
        [RECORDS, KEYS].into_iter().try_for_each(|name| crate::atomic::overwrite(&entry.folder.join(name)))?;
        entry.remove()?;
    }
    Ok(())
}

/// Notes that `folder` is the one used last.
pub(super) fn mark_used(root: &Path, folder: &Path) -> io::Result<()> {
    let latest = entries(root).iter().map(|entry| used(&entry.folder)).max().unwrap_or(0);
    if latest == 0 || used(folder) < latest {
        fs::write(folder.join(USED), latest.saturating_add(1).to_string())?;
    }
    Ok(())
}

/// The cache that a bundle is in, if it is in one: others are written where somebody asked for them, and stay.
pub(super) fn root_of(bundle: &Path) -> Option<&Path> {
    let root = bundle.parent()?.parent()?;
    root.join(TAG).exists().then_some(root)
}

/// Says of a folder that it is a cache (bford.info/cachedir), which backups leave out.
const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # edgetune can make everything here again. `edgetune cache` shows, limits and clears it.\n";

/// Marks a folder as a cache whose bundles may be removed.
pub fn mark(root: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(root.join(TAG)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        file => file?.write_all(TAG_TEXT),
    }
}

/// The count in a folder; 0 where there is none.
fn used(folder: &Path) -> u64 {
    fs::read_to_string(folder.join(USED)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Removes what was used longest ago of what no process has in use, but never `own`. `false` if there is none.
pub(super) fn remove_oldest(root: &Path, own: &Path) -> bool {
    entries(root).iter().filter(|entry| entry.folder != own).any(|entry| entry.remove().is_ok())
}

/// Removes the files of a body's features, unless somebody has them open.
fn remove_features(folder: &Path) -> io::Result<()> {
    let keys = File::open(folder.join(KEYS))?;
    // Whoever opens the folder takes this lock first: nobody can begin to write while it goes.
    keys.try_lock()?;
    let records = match File::open(folder.join(RECORDS)) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        records => Some(records?),
    };
    if let Some(records) = &records {
        records.try_lock()?;
        fs::remove_file(folder.join(RECORDS))?;
    }
    fs::remove_file(folder.join(KEYS))?;
    let _ = fs::remove_file(folder.join(USED));
    // A folder with somebody else's files in it stays; our bytes are gone.
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// Removes the files of a bundle, unless somebody uses it. Bundles of earlier versions have no file to lock.
fn remove_bundle(folder: &Path) -> io::Result<()> {
    let used = folder.join(USED);
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&used)?;
    lock.try_lock()?;
    for file in files(folder).filter(|file| *file != used) {
        fs::remove_file(file)?;
    }
    fs::remove_file(used)?;
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// Our files in a folder, by their names.
fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ending = [".onnx", ".bin", ".tmp"].iter().any(|ending| name.ends_with(ending));
        ending || [KEYS, RECORDS, USED].contains(&&*name)
    };
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_ours)
}

/// `<64 hexadecimal digits>-<16 of them>`
fn is_features(name: &str) -> bool {
    name.split_once('-')
        .is_some_and(|(body, layout)| body.len() == 64 && layout.len() == 16 && is_hex(body) && is_hex(layout))
}

/// `<16 hexadecimal digits>`
fn is_bundle(name: &str) -> bool {
    name.len() == 16 && is_hex(name)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
