//! The machine that a training or prediction runs on: its memory, and the folders that things are kept in.
//!
//! Reads what the system tells of itself (`/proc`, control groups) and the environment's word on folders; gives plain values.
//! Never loads a model, never decides.

mod folders;
mod memory;

pub use folders::{Error as FolderError, Folders};
pub use memory::{MemoryWatch, available_bytes, installed_bytes, private_bytes, written_bytes};
