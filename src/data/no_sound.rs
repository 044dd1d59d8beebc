//! In the place of `sound.rs` where the feature `audio` is off: nothing is a sound, and that is said.

use super::Limits;
use super::recording::Recording;
use bytes::Bytes;

/// No sound is read.
///
/// # Errors
/// Always: what reads it is behind the feature `audio`.
pub fn decode(_bytes: &Bytes, _limits: &Limits) -> Result<Recording, String> {
    Err("edgetune was built without the feature `audio`".into())
}

/// No header is read.
pub fn length(_bytes: &Bytes) -> Option<(u64, Option<u32>)> {
    None
}
