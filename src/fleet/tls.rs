//! The server's certificate: given, or its own, made on the first start.

use super::Error;
use crate::atomic;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Makes `ring` what TLS is done with in this process: to devices, to S3 and to the database. Before the first of them; again does
/// nothing.
pub(super) fn choose_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Certificate chain and key in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, and those between it and a root.
    pub certificate: Vec<u8>,
    /// Its secret key.
    pub key: Vec<u8>,
}

impl Identity {
    /// From two files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let read = |path: &Path| fs::read(path).map_err(|error| in_file(path, error));
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    /// The folder's own: `tls.crt` and `tls.key`, made for these names where they are missing. Devices trust it by being given
    /// the certificate.
    ///
    /// # Errors
    /// A file that can be neither read nor written.
    pub fn own(folder: &Path, names: &[String]) -> Result<Self, Error> {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        if !certificate.exists() {
            let made = rcgen::generate_simple_self_signed(names).map_err(|error| in_file(&certificate, error))?;
            write_secret(&key, made.signing_key.serialize_pem().as_bytes())?;
            write_secret(&certificate, made.cert.pem().as_bytes())?;
        }
        Self::read(&certificate, &key)
    }
}

fn in_file(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::File { path: PathBuf::from(path), problem: problem.to_string() }
}

/// A file for the server's eyes only; whole or not there.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    atomic::write_secret(path, bytes).map_err(|error| in_file(path, error))
}

/// The text of such a file; none where there is no file.
pub(super) fn read_secret(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(in_file(path, error)),
    }
}
