//! Which body's features give way when the limit is reached: those opened longest ago that nobody has open.
//!
//! “Long ago” is counted, not timed: many small devices have no clock that survives a power cut.

use super::disk::{KEYS, RECORDS};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const USED: &str = "used";

/// Notes that `folder` is the one opened last.
pub(super) fn mark_used(features: &Path, folder: &Path) -> io::Result<()> {
    let latest = folders(features).iter().map(|folder| used(folder)).max().unwrap_or(0);
    if latest == 0 || used(folder) < latest {
        fs::write(folder.join(USED), latest.saturating_add(1).to_string())?;
    }
    Ok(())
}

/// The count in a folder; 0 where there is none.
fn used(folder: &Path) -> u64 {
    fs::read_to_string(folder.join(USED)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Bytes of the features of all bodies in `<root>/features`.
pub fn features_bytes(features: &Path) -> u64 {
    let files = folders(features).into_iter().flat_map(|folder| [folder.join(RECORDS), folder.join(KEYS)]);
    files.filter_map(|file| fs::symlink_metadata(file).ok()).map(|metadata| metadata.len()).sum()
}

/// Removes the features of one body that nobody has open, the one used longest ago, but never `own`. `false` if there is
/// none to remove.
pub(super) fn remove_oldest(features: &Path, own: &Path) -> bool {
    let mut others = folders(features);
    others.retain(|folder| folder != own);
    others.sort_by_cached_key(|folder| (used(folder), folder.clone()));
    others.iter().any(|folder| remove(folder).is_ok())
}

/// Removes our files of a folder, then the folder, unless somebody has the records open.
fn remove(folder: &Path) -> io::Result<()> {
    let keys = File::open(folder.join(KEYS))?;
    // Whoever opens the folder takes this lock first: nobody can begin to write while it goes.
    keys.try_lock()?;
    let records = match File::open(folder.join(RECORDS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
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

/// The folders that are ours by their name. Links and anything else in there are not.
fn folders(features: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(features).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let is_folder = entry.file_type().is_ok_and(|ty| ty.is_dir());
        is_folder && entry.file_name().to_str().is_some_and(is_ours)
    });
    ours.map(|entry| entry.path()).collect()
}

/// `<64 hexadecimal digits>-<16 of them>`
fn is_ours(name: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('-')
        .is_some_and(|(body, layout)| body.len() == 64 && layout.len() == 16 && is_hex(body) && is_hex(layout))
}
