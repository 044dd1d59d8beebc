//! How much room a file system has.

use std::io;
use std::path::Path;

/// Bytes that an ordinary user may still write to the file system.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(folder)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

/// Bytes of the whole file system.
pub(super) fn system_bytes(folder: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(folder)?;
    Ok(system.f_blocks.saturating_mul(system.f_frsize))
}
