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
//!   What it needs of the whole process, [`configure_process`] sets: call it first in `main`, so that official builds of ONNX Runtime leave no
//!   device id below the user's home, and memory that was freed goes back to the system.
//! - [`delta`] alone needs neither `std` nor an allocator: a microcontroller can read, verify and apply a delta.
//! - [`learn`] and [`predict`] are the floor below: a training as stages, with everything around it passed in.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | (none) | the delta reader, for targets without a standard library |
//! | `std` | the delta writer and key files |
//! | `library` | training and predicting on arrays and tables of numbers |
//! | `image` | photographs: JPEG, PNG, BMP; with `more-images` (default) also GIF, TIFF and WebP |
//! | `text` | texts and language models, by `tokenizer.json` |
//! | `agent` | the service that collects samples and learns by itself, and the fleet's client |
//! | `cli`, `device` (default) | the command `edgetune` |
//! | `fleet` | the fleet's server `edgetune-fleet` |
//! | `cuda`, `tensorrt`, `xnnpack` | execution providers, passed through to ONNX Runtime |
//!
//! The folder `examples` has a program for each of these; `src/architecture.md` tells which module may import which.
//!
//! What this page shows on docs.rs is the interface that programs may rely on, and that `cargo-semver-checks` guards: an
//! incompatible change of it needs another version (0.1 → 0.2). Modules that are hidden there may change at any time.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

#[cfg(feature = "library")]
#[doc(hidden)]
pub mod mapped;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod priority;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod factor;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod ridge;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod evidence;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod suspect;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod nearest;
#[cfg(feature = "std")]
#[doc(hidden)]
pub mod order;
#[cfg(feature = "library")]
pub mod graph;
#[cfg(feature = "library")]
pub mod onnx;
#[cfg(feature = "library")]
pub mod cut;
#[cfg(feature = "library")]
#[cfg_attr(docsrs, doc(hidden))]
pub mod adapter;
#[cfg(feature = "library")]
pub mod grad;
#[cfg(feature = "library")]
pub mod engine;
#[cfg(feature = "library")]
pub mod data;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod cache;
#[cfg(feature = "library")]
pub mod task;
#[cfg(feature = "library")]
#[cfg_attr(docsrs, doc(hidden))]
pub mod train;
pub mod delta;
pub mod moments;
#[cfg(feature = "library")]
#[cfg_attr(docsrs, doc(hidden))]
pub mod aggregate;
#[cfg(feature = "agent")]
#[cfg_attr(docsrs, doc(hidden))]
pub mod sync;
#[cfg(feature = "fleet")]
#[cfg_attr(docsrs, doc(hidden))]
pub mod fleet;
#[cfg(feature = "fleet")]
#[cfg_attr(docsrs, doc(hidden))]
pub mod simulate;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod atomic;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod plot;
#[cfg(feature = "agent")]
#[doc(hidden)]
pub mod agent;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod amounts;
#[cfg(feature = "library")]
#[cfg_attr(docsrs, doc(hidden))]
pub mod host;
#[cfg(feature = "library")]
pub mod recipe;
#[cfg(feature = "library")]
pub mod learn;
#[cfg(feature = "library")]
pub mod predict;
#[cfg(feature = "library")]
#[doc(hidden)]
pub mod facade;
#[cfg(feature = "library")]
pub mod prelude;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

#[cfg(feature = "library")]
pub use engine::configure_process;
#[cfg(feature = "library")]
pub use facade::{Predictor, Run, Trainer};
#[cfg(feature = "library")]
pub use recipe::{Error, Recipe};
