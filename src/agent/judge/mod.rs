//! What an agent decides, as pure functions: when it trains, whether an adapter is better, whether it keeps what it promised, whether the
//! device sees something new, when a failure is tried again, and which samples a person is asked about.
//!
//! Takes what was recorded and what the device is like as values; it reads no file and no clock.

pub mod drift;
pub mod failing;
pub mod feedback;
pub mod gate;
pub mod policy;
pub mod questions;
pub mod waiting;
