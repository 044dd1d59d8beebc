//! Moments: what a linear head needs to know of any number of samples, as sums of integers.
//!
//! Takes features and targets, gives sums that are added, taken away and put together exactly: equal samples give equal bits, in
//! whatever order and however they were divided. A head is solved for from the sums alone. The core (adding, taking away, putting
//! together, reading a file, solving by Cholesky) needs neither the standard library nor an allocator. Never touches a file, a clock, a
//! network or chance. The file is drawn byte by byte in `format.md`.

#[cfg(feature = "std")]
mod accumulate;
#[cfg(feature = "library")]
mod basis;
mod code;
mod error;
#[cfg(feature = "library")]
mod head;
mod header;
#[cfg(feature = "device")]
mod known;
#[cfg(feature = "std")]
mod owned;
mod project;
mod read;
mod small;
mod sums;
#[cfg(all(test, feature = "std"))]
mod tests;

#[cfg(feature = "library")]
pub use basis::{BASIS_MAGIC, Basis, Source, basis_signer, sign_basis};
pub use error::{Error, Field};
#[cfg(feature = "library")]
pub use head::{Head, LeftOut, head};
pub use header::{Directions, FEATURES_MAX, Header};
#[cfg(feature = "device")]
pub use known::{Calibration, Known};
#[cfg(feature = "std")]
pub use owned::{About, Moments, sign};
pub use project::{BITS, Projection, quantise, value_max};
pub use read::{BYTES_MAX, Labels, MAGIC, VERSION, View};
pub use small::{possible, solve, work};
pub use sums::{CELLS_MAX, COORDINATES_MAX, SAMPLES_MAX, Sample, Shape, Sums, TARGETS_MAX, Target, VALUE_MAX};
