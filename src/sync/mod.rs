//! Stage 9: what device and server say to each other.
//!
//! `wire` is the part of both sides: types, and who signs what; it takes and gives plain values, and knows neither a clock nor a
//! connection. `client` is the device's side: it asks, waits, asks again, and keeps in a folder what must outlive it.

pub mod client;
mod machine;
pub mod wire;

pub use machine::is_this_machine;
