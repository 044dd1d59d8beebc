//! In the place of `indices.rs` where the feature `image` is off: no mask is read or written, and that is said.

use super::Limits;

const ABSENT: &str = "edgetune was built without the feature `image`";

/// A mask of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indices {
    pub width: u32,
    pub height: u32,
    /// A class number a pixel, row by row.
    pub pixels: Vec<u8>,
}

/// No mask is read.
///
/// # Errors
/// Always: what reads it is behind the feature `image`.
pub(super) fn read(_bytes: &[u8], _limits: &Limits) -> Result<Indices, String> {
    Err(ABSENT.into())
}

/// No mask is written.
///
/// # Errors
/// Always: what reads it is behind the feature `image`.
pub fn mask_png(_pixels: &[u8], _width: u32, _height: u32) -> Result<Vec<u8>, String> {
    Err(ABSENT.into())
}
