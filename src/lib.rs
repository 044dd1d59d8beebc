//! Fine-tunes the last layers of a frozen ONNX model on the device that runs it, with a stock ONNX Runtime.
//!
//! A [`Trainer`] learns from labelled data and gives a delta: a few kilobytes that hold what was learned and name the model
//! that they belong to. A [`Predictor`] answers with a model and its delta. The model's file stays as it is.
//!
//! ```no_run
//! use edgetune::prelude::*;
//!
//! fn main() -> Result<(), edgetune::Error> {
//!     let run = Trainer::new("model.onnx")
//!         .data("photos/")
//!         .learn("last:2".parse()?)
//!         .epochs(10)
//!         .observe(|event| println!("{event}"))
//!         .run()?;
//!     run.save("A.edelta")?;
//!     let mut predictor = Predictor::open("model.onnx", "A.edelta")?;
//!     for (class, share) in predictor.predict("cat.jpg")?.top(3) {
//!         println!("{class} {share:.2}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! - Every setting of a training is a field of [`Recipe`], with the default that the command line has. A setting that is wrong
//!   is refused by its name and with the remedy ([`Error`]).
//! - ONNX Runtime is loaded when it is first needed, from where the device has it. `edgetune runtime install` puts a copy in place.
//! - [`delta`] alone needs neither `std` nor an allocator: a microcontroller can read, verify and apply a delta.
//! - [`learn`] and [`predict`] are the floor below: a training as stages, with everything around it passed in.
//!
//! The folder `examples` has a program for each of these; `src/architecture.md` tells which module may import which.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

#[cfg(feature = "device")]
#[doc(hidden)]
pub mod mapped;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod priority;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod factor;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod evidence;
#[cfg(feature = "device")]
#[doc(hidden)]
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
#[doc(hidden)]
pub mod cache;
#[cfg(feature = "device")]
pub mod train;
pub mod delta;
#[cfg(feature = "device")]
pub mod aggregate;
#[cfg(feature = "device")]
pub mod sync;
#[cfg(feature = "fleet")]
pub mod fleet;
#[cfg(feature = "fleet")]
pub mod simulate;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod atomic;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod plot;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod agent;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod amounts;
#[cfg(feature = "device")]
pub mod host;
#[cfg(feature = "device")]
pub mod recipe;
#[cfg(feature = "device")]
pub mod learn;
#[cfg(feature = "device")]
pub mod predict;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod facade;
#[cfg(feature = "device")]
pub mod prelude;
#[cfg(feature = "device")]
#[doc(hidden)]
pub mod cli;

#[cfg(feature = "device")]
pub use facade::{Predictor, Run, Trainer};
#[cfg(feature = "device")]
pub use recipe::{Error, Recipe};
