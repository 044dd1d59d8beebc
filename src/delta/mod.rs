//! Stage 8: an adapter as bytes, and back.
//!
//! Takes bytes that may come from anywhere and gives names, shapes and finite values, or a reason why not; takes learned
//! tensors and gives bytes (feature `std`). The format is drawn byte by byte in `format.md` beside this file.
//!
//! The reader needs neither the standard library nor an allocator: it borrows everything from the bytes, so what it
//! holds is a few hundred bytes whatever the delta says. Nothing here ever touches a file, a clock or a network.

#[cfg(feature = "std")]
mod chain;
#[cfg(feature = "std")]
mod counts;
#[cfg(feature = "std")]
mod encode;
mod error;
mod header;
#[cfg(feature = "std")]
mod kept;
#[cfg(feature = "std")]
mod keys;
#[cfg(feature = "std")]
mod merge;
pub(crate) mod range;
mod read;
mod signature;
mod values;
#[cfg(feature = "std")]
mod write;

#[cfg(feature = "std")]
pub use chain::{EncodingChoice, change, convert, join, owned};
#[cfg(feature = "std")]
pub use counts::{Counting, counted};
#[cfg(feature = "std")]
pub use encode::{Payload, encode, encode_difference};
pub use error::{Error, Field};
pub use half::f16;
pub use header::{
    AppendedHead, Channels, Edge, Encoding, Entry, Filter, GateVerdict, Header, ImagePreprocessing, Label, Layout,
    LogMel, Logarithm, Measured, MelScale, Method, MethodKind, Metrics, Packing, Preprocessing, SeriesPreprocessing,
    SoundPreprocessing, Task, TimeUnit, UnitAxis, is_recipe,
};
pub(crate) use header::{check_preprocessing, is_name};
#[cfg(feature = "std")]
pub use kept::KeptPreprocessing;
#[cfg(feature = "std")]
pub use keys::{KeyPair, public_key};
#[cfg(feature = "std")]
pub use merge::merge;
pub(crate) use read::take;
pub use read::{Delta, Entries, Head, Labels, Located, TensorView, apply, head_length};
pub(crate) use signature::check as check_signature;
#[cfg(feature = "std")]
pub(crate) use signature::signature_of;
#[cfg(feature = "std")]
pub use signature::{check_statement, sign, sign_statement};
pub use values::Values;
#[cfg(feature = "std")]
pub use write::{TensorValues, write};

/// First bytes of every delta.
pub const MAGIC: [u8; 4] = *b"EDLT";
/// The newest format version that is written and read. A delta without the text of its recipe is of version 1.
pub const VERSION: u16 = 2;
/// Bytes of a delta, at most.
pub const DELTA_BYTES_MAX: usize = 1 << 28;
/// Bytes of the header, at most.
pub const HEADER_BYTES_MAX: usize = 1 << 20;
/// Labels, at most.
pub const LABELS_MAX: usize = 4096;
/// Tensors, at most.
pub const TENSORS_MAX: usize = 4096;
/// Dimensions of a tensor, at most.
pub const RANK_MAX: usize = 8;
/// Bytes of a tensor's or value's name, at most.
pub const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a label, at most.
pub const LABEL_BYTES_MAX: usize = 256;
/// Bytes of a recipe's text, at most.
pub const RECIPE_BYTES_MAX: usize = 4096;
/// Bytes of the tool's version and of the name of the loss, at most.
pub const WORD_BYTES_MAX: usize = 64;

/// Values of all tensors together, at most.
pub const VALUES_MAX: usize = 1 << 27;
/// Bytes before the header: magic, version, flags, header length.
pub const PREAMBLE_BYTES: usize = 12;

/// Bytes of the BLAKE3 hash behind the header.
const IDENTITY_BYTES: usize = 32;
/// Bytes of an Ed25519 public key.
const KEY_BYTES: usize = 32;
/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;
/// Flag: key and signature stand between identity and payload.
const SIGNED: u16 = 1;
/// Values that a byte of a dense encoding stands for, at most: a small file cannot make a reader work for long.
const VALUES_A_BYTE_MAX: usize = 64;
