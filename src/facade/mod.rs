//! What an application uses: a [`Trainer`] and a [`Predictor`], which find ONNX Runtime, the cache and the time by themselves.
//!
//! All that they do is in [`crate::learn`] and [`crate::predict`], which take what surrounds them as arguments.

mod predictor;
mod trainer;

pub use predictor::Predictor;
pub use trainer::{Run, Trainer};

use crate::engine::LibraryChoice;
use crate::host::Folders;
use std::path::PathBuf;

/// Where the library is looked for, and where its inferred types are kept.
fn runtime(named: Option<PathBuf>, folders: &Folders) -> LibraryChoice {
    let types_folder = Some(folders.cache().join("types"));
    LibraryChoice { types_folder, ..LibraryChoice::new(named, |name| std::env::var_os(name)) }
}
