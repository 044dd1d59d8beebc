//! One file per command: its arguments and what it does, by calling the library.

pub mod agent;
#[cfg(feature = "fleet")]
pub mod backup;
pub mod cache;
#[cfg(feature = "fleet")]
pub mod channel;
pub mod check;
pub mod delta;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod fleet;
pub mod import;
pub mod inspect;
pub mod ops;
pub mod predict;
pub mod prepare;
pub mod runtime;
#[cfg(feature = "fleet")]
pub mod serve;
pub mod shell;
#[cfg(feature = "fleet")]
pub mod simulate;
pub mod train;
