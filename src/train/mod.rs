//! Stage 7: from a base, data and settings to an adapter.
//!
//! Takes a [`prepare::Base`], a data set and [`fit::Settings`]; gives the learned parameters with their measurements.
//! The optimiser is Rust, the gradient is ONNX (the step graph). It never reads the clock, the environment or the command
//! line: time arrives as a function, the stop signal as a flag, folders as arguments.

mod anchor;
pub mod artifact;
pub mod baseline;
mod body;
pub mod check;
pub mod checkpoint;
mod error;
pub mod evaluate;
pub mod export;
pub mod features;
pub mod fit;
mod fitting_labels;
pub mod generate;
pub mod low_rank;
mod names;
pub mod onnx_adapter;
pub mod optimizer;
mod order;
pub mod own_loss;
pub mod peft;
pub mod plan;
pub mod prepare;
pub mod retention;
pub mod schedule;
pub mod solve;
pub mod speed;
mod settings;
pub mod single;
pub mod slices;
mod series_wire;
mod sound_wire;
pub mod step;
pub mod step_session;
pub mod trial;
pub mod undefined;

pub use crate::task::loss;
pub use error::Error;
