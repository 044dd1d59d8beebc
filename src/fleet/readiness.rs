//! Whether the server can take what devices send: the database takes a write, and the disk has room for a delta.

use super::Fleet;
use rustix::fs::statvfs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long an answer holds: anybody may ask, and each look is a write.
const HOLDS: Duration = Duration::from_secs(2);

/// What was found, and when.
#[derive(Debug)]
pub struct Readiness {
    folder: PathBuf,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    /// For a server with this folder; nothing was checked yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), last: Mutex::default() }
    }
}

/// Whether the server is ready, as of now or of a moment ago.
///
/// # Errors
/// Why not, in words.
pub async fn check(fleet: &Fleet) -> Result<(), String> {
    let mut last = fleet.readiness.last.lock().await;
    if let Some((at, found)) = &*last
        && at.elapsed() < HOLDS
    {
        return found.clone();
    }
    let found = found(fleet).await;
    *last = Some((Instant::now(), found.clone()));
    found
}

async fn found(fleet: &Fleet) -> Result<(), String> {
    fleet.db.try_write().await.map_err(|error| error.to_string())?;
    let folder = &fleet.readiness.folder;
    let disk = statvfs(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (free, needed) = (disk.f_bavail.saturating_mul(disk.f_frsize), fleet.current().limits.delta_bytes_max);
    match free >= needed {
        true => Ok(()),
        false => Err(format!("{}: {free} bytes are free, and a delta may have {needed}; make room", folder.display())),
    }
}
