//! The server's certificate: given, or its own, made on the first start.

use super::Error;
use crate::atomic;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

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

    /// What ends TLS with it: HTTP/1.1 alone.
    ///
    /// # Errors
    /// A text that is no PEM, a key that does not fit the certificate.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, Error> {
        let refused =
            |problem: String| Error::Socket(io::Error::other(format!("the certificate or its key: {problem}")));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| refused(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| refused(error.to_string()))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.map_err(|error| refused(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
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
