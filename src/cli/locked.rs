//! Key files that a passphrase opens, as OpenSSL writes them (PKCS#8 of RFC 5958, PBES2 of RFC 8018 with scrypt and AES-256-CBC).

use crate::delta::KeyPair;
use anyhow::{Result, anyhow};
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo};

/// Work of guessing a passphrase: scrypt's N is 2 to that, for 32 MiB and a tenth of a second.
const LOG_N: u8 = 15;
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// A key as PEM that the passphrase opens; `salt` and `iv` are from the system's source of randomness.
pub fn locked(key: &KeyPair, passphrase: &str, [salt, iv]: &[[u8; 16]; 2]) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("the key cannot be encrypted: {error}");
    let (_, document) = SecretDocument::from_pem(&key.to_pem()?).map_err(|error| failed(&error))?;
    let plain = PrivateKeyInfo::from_der(document.as_bytes()).map_err(|error| failed(&error))?;
    let work = scrypt::Params::new(LOG_N, 8, 1, 32).map_err(|error| failed(&error))?;
    let parameters = pbes2::Parameters::scrypt_aes256cbc(work, salt, iv).map_err(|error| failed(&error))?;
    let encrypted = plain.encrypt_with_params(parameters, passphrase).map_err(|error| failed(&error))?;
    Ok(encrypted.to_pem(LABEL, LineEnding::LF).map_err(|error| failed(&error))?.to_string())
}

/// The key in such a text; none where it is something else, or the passphrase is another.
pub fn unlocked(text: &str, passphrase: &str) -> Option<KeyPair> {
    let (label, document) = SecretDocument::from_pem(text).ok()?;
    let encrypted = EncryptedPrivateKeyInfo::from_der(document.as_bytes()).ok().filter(|_| label == LABEL)?;
    let plain = encrypted.decrypt(passphrase).ok()?;
    KeyPair::from_pem(&plain.to_pem("PRIVATE KEY", LineEnding::LF).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_opens_a_key_and_no_other_does() {
        let key = KeyPair::from_secret(&[7; 32]);
        let text = locked(&key, "correct horse", &[[1; 16], [2; 16]]).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{text}");
        assert_eq!(unlocked(&text, "correct horse").unwrap().public(), key.public());
        for wrong in ["", "correct  horse", "Correct horse"] {
            assert!(unlocked(&text, wrong).is_none());
        }
        assert!(KeyPair::from_pem(&text).is_err());
        assert!(unlocked(&key.to_pem().unwrap(), "").is_none());
    }
}
