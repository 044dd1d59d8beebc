//! What the server does not have yet, deltas and what became of releases: on the disk before anything is sent, so that neither a
//! dead line nor a dead battery loses it. A channel has one place, and the newest has it: a delta was learned from all that the
//! older ones were, and a newer release's end says more than an older one's.

use super::{Error, escaped, unescaped};
use crate::atomic::write_atomically;
use crate::order::Order;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

/// The folder of what waits.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(super) folder: PathBuf,
    /// What a file's name ends with, with its dot.
    pub(super) ending: &'static str,
}

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// For this channel.
    pub channel: String,
    /// Its bytes.
    pub length: u64,
}

impl Queue {
    fn path(&self, channel: &str) -> PathBuf {
        self.folder.join(format!("{}{}", escaped(channel), self.ending))
    }

    /// Keeps something, in place of what waits for the same channel.
    ///
    /// # Errors
    /// A channel that can be none; a file that cannot be written.
    pub fn put(&self, channel: &str, bytes: &[u8]) -> Result<(), Error> {
        Error::unless_channel(channel)?;
        let path = self.path(channel);
        let _held = self.hold()?;
        let written: io::Result<()> = write_atomically(&path, |file| file.write_all(bytes));
        written.map_err(|error| Error::file(&path, error))
    }

    /// What waits for a channel, if something does.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn get(&self, channel: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(channel);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(&path, error)),
        }
    }

    /// Keeps it no longer, if it is still what waits: a newer one that has come meanwhile stays.
    ///
    /// # Errors
    /// A file that cannot be read or removed.
    pub fn remove(&self, channel: &str, settled: &[u8]) -> Result<(), Error> {
        let path = self.path(channel);
        let _held = self.hold()?;
        match self.get(channel)? {
            Some(waits) if waits == settled => fs::remove_file(&path).map_err(|error| Error::file(&path, error)),
            _ => Ok(()),
        }
    }

    /// Keeps other programs from changing what waits, until the file is dropped.
    fn hold(&self) -> Result<fs::File, Error> {
        let path = self.folder.join(".lock");
        let file = fs::File::create(&path).map_err(|error| Error::file(&path, error))?;
        file.lock().map_err(|error| Error::file(&path, error))?;
        Ok(file)
    }

    /// What waits, in the order of the channels' names.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn list(&self) -> Result<Vec<Queued>, Error> {
        let in_folder = |error| Error::file(&self.folder, error);
        let mut list = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(in_folder)? {
            let entry = entry.map_err(in_folder)?;
            let name = entry.file_name();
            let channel = name.to_str().and_then(|name| name.strip_suffix(self.ending)).and_then(unescaped);
            let Some(channel) = channel else { continue };
            list.push(Queued { channel, length: entry.metadata().map_err(in_folder)?.len() });
        }
        list.order_by(|a, b| a.channel.cmp(&b.channel));
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_channel_waits() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue { folder: folder.path().into(), ending: ".edelta" };
        queue.put("b", b"1").unwrap();
        queue.put("a.é", b"22").unwrap();
        queue.put("b", b"333").unwrap();
        fs::write(folder.path().join(".b.edelta.1-0.tmp"), b"killed").unwrap();
        let waits = |channel: &str, length| Queued { channel: channel.into(), length };
        assert_eq!(queue.list().unwrap(), [waits("a.é", 2), waits("b", 3)]);
        assert_eq!(queue.get("b").unwrap().unwrap(), b"333");
        queue.remove("b", b"1").unwrap();
        assert_eq!(queue.get("b").unwrap().unwrap(), b"333", "a newer one has come while the older was sent");
        queue.remove("b", b"333").unwrap();
        queue.remove("b", b"333").unwrap();
        assert_eq!(queue.list().unwrap(), [waits("a.é", 2)]);
        for wrong in ["", "a\nb", "../a", "-a", "bad name!", &"x".repeat(65)] {
            assert!(matches!(queue.put(wrong, b"1"), Err(Error::Channel { .. })), "{wrong}");
        }
        queue.put(&"é".repeat(32), b"1").unwrap();
        assert_eq!(queue.get("b").unwrap(), None);
    }
}
