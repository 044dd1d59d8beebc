//! The server's own folder: its keys, and with the defaults the database and the deltas.
//!
//! One server at a time works in it. A second one would sign with the same keys and, with SQLite, wait for the first one's writes; it
//! is nearly always one that was started by mistake. Replicas have a folder each, and a database and a store together.

use super::Error;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of an address that is read.
const ADDRESS_BYTES_MAX: u64 = 512;

/// The folder, which no other server works in while this is there.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Opens the folder, made for its owner's eyes only where it is missing, and keeps other servers out of it.
    ///
    /// # Errors
    /// [`Error::Held`] where another server works in it; a folder that cannot be written to.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let in_file = |path: &Path, problem: String| Error::File { path: path.into(), problem };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| in_file(path, format!("{error}; name a writable folder with setting `data = DIR`")))?;
        let place = path.join("lock");
        let told =
            |error: io::Error| in_file(&place, format!("{error}; name a writable folder with setting `data = DIR`"));
        // Not emptied: it may be another's, and say where that listens.
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&place)
            .map_err(told)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), lock }),
            Err(TryLockError::WouldBlock) => {
                let address = Self::address(path).unwrap_or_else(|| "an address that it has not told yet".into());
                Err(Error::Held { lock: place, address })
            }
            Err(TryLockError::Error(error)) => Err(told(error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down where the server listens, for the commands that speak to it on this machine.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn tell(&mut self, scheme: &str, listens: SocketAddr) -> Result<(), Error> {
        let (ip, port) = (listens.ip(), listens.port());
        // All addresses of this machine are this one, too; and the server's own certificate is for that name.
        let host =
            if ip.is_unspecified() { format!("localhost:{port}") } else { SocketAddr::new(ip, port).to_string() };
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(format!("{scheme}://{host}\n").as_bytes())
        };
        write(&mut self.lock).map_err(|error| Error::File { path: self.path.join("lock"), problem: error.to_string() })
    }

    /// Where the last server in a folder listens or has listened, by its own word.
    pub fn address(path: &Path) -> Option<String> {
        let mut text = String::new();
        File::open(path.join("lock")).ok()?.take(ADDRESS_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_at_a_time_works_in_it_and_says_where() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("fleet");
        let mut folder = Folder::open(&path).unwrap();
        for (listens, address) in [
            ("0.0.0.0:8443", "https://localhost:8443"),
            ("[::]:8443", "https://localhost:8443"),
            ("10.0.0.7:1", "https://10.0.0.7:1"),
            ("[::1]:2", "https://[::1]:2"),
        ] {
            folder.tell("https", listens.parse().unwrap()).unwrap();
            assert_eq!(Folder::address(&path).as_deref(), Some(address));
        }
        let refused = Folder::open(&path).unwrap_err().to_string();
        assert!(refused.contains("fleet/lock") && refused.contains("https://[::1]:2"), "{refused}");
        assert!(refused.contains("setting `data"), "{refused}");
        drop(folder);
        Folder::open(&path).unwrap();
    }
}
