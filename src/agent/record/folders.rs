//! Folders of a state: their entries, their names, files that are erased, and errors that say where something went wrong.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// A folder's entries in the order of names, hidden ones left out; none where there is no folder.
///
/// # Errors
/// The system's, with the folder.
pub fn visible(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error_at(folder, error)),
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

/// An error that says where.
pub fn error_at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Writes zeros over a file and removes it.
///
/// # Errors
/// The system's, with the file.
pub fn erase(file: &Path) -> io::Result<()> {
    crate::atomic::overwrite(file).and_then(|()| fs::remove_file(file)).map_err(|error| error_at(file, error))
}

/// Gives a new file to whoever owns the folder: what an administrator's command makes in a state is the service's all the same.
///
/// # Errors
/// The system's.
pub fn give_to_owner(folder: &Path, file: &Path) -> io::Result<()> {
    let (owner, now) = (fs::metadata(folder)?, fs::metadata(file)?);
    if (owner.uid(), owner.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    chown(file, Some(owner.uid()), Some(owner.gid())).map_err(|error| error_at(file, error))
}

/// A folder's or file's own name.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
