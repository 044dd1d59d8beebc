//! What a person asks of a service that runs: a file each in `STATE/asked`, which goes when it is done.
//!
//! The service alone changes its samples while it runs, so commands leave their wish there instead.

use super::folders::{error_at, visible};
use super::sample_name::Name;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// A training that waits neither for new samples nor for the time since the last one.
    Train {
        /// Nor for the hours, the day's budgets, the load and the battery.
        now: bool,
    },
    /// Another label.
    Relabel {
        /// Of these samples.
        samples: Vec<Name>,
        /// This one.
        label: String,
    },
    /// An end of these samples.
    Delete {
        /// Their names.
        samples: Vec<Name>,
    },
    /// An end of these samples for good, and of what was learned from them.
    Forget {
        /// Their names.
        samples: Vec<Name>,
    },
}

fn folder(state: &Path) -> PathBuf {
    state.join("asked")
}

/// Leaves a wish; gives the file that goes when it is done. A training that is asked for twice is asked for once.
///
/// # Errors
/// The system's.
pub fn put(state: &Path, ask: &Ask, chance: u64) -> io::Result<PathBuf> {
    let folder = folder(state);
    fs::create_dir_all(&folder).map_err(|error| error_at(&folder, error))?;
    let name = match ask {
        Ask::Train { .. } => "train.json".into(),
        _ => format!("{chance:016x}.json"),
    };
    let path = folder.join(name);
    let text = serde_json::to_vec(ask).expect("a wish is JSON");
    crate::atomic::write_atomically(&path, |file| file.write_all(&text))
        .map_err(|error: io::Error| error_at(&path, error))?;
    Ok(path)
}

/// What is asked for and not done; what cannot be understood is taken away with a warning.
///
/// # Errors
/// The system's.
pub fn pending(state: &Path) -> io::Result<Vec<(PathBuf, Ask)>> {
    let mut found = Vec::new();
    for path in visible(&folder(state))? {
        match fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other)) {
            Ok(ask) => found.push((path, ask)),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a request that cannot be understood is taken away");
                done(&path)?;
            }
        }
    }
    Ok(found)
}

/// The training that is asked for, if one is: whether at once.
///
/// # Errors
/// The system's.
pub fn training(state: &Path) -> io::Result<Option<bool>> {
    let asked = pending(state)?.into_iter().find_map(|(_, ask)| match ask {
        Ask::Train { now } => Some(now),
        _ => None,
    });
    Ok(asked)
}

/// The training that was asked for has come to its end.
///
/// # Errors
/// The system's.
pub fn trained(state: &Path) -> io::Result<()> {
    done(&folder(state).join("train.json"))
}

/// Takes a wish away.
///
/// # Errors
/// The system's.
pub fn done(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error_at(path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_stays_until_it_is_done() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path();
        assert_eq!(training(state).unwrap(), None);
        put(state, &Ask::Train { now: false }, 1).unwrap();
        put(state, &Ask::Train { now: true }, 2).unwrap();
        let delete = Ask::Delete { samples: vec![[7; 16]] };
        let path = put(state, &delete, 3).unwrap();
        fs::write(folder(state).join("x.json"), "{").unwrap();
        assert_eq!(
            pending(state).unwrap(),
            [(path.clone(), delete), (folder(state).join("train.json"), Ask::Train { now: true })]
        );
        assert_eq!(training(state).unwrap(), Some(true));
        done(&path).unwrap();
        trained(state).unwrap();
        assert_eq!(pending(state).unwrap(), []);
    }
}
