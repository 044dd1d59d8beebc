//! In the place of `image.rs` where the feature `image` is off: nothing is a photograph, and that is said.

use super::Limits;
use super::masks::Seen;
use super::preprocessing::ImagePreprocessing;
use crate::graph::Tensor;

const ABSENT: &str = "edgetune was built without the feature `image`";

/// No photograph is read.
///
/// # Errors
/// Always: what reads it is behind the feature `image`.
pub fn probe(_bytes: &[u8], _limits: &Limits) -> Result<(), String> {
    Err(ABSENT.into())
}

/// No photograph is read.
///
/// # Errors
/// Always: what reads it is behind the feature `image`.
pub fn whole(_bytes: &[u8], _limits: &Limits, _decoded_bytes_max: u64) -> Result<(), String> {
    Err(ABSENT.into())
}

/// No photograph is read.
///
/// # Errors
/// Always: what reads it is behind the feature `image`.
pub fn size(_bytes: &[u8], _limits: &Limits) -> Result<[u32; 2], String> {
    Err(ABSENT.into())
}

/// No photograph is read.
///
/// # Errors
/// Always: what reads it is behind the feature `image`.
pub fn load(_bytes: &[u8], _preprocessing: &ImagePreprocessing, _limits: &Limits) -> Result<Tensor, String> {
    Err(ABSENT.into())
}

/// Of no photograph is anything seen.
pub(super) fn seen(width: u32, height: u32, _to: &ImagePreprocessing) -> [Seen; 2] {
    let whole = |end: u32| Seen { start: 0.0, length: end.into(), end };
    [whole(width), whole(height)]
}
