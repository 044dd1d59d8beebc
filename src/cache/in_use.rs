//! A bundle in use, which must not give way to others.

use super::evict::{mark_used, root_of};
use super::file_names::USED;
use super::room;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A bundle that must not go while this is held. While it is in use it may be larger than a limit that was set allows; after that it is
/// the first to go.
#[derive(Debug)]
pub struct InUse {
    /// Held until the limit is looked at.
    lock: Option<File>,
    root: PathBuf,
}

impl Drop for InUse {
    fn drop(&mut self) {
        drop(self.lock.take());
        room::keep_set_limit(&self.root);
    }
}

/// Keeps a bundle, whose folder is there, from being removed as long as the answer lives; `None` where it is not in a cache, or
/// its folder cannot be written, so that nothing is removed either.
pub fn hold(bundle: &Path) -> Option<InUse> {
    let root = root_of(bundle)?;
    loop {
        fs::create_dir_all(bundle).ok()?;
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(bundle.join(USED)).ok()?;
        lock.lock_shared().ok()?;
        // It may have been removed between opening and locking.
        if lock.metadata().ok()?.nlink() > 0 {
            mark_used(root, bundle).ok()?;
            return Some(InUse { lock: Some(lock), root: root.to_owned() });
        }
    }
}
