//! Names of the files in a cache.

/// A body's features (see `disk.rs`).
pub(super) const RECORDS: &str = "records";
/// Which sample each of them is of, and its checksum.
pub(super) const KEYS: &str = "keys";
/// In every folder, when it was used, counted.
pub(super) const USED: &str = "used";
