//! The weights file of a bundle: the initializers of its graphs, once each.
//!
//! ```text
//! byte 0        first tensor, raw little-endian data as in `raw_data`
//! n · 64        next tensor; the bytes between are zero
//! …             in the order given, no header and no index: the graph-only model files have offset and length
//! ```
//!
//! Byte 0 is page-aligned in a memory map, so every tensor is 64-byte aligned in memory, enough for any vector unit.

use super::external::Place;
use super::proto::{DATA_LOCATION_EXTERNAL, GraphProto, decode};
use super::{Error, external, names};
use crate::atomic::write_atomically;
use crate::graph::{Graph, Tensor};
use crate::mapped;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// A tensor of fewer bytes than this stays in the model file: ONNX Runtime wants axes, shapes and scalars at hand.
pub const EMBEDDED_BYTES_MAX: usize = 1024;
const ALIGNMENT_BYTES: u64 = 64;

/// Where [`encode`](super::encode) puts the weights.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'w> {
    /// Into the model file.
    Embedded,
    /// Those that the weights file has are referred to; the others are embedded.
    External(&'w WeightsFile),
}

/// What lies where in a weights file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// The file's name, without a folder: model files that refer to it lie beside it.
    pub file: String,
    /// The bytes of each tensor, by name.
    pub tensors: BTreeMap<String, Range<u64>>,
}

impl WeightsFile {
    /// How long the file is at least.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|range| range.end).max().unwrap_or(0)
    }

    /// The same again from the graph-only model files of a bundle, each of which names the tensors that it uses.
    /// `None` if no tensor of them is external.
    ///
    /// # Errors
    /// A file that cannot be read or decoded; two files that name different weights files.
    pub fn reopen<'p>(models: impl IntoIterator<Item = &'p Path>) -> Result<Option<Self>, Error> {
        let mut found: Option<Self> = None;
        for path in models {
            let model = external::map(path).and_then(decode).map_err(|fault| fault.at(path))?;
            collect(&model.graph.unwrap_or_default(), &mut found).map_err(|fault| fault.at(path))?;
        }
        Ok(found)
    }
}

fn collect(graph: &GraphProto, found: &mut Option<WeightsFile>) -> Result<(), Error> {
    for proto in graph.initializer.iter().filter(|proto| proto.data_location == Some(DATA_LOCATION_EXTERNAL)) {
        let name = proto.name.clone().unwrap_or_default();
        let place = Place::read(proto, &name)?;
        let weights =
            found.get_or_insert_with(|| WeightsFile { file: place.location.clone(), tensors: BTreeMap::new() });
        if weights.file != place.location {
            return Err(Error::WeightsFiles { first: weights.file.clone(), second: place.location });
        }
        let end = place.length.and_then(|length| place.offset.checked_add(length));
        let end = end.ok_or_else(|| Error::Tensor {
            tensor: name.clone(),
            problem: "has no length in its external data".into(),
            remedy: "prepare the bundle again",
        })?;
        weights.tensors.insert(name, place.offset..end);
    }
    for inner in graph.node.iter().flat_map(names::subgraphs) {
        collect(inner, found)?;
    }
    Ok(())
}

/// The initializers of a graph by name, as [`write_weights`] takes them.
pub fn initializers(graph: &Graph) -> impl Iterator<Item = (&str, &Tensor)> {
    graph.initializers.iter().map(|(id, tensor)| (graph.value_name(*id), tensor))
}

/// Writes the tensors of at least [`EMBEDDED_BYTES_MAX`] bytes to one file, atomically and without holding them in
/// memory. Tensors that share their bytes, also under different names, are written once.
///
/// # Errors
/// [`Error::WeightsDiffer`] if a name comes twice with different contents; [`Error::Write`].
pub fn write_weights<'t>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'t str, &'t Tensor)>,
) -> Result<WeightsFile, Error> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let written = write_atomically(path, |writer| {
        let mut places = BTreeMap::new();
        let mut known: HashMap<&str, &Tensor> = HashMap::new();
        let mut shared: HashMap<(*const u8, usize), Range<u64>> = HashMap::new();
        let mut end = 0u64;
        for (name, tensor) in tensors.into_iter().filter(|(_, tensor)| tensor.data.len() >= EMBEDDED_BYTES_MAX) {
            if let Some(first) = known.insert(name, tensor) {
                if !same(first, tensor) {
                    return Err(Error::WeightsDiffer { tensor: name.into() });
                }
                continue;
            }
            let key = (tensor.data.as_ptr(), tensor.data.len());
            if let Some(range) = shared.get(&key) {
                places.insert(name.to_string(), range.clone());
                continue;
            }
            let start = end.next_multiple_of(ALIGNMENT_BYTES);
            writer.write_all(&[0; ALIGNMENT_BYTES as usize][..(start - end) as usize])?;
            writer.write_all(&tensor.data)?;
            mapped::forget_pages(&tensor.data);
            end = start + tensor.data.len() as u64;
            shared.insert(key, start..end);
            places.insert(name.to_string(), start..end);
        }
        Ok(places)
    });
    match written {
        Ok(tensors) => Ok(WeightsFile { file, tensors }),
        Err(fault) => Err(fault.at(path)),
    }
}

fn same(first: &Tensor, second: &Tensor) -> bool {
    let shared = first.data.as_ptr() == second.data.as_ptr() && first.data.len() == second.data.len();
    first.dtype == second.dtype && first.shape == second.shape && (shared || first.data == second.data)
}
