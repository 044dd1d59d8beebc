//! Ed25519 over a delta's identity. The identity covers the header and the header the hash of every tensor, so a signature
//! that was checked before the first value is read covers the last one too.

use super::{Error, IDENTITY_BYTES, KEY_BYTES, SIGNATURE_BYTES};
use ed25519_dalek::{Signature, VerifyingKey};

/// What is signed is this and the identity: a signature made for anything else can never be taken for one of a delta.
pub(super) const CONTEXT: &str = "edgetune delta 1";
/// Bytes of a context, at most.
const CONTEXT_BYTES_MAX: usize = 32;

fn message(
    context: &str,
    identity: &[u8; IDENTITY_BYTES],
) -> heapless::Vec<u8, { CONTEXT_BYTES_MAX + IDENTITY_BYTES }> {
    context.bytes().take(CONTEXT_BYTES_MAX).chain(*identity).collect()
}

/// Strict: one encoding for each signature, no key or commitment of small order (RFC 8032 leaves that open).
/// `context` says what kind of thing the identity is of; it has at most 32 bytes.
pub(crate) fn check(
    context: &str,
    identity: &[u8; IDENTITY_BYTES],
    key: &[u8; KEY_BYTES],
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), Error> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| Error::Signature)?;
    key.verify_strict(&message(context, identity), &Signature::from_bytes(signature)).map_err(|_| Error::Signature)
}

/// What a signature of something else than a delta is of: `edgetune PURPOSE`, a line end, the message. A purpose is a word and a
/// version (`request 1`), so that what was signed for one can never be taken for the other.
#[cfg(feature = "std")]
fn statement(purpose: &str, message: &[u8]) -> std::vec::Vec<u8> {
    [b"edgetune ", purpose.as_bytes(), b"\n", message].concat()
}

/// The signature of a message that is no delta. `purpose` says what it is for; it has no line end and is not `delta 1`.
#[cfg(feature = "std")]
pub fn sign_statement(purpose: &str, message: &[u8], key: &super::KeyPair) -> [u8; SIGNATURE_BYTES] {
    key.sign(&statement(purpose, message))
}

/// That a message was signed by this key for this purpose. As strict as for deltas.
///
/// # Errors
/// [`Error::Signature`].
#[cfg(feature = "std")]
pub fn check_statement(
    purpose: &str,
    message: &[u8],
    key: &[u8; KEY_BYTES],
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), Error> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| Error::Signature)?;
    let signature = Signature::from_bytes(signature);
    key.verify_strict(&statement(purpose, message), &signature).map_err(|_| Error::Signature)
}

/// The signature that [`check`] finds right.
#[cfg(feature = "std")]
pub(crate) fn signature_of(
    context: &str,
    identity: &[u8; IDENTITY_BYTES],
    key: &super::KeyPair,
) -> [u8; SIGNATURE_BYTES] {
    key.sign(&message(context, identity))
}

/// The delta with a signature of `key`; one that it had is replaced. Its identity stays the same.
///
/// # Errors
/// Bytes that are no delta.
#[cfg(feature = "std")]
pub fn sign(bytes: &[u8], key: &super::KeyPair) -> Result<std::vec::Vec<u8>, Error> {
    let delta = super::Delta::parse(bytes)?;
    let (before, payload) = delta.parts(bytes);
    let mut signed = before.to_vec();
    signed[6..8].copy_from_slice(&super::SIGNED.to_le_bytes());
    signed.extend(key.public());
    signed.extend(signature_of(CONTEXT, delta.identity(), key));
    signed.extend(payload);
    super::Delta::parse(&signed)?;
    Ok(signed)
}
