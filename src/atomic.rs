//! Writing a file so that a reader, or a device that loses power, sees the old file or the new one and never a part.
//!
//! Takes a path and a closure that writes; gives a file under that path that is whole and on the disk. It never
//! touches the target before everything is written, and it imports no other module of the project.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Calls `write` with a new file beside `path`, brings that to the disk, renames it to `path` and brings the rename to
/// the disk. Gives what `write` gave.
///
/// The temporary file is called `.<name>.<process>-<number>.tmp`. It is removed when anything fails; only a killed
/// process leaves one behind, and nothing ever reads it.
///
/// # Errors
/// What `write` returned, or the system's error; the file at `path` is then the old one.
pub fn write_atomically<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, E> {
    let folder = folder_of(path);
    let (temporary, file) = create_beside(folder, path)?;
    let written = fill(file, write).and_then(|value| {
        fs::rename(&temporary, path)?;
        Ok(value)
    });
    if written.is_err() {
        // The first error is the one worth telling; a temporary file that cannot be removed either adds nothing.
        let _ = fs::remove_file(&temporary);
    }
    let value = written?;
    File::open(folder)?.sync_all()?;
    Ok(value)
}

/// [`write_atomically`] of some bytes, for the owner's eyes only from the first of them on.
///
/// # Errors
/// The system's; the file at `path` is then the old one.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically(path, |file| {
        file.get_ref().set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)
    })
}

/// Writes zeros over the bytes of a file, on the disk when this returns; a file that is not there has none. What a file system keeps of
/// earlier contents by itself (snapshots, a flash memory's spare blocks) is out of reach.
///
/// # Errors
/// The system's.
pub fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let bytes = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    file.sync_all()
}

/// Whether [`write_atomically`] could begin: makes the temporary file and removes it again.
///
/// # Errors
/// The system's: no such folder, no permission, no space.
pub fn probe(path: &Path) -> io::Result<()> {
    let (temporary, _) = create_beside(folder_of(path), path)?;
    fs::remove_file(temporary)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn create_beside(folder: &Path, path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: names no file to write", path.display()))
    })?;
    for number in 0u32.. {
        let temporary = folder.join(format!(".{}.{}-{number}.tmp", name.to_string_lossy(), std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn fill<T, E: From<io::Error>>(file: File, write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>) -> Result<T, E> {
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    let value = write(&mut writer)?;
    writer.flush()?;
    writer.get_ref().sync_all()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomically(&path, |file| file.write_all(b"old")).unwrap();
        let failed = write_atomically(&path, |file| {
            file.write_all(b"half")?;
            Err::<(), _>(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomically(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
