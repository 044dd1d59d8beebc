//! What a single file of data may cost.

/// What a single file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file that is read.
    pub file_bytes_max: u64,
    /// Largest width or height of a photograph, in pixels.
    pub side_max: u32,
    /// Most memory that a decoded photograph may take.
    pub decoded_bytes_max: u64,
    /// Largest table, text or array file, unpacked; it is kept in memory.
    pub table_bytes_max: u64,
}

impl Default for Limits {
    /// Enough for a 60-megapixel camera, and not for a bomb.
    fn default() -> Self {
        Self { file_bytes_max: 64 << 20, side_max: 16_384, decoded_bytes_max: 256 << 20, table_bytes_max: 2 << 30 }
    }
}
