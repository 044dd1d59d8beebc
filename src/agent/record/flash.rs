//! How much the service and its trainings write: flash memory and SD cards wear by it.
//!
//! What [`crate::host::WriteMeter`] counts is summed by the hour in `STATE/written.json`, so that a day's budget outlives a
//! restart. Where the kernel does not count, nothing is known and nothing forbidden.

use super::folders::error_at;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const HOUR_S: i64 = 3600;
/// Hours that a budget is of. The hour that has begun counts whole.
const DAY_H: i64 = 24;

/// Bytes written, by hours since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WrittenBytes(BTreeMap<i64, u64>);

impl WrittenBytes {
    /// What the state knows. A file that is damaged or cannot be read counts as nothing written, and a warning says so: at worst
    /// one day's budget begins anew.
    pub fn read(state: &Path) -> Self {
        let path = path(state);
        let found = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            read => read.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other)),
        };
        found.unwrap_or_else(|error| {
            tracing::warn!(file = %path.display(), %error, "what was written today is unknown; it is counted anew from here");
            Self::default()
        })
    }

    /// Keeps it, a file of some hundred bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).expect("numbers are JSON");
        crate::atomic::write_atomically(&path(state), |file| file.write_all(&text))
            .map_err(|error: io::Error| error_at(&path(state), error))
    }

    /// Adds what was written now.
    pub fn add(&mut self, unix_s: i64, bytes: u64) {
        let hour = unix_s.div_euclid(HOUR_S);
        // A clock that was set back keeps no hours of the future.
        self.0.retain(|known, _| (hour - DAY_H + 1..=hour).contains(known));
        if bytes > 0 {
            *self.0.entry(hour).or_default() += bytes;
        }
    }

    /// Bytes of the last 24 hours.
    pub fn day(&self, unix_s: i64) -> u64 {
        let hour = unix_s.div_euclid(HOUR_S);
        self.0.range(hour - DAY_H + 1..=hour).map(|(_, bytes)| bytes).sum()
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("written.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_last_24_hours() {
        let mut written = WrittenBytes::default();
        (0..48).for_each(|hour| written.add(hour * HOUR_S + 7, 10));
        assert_eq!(written.day(47 * HOUR_S), 240);
        assert_eq!(written.day(48 * HOUR_S), 230, "what is older than a day has gone");
        assert_eq!(written.day(100 * HOUR_S), 0);
        written.add(40 * HOUR_S, 1);
        assert_eq!(written.day(40 * HOUR_S), 24 * 10 - 70 + 1, "a clock set back forgets the hours to come");
        let folder = tempfile::tempdir().unwrap();
        written.write(folder.path()).unwrap();
        assert_eq!(WrittenBytes::read(folder.path()), written);
        fs::write(path(folder.path()), "{\"7\":").unwrap();
        assert_eq!(WrittenBytes::read(folder.path()), WrittenBytes::default());
    }
}
