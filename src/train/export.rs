//! An adapter in its base, as a model file that any ONNX runtime loads.
//!
//! Takes a base and an adapter of it; gives a graph, and a file under a name. Files are replaced by renaming only: running
//! processes have them mapped.

use super::artifact::Adapter;
use super::error::Error;
use super::prepare::{Base, hex};
use crate::adapter;
use crate::atomic::write_atomically;
use crate::graph::Graph;
use crate::onnx::{self, Weights};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

/// The base with the adapter folded into its weights: the same nodes, so as fast as the base.
///
/// # Errors
/// Another base, or one that the tensors do not fit.
pub fn merged(base: &Base, learned: &Adapter) -> Result<Graph, Error> {
    if base.hash != learned.base {
        return Err(Error::OtherBase {
            delta: learned.path.clone(),
            wanted: hex(&learned.base[..8]),
            base: base.path.clone(),
            found: base.short_hash(),
        });
    }
    let values: HashMap<&str, &[f32]> =
        learned.tensors.iter().map(|(name, _, values)| (name.as_str(), values.as_slice())).collect();
    Ok(adapter::merge(base.graph.clone(), &learned.change(), &values)?)
}

/// Writes a graph with its weights in it, or in a file beside it that is called as the model with `.data` behind.
///
/// # Errors
/// Files that cannot be written.
pub fn model(path: &Path, graph: &Graph, external: bool) -> Result<(), Error> {
    let write = |weights: &Weights| {
        let bytes = onnx::encode(graph, weights);
        write_atomically(path, |writer| writer.write_all(&bytes)).map_err(|source| Error::io(path, source))
    };
    if !external {
        return write(&Weights::Embedded);
    }
    let mut beside = OsString::from(path);
    beside.push(".data");
    let weights = onnx::write_weights(Path::new(&beside), onnx::initializers(graph))?;
    write(&Weights::External(&weights))
}
