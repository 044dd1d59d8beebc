//! Fine-tunes the last layers of a frozen ONNX model on the device that runs it.
//!
//! The modules in the order in which data flows through them; `src/architecture.md` tells who may import whom.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

#[cfg(feature = "device")]
pub mod mapped;
#[cfg(feature = "device")]
pub mod priority;
#[cfg(feature = "device")]
pub mod factor;
#[cfg(feature = "device")]
pub mod ridge;
#[cfg(feature = "device")]
pub mod evidence;
#[cfg(feature = "device")]
pub mod nearest;
#[cfg(feature = "device")]
pub mod graph;
#[cfg(feature = "device")]
pub mod onnx;
#[cfg(feature = "device")]
pub mod cut;
#[cfg(feature = "device")]
pub mod adapter;
#[cfg(feature = "device")]
pub mod grad;
#[cfg(feature = "device")]
pub mod engine;
#[cfg(feature = "device")]
pub mod data;
#[cfg(feature = "device")]
pub mod cache;
#[cfg(feature = "device")]
pub mod train;
pub mod delta;
pub mod moments;
#[cfg(feature = "device")]
pub mod aggregate;
#[cfg(feature = "device")]
pub mod sync;
#[cfg(feature = "fleet")]
pub mod fleet;
#[cfg(feature = "fleet")]
pub mod simulate;
#[cfg(feature = "device")]
pub mod atomic;
#[cfg(feature = "device")]
pub mod plot;
#[cfg(feature = "device")]
pub mod agent;
#[cfg(feature = "device")]
pub mod cli;
