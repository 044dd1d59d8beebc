//! Where what can be made again is kept: the cache of features and bundles.

use crate::{atomic, cache};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The folders of one process. All clones share them.
#[derive(Debug, Clone)]
pub struct Folders {
    cache: PathBuf,
    scratch: Scratch,
}

/// A folder in the place of a cache that cannot be written; it is made when it is first needed, and goes with the last clone.
#[derive(Debug, Clone, Default)]
struct Scratch(Arc<OnceLock<Temporary>>);

#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // A folder that cannot be removed is the system's to clear, as all temporary files are.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Why there is no place for what is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody says where the user's files are.
    #[error("neither HOME nor XDG_CACHE_HOME is set; say where to keep the cache with setting `cache = DIR`")]
    NoHome,
    /// The cache cannot be written, and neither can a temporary folder.
    #[error(
        "{}: {reason}; nor can {} be made: name a writable folder with setting `cache = DIR`: {source}",
        cache.display(), scratch.display()
    )]
    NoScratch {
        /// The cache.
        cache: PathBuf,
        /// What the system said of the cache.
        reason: io::Error,
        /// The temporary folder.
        scratch: PathBuf,
        /// What the system said of the temporary folder.
        source: io::Error,
    },
}

impl Folders {
    /// Everything is kept below `cache`; without it, where the user's caches are (`$XDG_CACHE_HOME` or `~/.cache`).
    ///
    /// # Errors
    /// No folder named, and no home in the environment.
    pub fn new(cache: Option<&Path>) -> Result<Self, Error> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let users = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
        let named = cache.map(Path::to_path_buf).or_else(|| Some(users()?.join("edgetune")));
        Ok(Self { cache: named.ok_or(Error::NoHome)?, scratch: Scratch::default() })
    }

    /// The folder of everything that can be made again.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where bundles are kept: in the cache, or where that is read-only in a temporary folder, with a warning.
    ///
    /// # Errors
    /// A temporary folder that cannot be made either.
    pub fn bundles(&self) -> Result<PathBuf, Error> {
        let bundles = self.cache.join("bundles");
        let probe = fs::create_dir_all(&bundles)
            .and_then(|()| cache::mark(&self.cache))
            .and_then(|()| atomic::probe(&bundles.join("probe")));
        match probe {
            Err(error) if [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied].contains(&error.kind()) => {
                self.scratch(bundles, error)
            }
            // What else is wrong is told by whoever writes, with its file.
            _ => Ok(bundles),
        }
    }

    fn scratch(&self, cache: PathBuf, reason: io::Error) -> Result<PathBuf, Error> {
        if let Some(Temporary(folder)) = self.scratch.0.get() {
            return Ok(folder.clone());
        }
        let scratch = std::env::temp_dir().join(format!("edgetune-{}", std::process::id()));
        // Not one that is there already: it may be somebody else's.
        if let Err(source) = DirBuilder::new().mode(0o700).create(&scratch) {
            return Err(Error::NoScratch { cache, reason, scratch, source });
        }
        tracing::warn!(
            "{}: {reason}; the model's weights are written to {} for this command alone. Name a writable folder with setting `cache = DIR`",
            cache.display(),
            scratch.display()
        );
        Ok(self.scratch.0.get_or_init(|| Temporary(scratch)).0.clone())
    }
}
