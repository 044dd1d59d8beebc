//! The folder in which a device keeps what it is in the fleet. See the head of [`super`] for its files.

use super::{Error, Queue, escaped};
use crate::atomic::{write_atomically, write_secret};
use crate::delta::KeyPair;
use crate::sync::wire::{Hex, Release, Root};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What a device knows of its fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The server's address, `https://HOST:PORT`.
    pub url: String,
    /// What the server calls itself in requests.
    pub fleet: String,
    /// What people call the device.
    pub name: String,
    /// The key that releases are signed with.
    pub release_key: Hex<32>,
    /// Whose word counts instead, as keys that are kept offline have said last; none: that of the release key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// PEM of whom the server's certificate must be from; none: one of the public authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Files of the device's own certificate and its key in PEM, read anew each time so that they can be renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<[PathBuf; 2]>,
}

impl Member {
    /// Keys that releases may be signed with.
    pub fn release_keys(&self) -> &[Hex<32>] {
        self.root.as_ref().map_or(std::slice::from_ref(&self.release_key), |root| &root.releases)
    }
}

/// The newest releases that were taken, by channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen(pub BTreeMap<String, Taken>);

/// A release that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// What the server calls this state of the channel.
    pub etag: String,
    /// The release.
    pub release: Release,
    /// The latest time that the fleet has signed for the channel, in milliseconds since 1970: it is not earlier since.
    pub at_ms: u64,
}

impl Seen {
    /// The latest time that the fleet has signed; 0 for none.
    pub fn signed_ms(&self) -> u64 {
        self.0.values().map(|taken| taken.at_ms).max().unwrap_or(0)
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// Nobody else works in the folder while this is there.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Folder {
    /// Opens it, and makes it where it is missing, for its owner's eyes only.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(path: &Path) -> Result<Self, Error> {
        for folder in [path.into(), path.join("queue"), path.join("reports"), path.join("adapters")] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            let remedy = |error| format!("{error}; name a writable folder with setting `state = DIR`");
            made.map_err(|error| Error::file(&folder, remedy(error)))?;
        }
        Ok(Self(path.into()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps others out.
    ///
    /// # Errors
    /// [`Error::Locked`].
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.0.join("lock");
        let file = File::create(&path).map_err(|error| Error::file(&path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(_) => Err(Error::Locked { folder: self.0.clone() }),
        }
    }

    /// What the device knows of its fleet.
    ///
    /// # Errors
    /// [`Error::NotEnrolled`]; a file that cannot be read.
    pub fn member(&self) -> Result<Member, Error> {
        let remedy = "enrol the device again: `edgetune fleet enroll URL --token-file FILE`";
        read(&self.0.join("member.json"), remedy)?.ok_or_else(|| Error::NotEnrolled { folder: self.0.clone() })
    }

    /// The device holds another root from now on.
    pub(super) fn hold(&self, member: &Member) -> Result<(), Error> {
        write(&self.0.join("member.json"), member)
    }

    /// The device's key.
    ///
    /// # Errors
    /// [`Error::NotEnrolled`]; a file that is no key.
    pub fn key(&self) -> Result<KeyPair, Error> {
        key(&self.0.join("key.pem"))?.ok_or_else(|| Error::NotEnrolled { folder: self.0.clone() })
    }

    /// The key that a token is to be used with: made once for each token, so that an enrolment whose answer was lost can be asked
    /// for again, and never one that was revoked.
    pub(super) fn key_for(
        &self,
        token: &str,
        secret: &dyn Fn() -> Result<[u8; 32], String>,
    ) -> Result<(PathBuf, KeyPair), Error> {
        let path = self.0.join(format!("enrol-{}.pem", &blake3::hash(token.as_bytes()).to_hex()[..16]));
        if let Some(key) = key(&path)? {
            return Ok((path, key));
        }
        let key = KeyPair::from_secret(&secret().map_err(Error::Random)?);
        write_key(&path, &key)?;
        Ok((path, key))
    }

    /// The device is this member from now on, by this key. In an order in which it can be killed: a key without a member is asked
    /// to enrol again, and the token still has its key then.
    pub(super) fn join(&self, member: &Member, key: &KeyPair, pending: &Path) -> Result<(), Error> {
        write_key(&self.0.join("key.pem"), key)?;
        self.see(&Seen::default())?;
        write(&self.0.join("member.json"), member)?;
        fs::remove_file(pending).map_err(|error| Error::file(pending, error))
    }

    /// The releases that were taken.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn seen(&self) -> Result<Seen, Error> {
        let remedy = "enrol the device again, or remove the file: then an older release may be taken for a new one";
        Ok(read(&self.0.join("seen.json"), remedy)?.unwrap_or_default())
    }

    /// Keeps what was taken.
    pub(super) fn see(&self, seen: &Seen) -> Result<(), Error> {
        write(&self.0.join("seen.json"), seen)
    }

    /// The deltas that wait.
    pub fn queue(&self) -> Queue {
        Queue { folder: self.0.join("queue"), ending: ".edelta" }
    }

    /// What became of releases, where the server does not know it yet.
    pub fn reports(&self) -> Queue {
        Queue { folder: self.0.join("reports"), ending: ".json" }
    }

    /// Where the adapter of a channel lies.
    pub fn adapter(&self, channel: &str) -> PathBuf {
        self.0.join("adapters").join(format!("{}.edelta", escaped(channel)))
    }
}

/// A key's file; none where there is none.
fn key(path: &Path) -> Result<Option<KeyPair>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => KeyPair::from_pem(&text).map(Some).map_err(|error| Error::file(path, error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path, error)),
    }
}

fn write_key(path: &Path, key: &KeyPair) -> Result<(), Error> {
    let pem = key.to_pem().map_err(|error| Error::file(path, error))?;
    write_secret(path, pem.as_bytes()).map_err(|error| Error::file(path, error))
}

/// A file of JSON; none where there is none.
fn read<T: DeserializeOwned>(path: &Path, remedy: &str) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file(path, error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::file(path, format!("{error}; {remedy}")))
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let written: io::Result<()> = write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    });
    written.map_err(|error| Error::file(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_at_a_time_works_in_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("fleet")).unwrap();
        let lock = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(Error::Locked { .. })));
        drop(lock);
        folder.lock().unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    /// A token keeps its key until it has been used, and no other token gets it.
    #[test]
    fn a_lost_answer_can_be_asked_for_again() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let next = std::cell::Cell::new(0);
        let secret = || {
            next.set(next.get() + 1);
            Ok([next.get(); 32])
        };
        let (path, first) = folder.key_for("one", &secret).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(folder.key_for("one", &secret).unwrap().1.public(), first.public());
        assert_ne!(folder.key_for("two", &secret).unwrap().1.public(), first.public());
        assert!(matches!(folder.member(), Err(Error::NotEnrolled { .. })));
        let member = Member {
            url: "https://fleet".into(),
            fleet: "f".into(),
            name: "n".into(),
            release_key: Hex([1; 32]),
            root: None,
            ca: None,
            client_certificate: None,
        };
        folder.join(&member, &first, &path).unwrap();
        assert_eq!(folder.member().unwrap(), member);
        assert_eq!(folder.key().unwrap().public(), first.public());
        assert!(!path.exists());
    }

    #[test]
    fn a_damaged_file_is_told_with_the_remedy() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        fs::write(place.path().join("seen.json"), "{").unwrap();
        let error = folder.seen().unwrap_err().to_string();
        assert!(error.contains("seen.json") && error.contains("enrol the device again"), "{error}");
    }
}
