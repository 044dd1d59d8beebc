//! Inferred types on disk: a graph that has been typed once is typed by reading a file.
//!
//! Types are a function of the graph and of the library that infers them. Both are in the name of the file, and in its checksum:
//! a file that is damaged, cut off, renamed or of another library is as good as none, and is written anew. Nothing here
//! fails a run: where the folder cannot be written, types are inferred each time.

use super::runtime;
use crate::atomic::write_atomically;
use crate::graph::{DType, Dim, TensorType};
use crate::order::Order;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// To be raised with every change of what [`super::infer_types`] finds out: files of an earlier number are not read.
const RULES: u32 = 2;

/// What the folder may take. A language model's graphs of one recipe take some 0.3 MB.
const BYTES_MAX: u64 = 16 << 20;

/// Bytes of the checksum that a file begins with.
const CHECKSUM: usize = 32;

/// Types by the names of the values.
pub(super) type Types = HashMap<String, TensorType>;

/// A value's type as a file has it: name, ONNX number of the element type, dimensions.
#[derive(Serialize, Deserialize)]
struct Entry<'a>(Cow<'a, str>, i32, Option<Vec<Size<'a>>>);

#[derive(Serialize, Deserialize)]
enum Size<'a> {
    Fixed(u64),
    Named(Cow<'a, str>),
    Unknown,
}

/// What the types of one graph are kept under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of an encoded graph under the loaded library.
    pub(super) fn for_model(model: &[u8]) -> super::Result<Self> {
        let library = runtime::loaded()?;
        let mut hasher = blake3::Hasher::new();
        for part in [env!("CARGO_PKG_VERSION"), &library.version, &library.build_info] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.update(&RULES.to_le_bytes()).update(model);
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.types", blake3::Hash::from(self.0).to_hex()))
    }

    fn checksum(&self, body: &[u8]) -> [u8; CHECKSUM] {
        *blake3::Hasher::new_keyed(&self.0).update(body).finalize().as_bytes()
    }
}

/// The types under a key; `None` where there are none, or none that can be trusted.
pub(super) fn read(folder: &Path, key: &Key) -> Option<Types> {
    let bytes = fs::read(key.path(folder)).ok()?;
    let (checksum, body) = bytes.split_at_checked(CHECKSUM)?;
    if checksum != key.checksum(body) {
        tracing::debug!(file = %key.path(folder).display(), "kept types are damaged or foreign: they are inferred anew");
        return None;
    }
    let entries: Vec<Entry<'_>> = postcard::from_bytes(body).ok()?;
    entries.into_iter().map(|Entry(name, dtype, sizes)| Some((name.into_owned(), typed(dtype, sizes)?))).collect()
}

fn typed(dtype: i32, sizes: Option<Vec<Size<'_>>>) -> Option<TensorType> {
    let dim = |size| match size {
        Size::Fixed(size) => Dim::Fixed(size),
        Size::Named(name) => Dim::Named(name.into_owned()),
        Size::Unknown => Dim::Unknown,
    };
    Some(TensorType { dtype: DType::from_onnx(dtype)?, shape: sizes.map(|sizes| sizes.into_iter().map(dim).collect()) })
}

/// Keeps types under a key. The oldest files go where the folder holds more than it may.
pub(super) fn write(folder: &Path, key: &Key, types: &Types) -> io::Result<()> {
    let size = |dim: &'_ Dim| match dim {
        Dim::Fixed(size) => Size::Fixed(*size),
        Dim::Named(name) => Size::Named(Cow::Owned(name.clone())),
        Dim::Unknown => Size::Unknown,
    };
    let sizes = |ty: &TensorType| ty.shape.as_ref().map(|shape| shape.iter().map(size).collect());
    let mut entries: Vec<Entry<'_>> =
        types.iter().map(|(name, ty)| Entry(name.into(), ty.dtype.onnx(), sizes(ty))).collect();
    entries.order_by(|a, b| a.0.cmp(&b.0));
    let body = postcard::to_stdvec(&entries).map_err(io::Error::other)?;
    fs::create_dir_all(folder)?;
    make_room(folder, body.len() as u64)?;
    write_atomically(&key.path(folder), |file| {
        file.write_all(&key.checksum(&body))?;
        file.write_all(&body)
    })
}

/// Removes the oldest files until so many bytes more are within the limit.
fn make_room(folder: &Path, bytes: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Another process may have removed it in the meantime.
        let Ok(metadata) = entry.metadata() else { continue };
        files.push((metadata.modified()?, metadata.len(), entry.path()));
    }
    files.order_by(Ord::cmp);
    let mut held: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if held + bytes <= BYTES_MAX {
            break;
        }
        // A file that cannot be removed is in nobody's way but the limit's.
        let _ = fs::remove_file(path);
        held -= length;
    }
    Ok(())
}
