//! Deltas that the server does not have yet: on the disk before anything is sent, so that neither a dead line nor a dead battery
//! loses one. A channel has one place, and the newest delta has it: it was learned from all that the older ones were.

use super::{Error, escaped, unescaped};
use crate::atomic::write_atomically;
use crate::sync::wire::is_name;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

/// The folder of deltas that wait.
#[derive(Debug, Clone)]
pub struct Queue(pub(super) PathBuf);

/// A delta that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// For this channel.
    pub channel: String,
    /// Its bytes.
    pub length: u64,
}

impl Queue {
    fn path(&self, channel: &str) -> PathBuf {
        self.0.join(format!("{}.edelta", escaped(channel)))
    }

    /// Keeps a delta, in place of one that waits for the same channel.
    ///
    /// # Errors
    /// A channel that can be none; a file that cannot be written.
    pub fn put(&self, channel: &str, delta: &[u8]) -> Result<(), Error> {
        if !is_name(channel) {
            return Err(Error::Name { what: format!("--channel {channel:?}") });
        }
        let path = self.path(channel);
        let written: io::Result<()> = write_atomically(&path, |file| file.write_all(delta));
        written.map_err(|error| Error::file(&path, error))
    }

    /// The delta that waits for a channel.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn get(&self, channel: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(channel);
        fs::read(&path).map_err(|error| Error::file(&path, error))
    }

    /// Keeps a delta no longer.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(&self, channel: &str) -> Result<(), Error> {
        let path = self.path(channel);
        fs::remove_file(&path).map_err(|error| Error::file(&path, error))
    }

    /// What waits, in the order of the channels' names.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn list(&self) -> Result<Vec<Queued>, Error> {
        let in_folder = |error| Error::file(&self.0, error);
        let mut list = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(in_folder)? {
            let entry = entry.map_err(in_folder)?;
            let name = entry.file_name();
            let channel = name.to_str().and_then(|name| name.strip_suffix(".edelta")).and_then(unescaped);
            let Some(channel) = channel else { continue };
            list.push(Queued { channel, length: entry.metadata().map_err(in_folder)?.len() });
        }
        list.sort_by(|a, b| a.channel.cmp(&b.channel));
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_channel_waits() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue(folder.path().into());
        queue.put("b", b"1").unwrap();
        queue.put("../a", b"22").unwrap();
        queue.put("b", b"333").unwrap();
        fs::write(folder.path().join(".b.edelta.1-0.tmp"), b"killed").unwrap();
        let waits = |channel: &str, length| Queued { channel: channel.into(), length };
        assert_eq!(queue.list().unwrap(), [waits("../a", 2), waits("b", 3)]);
        assert_eq!(queue.get("b").unwrap(), b"333");
        queue.remove("b").unwrap();
        assert_eq!(queue.list().unwrap(), [waits("../a", 2)]);
        for wrong in ["", "a\nb", &"x".repeat(65)] {
            assert!(matches!(queue.put(wrong, b"1"), Err(Error::Name { .. })), "{wrong}");
        }
        queue.put(&"é".repeat(32), b"1").unwrap();
        let gone = queue.get("b").unwrap_err().to_string();
        assert!(gone.contains("b.edelta"), "{gone}");
    }
}
