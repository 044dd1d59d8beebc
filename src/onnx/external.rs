//! Memory maps: of the model file and of the external-data files beside it, one map per file.

use super::proto::{DATA_LOCATION_EXTERNAL, GraphProto, TensorProto, decode};
use super::{Error, names};
use crate::mapped;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A file's contents as a read-only memory map: pages are loaded when first used and shared between processes.
///
/// # Errors
/// [`Error::Open`] or [`Error::NotAFile`], with the path.
pub fn map_file(path: &Path) -> Result<Bytes, Error> {
    map(path).map_err(|fault| fault.at(path))
}

/// [`map_file`] for callers that add the path themselves.
pub fn map(path: &Path) -> Result<Bytes, Error> {
    let opening = |source| Error::Open { source };
    // Asked before opening: opening a named pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(opening)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile);
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    let file = File::open(path).map_err(opening)?;
    mapped::map(&Arc::new(file), metadata.len()).map_err(opening)
}

/// The files that a model's weights lie in besides its own, as the model names them: relative to its folder. Nothing of them
/// is read.
///
/// # Errors
/// A file that is no model.
pub fn external_files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let model = map(path).and_then(decode).map_err(|fault| fault.at(path))?;
    let graph = model.graph.filter(|_| model.ir_version.is_some());
    let graph = graph.ok_or_else(|| Error::Missing { field: "graph" }.at(path))?;
    let mut found = BTreeSet::new();
    collect(&graph, &mut found);
    Ok(found.into_iter().collect())
}

fn collect(graph: &GraphProto, found: &mut BTreeSet<PathBuf>) {
    for tensor in graph.initializer.iter().filter(|tensor| tensor.data_location == Some(DATA_LOCATION_EXTERNAL)) {
        let location = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some("location"));
        found.extend(location.and_then(|entry| entry.value.as_deref()).map(PathBuf::from));
    }
    graph.node.iter().flat_map(names::subgraphs).for_each(|inner| collect(inner, found));
}

/// The external-data files of one model.
pub struct ExternalFiles<'p> {
    folder: Option<&'p Path>,
    maps: HashMap<PathBuf, Bytes>,
}

/// Where a tensor's bytes lie according to its `external_data` entries.
#[derive(Debug)]
pub struct Place {
    /// Path relative to the model's folder.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes, where given.
    pub length: Option<u64>,
}

impl Place {
    /// Reads the entries of a tensor whose data is external.
    pub fn read(proto: &TensorProto, tensor: &str) -> Result<Self, Error> {
        let mut place = Place { location: String::new(), offset: 0, length: None };
        for entry in &proto.external_data {
            let value = entry.value.as_deref().unwrap_or_default();
            let number = || {
                value.parse::<u64>().map_err(|_| Error::Tensor {
                    tensor: tensor.into(),
                    problem: format!("external data {} `{value}` is not a number", entry.key.as_deref().unwrap_or("")),
                    remedy: "export the model again",
                })
            };
            match entry.key.as_deref() {
                Some("location") => place.location = value.into(),
                Some("offset") => place.offset = number()?,
                Some("length") => place.length = Some(number()?),
                _ => {}
            }
        }
        Ok(place)
    }
}

impl<'p> ExternalFiles<'p> {
    /// For a model in `folder`; `None` for a model that is not a file and so can have no files beside it.
    pub fn new(folder: Option<&'p Path>) -> Self {
        Self { folder, maps: HashMap::new() }
    }

    /// `expected` bytes (or as many as the entry says) of the tensor's data, as a range of the file's map.
    pub fn bytes(&mut self, proto: &TensorProto, tensor: &str, expected: u64) -> Result<Bytes, Error> {
        let place = Place::read(proto, tensor)?;
        let wrong = |problem: String, remedy| Error::External {
            tensor: tensor.into(),
            location: place.location.clone(),
            problem,
            remedy,
        };
        let map = self.map(&place.location, &wrong)?;
        let length = place.length.unwrap_or(expected);
        let end = place.offset.checked_add(length).filter(|end| *end <= map.len() as u64);
        match end {
            Some(end) => Ok(map.slice(place.offset as usize..end as usize)),
            None => Err(wrong(
                format!("{length} bytes from byte {} are not in the file of {} bytes", place.offset, map.len()),
                "the data file is cut off or belongs to another model: copy it again",
            )),
        }
    }

    fn map(&mut self, location: &str, wrong: &impl Fn(String, &'static str) -> Error) -> Result<Bytes, Error> {
        const BESIDE: &str = "put the data file into the model's folder and name it relative to that";
        let Some(folder) = self.folder else {
            return Err(wrong("the model was given as bytes, without a folder".into(), "read it from its file"));
        };
        let relative = Path::new(location);
        let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !relative.components().all(plain) {
            return Err(wrong("is not a path inside the model's folder".into(), BESIDE));
        }
        let missing = |error: std::io::Error| wrong(error.to_string(), "copy the data file along with the model");
        let folder = folder.canonicalize().map_err(missing)?;
        let path = folder.join(relative).canonicalize().map_err(missing)?;
        if !path.starts_with(&folder) {
            return Err(wrong("is a link out of the model's folder".into(), BESIDE));
        }
        if let Some(map) = self.maps.get(&path) {
            return Ok(map.clone());
        }
        let map =
            map_file(&path).map_err(|error| wrong(error.to_string(), "copy the data file along with the model"))?;
        self.maps.insert(path, map.clone());
        Ok(map)
    }
}
