//! Stage 1: an ONNX model file ⇄ [`Graph`](crate::graph::Graph).
//!
//! Takes a model file with its external-data files, memory-mapped, and gives a graph whose weights are ranges of those
//! maps; takes a graph and gives a model's bytes and, apart from them, one file of weights. Everything that a file can
//! say in two ways is said in one way afterwards: constants are initializers, local functions are inlined, nodes are
//! sorted and named, operators have the form of set 13 or later, linear models of scikit-learn are linear layers, the domain `ai.onnx` is the empty one. It never runs a model, never imports `ort`, never copies
//! weights that lie in a file as they are, and never writes to a file that it has read.
//!
//! The wire format is `prost` messages written by hand (`proto.rs`) and not the `onnx-rs` crate, because prost bounds
//! the nesting of a hostile file, slices the memory map without copying, and lets external data be reached.

mod declared;
mod error;
mod external;
mod forms;
mod function;
mod hash;
mod ml;
mod names;
mod node;
mod proto;
mod read;
mod scope;
mod tensor;
mod weights;
mod write;

pub use error::Error;
pub use external::{external_files, map_file};
pub use hash::hash;
pub use read::{IR_VERSION_MIN, Model, OPSETS, read, read_bytes};
pub use weights::{EMBEDDED_BYTES_MAX, Weights, WeightsFile, initializers, write_weights};
pub use write::{encode, encode_described};
