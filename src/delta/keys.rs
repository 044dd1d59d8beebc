//! Signing keys as PEM: PKCS#8 for the secret one, SubjectPublicKeyInfo for the public one, as OpenSSL writes them.
//! Chance and files are the caller's.

use super::{Error, KEY_BYTES, SIGNATURE_BYTES};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use std::string::{String, ToString};

/// A secret key and its public one. Wiped from memory when dropped; never printed.
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// The pair that belongs to 32 secret bytes, which must be from the system's source of randomness.
    pub fn from_secret(secret: &[u8; KEY_BYTES]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// From a PKCS#8 document in PEM.
    ///
    /// # Errors
    /// [`Error::Key`]: something else, or a public key beside the secret one that is not its.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        SigningKey::from_pkcs8_pem(text).map(Self).map_err(|_| Error::Key)
    }

    /// The PKCS#8 document in PEM. The caller keeps it from others' eyes.
    ///
    /// # Errors
    /// [`Error::Key`], which a valid pair never gives.
    pub fn to_pem(&self) -> Result<String, Error> {
        self.0.to_pkcs8_pem(LineEnding::LF).map(|text| text.to_string()).map_err(|_| Error::Key)
    }

    /// The public key in PEM.
    ///
    /// # Errors
    /// [`Error::Key`], which a valid pair never gives.
    pub fn public_pem(&self) -> Result<String, Error> {
        self.0.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|_| Error::Key)
    }

    /// The public key.
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.0.verifying_key().to_bytes()
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

impl core::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyPair(secret)")
    }
}

/// The public key in a PEM text.
///
/// # Errors
/// [`Error::Key`]: something else.
pub fn public_key(text: &str) -> Result<[u8; KEY_BYTES], Error> {
    VerifyingKey::from_public_key_pem(text).map(|key| key.to_bytes()).map_err(|_| Error::Key)
}
