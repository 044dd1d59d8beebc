//! Stage 5: a graph becomes an ONNX Runtime session that runs.
//!
//! Takes an ONNX file, its bytes or a [`Graph`](crate::graph::Graph) and gives sessions ([`Session`]), sessions with
//! buffers that stay ([`Bound`]), and the types of a graph's values ([`infer_types`]), which it keeps on disk. Finds, checks, installs and loads
//! the ONNX Runtime library ([`find`], [`install`], [`load`]). It is the only module that imports `ort`; it never looks
//! into the maths of a graph, never falls back to another provider than the one asked for, and never prints.

mod bound;
mod constants;
mod elf;
mod error;
mod install;
mod kept_types;
mod placement;
mod provider;
mod residence;
mod runtime;
mod session;
mod types;
mod value;
mod words;

pub use bound::Bound;
pub use constants::{fold_constants, measure_sizes};
pub use elf::Version;
pub use error::Error;
pub use install::{DEFAULT_VERSION, Installed, Step, install, install_wheel, load_or_install, versions};
pub use placement::{Placed, placement};
pub use provider::Provider;
pub use runtime::{
    FoundLibrary, Library, LibraryChoice, Origin, Search, configure_own_process, configure_process, find, load, loaded,
};
pub use session::{Optimisation, Options, Session};
pub use types::{infer_types, infer_types_in};

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
