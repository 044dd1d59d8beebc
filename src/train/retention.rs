//! A retention set as a file: what a base knows already, as features and labels of some samples, to be learned beside and measured by.
//!
//! ```text
//! 8 bytes   magic "EDRETN01"
//! 32 bytes  BLAKE3 of what follows
//! 4 bytes   n: bytes of the header, little-endian
//! n bytes   postcard of the header: base, preprocessing, names and types of the features, keys and labels of the samples
//! …         the samples one after the other, each with the bytes of its features in the header's order
//! ```
//!
//! It is bound to its base by hash and to its cut by the features' names and types, so what is learned from it is what the body of
//! a training would give. Takes and gives plain values; never runs a model.

use super::error::Error;
use crate::atomic::write_atomically;
use crate::data::{Dataset, Labels};
use bytes::Bytes;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// What such a file begins with.
pub const MAGIC: &[u8; 8] = b"EDRETN01";

/// What a retention set is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The base's hash.
    pub base_hash: [u8; 32],
    /// BLAKE3 of what was done to the samples before the body.
    pub preprocessing: [u8; 32],
    /// Name, type and bytes of each feature of one sample.
    pub features: Vec<(String, String, u32)>,
    keys: Vec<[u8; 32]>,
    labels: Kept,
}

/// Labels as they lie in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kept {
    Classes { names: Vec<String>, index: Vec<u32> },
    MultiLabel { names: Vec<String>, rows: Vec<f32> },
    Values { columns: u32, rows: Vec<f32> },
    NextTokens { columns: u32, rows: Vec<i32> },
}

impl Kept {
    /// Keeps the labels of some samples; `None` where labels are of a kind that is not kept.
    fn from_labels(labels: &Labels, samples: &[usize]) -> Option<Self> {
        let some = |rows: &Array2<f32>| samples.iter().flat_map(|sample| rows.row(*sample).to_vec()).collect();
        Some(match labels {
            Labels::Classes { names, index } => {
                Self::Classes { names: names.clone(), index: samples.iter().map(|sample| index[*sample]).collect() }
            }
            Labels::MultiLabel { names, rows } => Self::MultiLabel { names: names.clone(), rows: some(rows) },
            Labels::Values(rows) => Self::Values { columns: rows.ncols() as u32, rows: some(rows) },
            Labels::NextTokens(rows) => {
                let tokens = samples.iter().flat_map(|sample| rows.row(*sample).to_vec()).map(|token| token as i32);
                Self::NextTokens { columns: rows.ncols() as u32, rows: tokens.collect() }
            }
            _ => return None,
        })
    }

    /// `None` where the numbers do not fit together, or are not finite.
    fn labels(self, samples: usize) -> Option<Labels> {
        let rows = |rows: Vec<f32>, columns: usize| {
            let finite = rows.iter().all(|value| value.is_finite());
            finite.then(|| Array2::from_shape_vec((samples, columns), rows).ok()).flatten()
        };
        Some(match self {
            Self::Classes { names, index } => {
                let fits = index.len() == samples && index.iter().all(|class| (*class as usize) < names.len());
                fits.then_some(Labels::Classes { names, index })?
            }
            Self::MultiLabel { names, rows: all } => Labels::MultiLabel { rows: rows(all, names.len())?, names },
            Self::Values { columns, rows: all } => Labels::Values(rows(all, columns as usize)?),
            Self::NextTokens { columns, rows } => {
                let tokens = rows.into_iter().map(i64::from).collect();
                Labels::NextTokens(Array2::from_shape_vec((samples, columns as usize), tokens).ok()?)
            }
        })
    }
}

impl Header {
    /// Of some samples of a data set, each of which has `features`; `None` where labels are of a kind that is not kept.
    pub fn new(
        (base_hash, preprocessing): ([u8; 32], &[u8]),
        features: Vec<(String, String, u32)>,
        set: &Dataset,
        samples: &[usize],
    ) -> Option<Self> {
        let keys = samples.iter().map(|sample| set.key(*sample)).collect();
        let labels = Kept::from_labels(set.labels(), samples)?;
        Some(Self { base_hash, preprocessing: *blake3::hash(preprocessing).as_bytes(), features, keys, labels })
    }

    /// Whether samples were made ready for the body in that way.
    pub fn is_of(&self, preprocessing: &[u8]) -> bool {
        *blake3::hash(preprocessing).as_bytes() == self.preprocessing
    }

    /// Bytes of one sample.
    pub fn sample_bytes(&self) -> usize {
        self.features.iter().map(|(_, _, bytes)| *bytes as usize).sum()
    }
}

/// Writes a retention set; `records` are the samples one after the other. Gives the bytes of the file.
///
/// # Errors
/// The system's, with the file's name.
pub fn write(path: &Path, header: &Header, records: &[u8]) -> Result<u64, Error> {
    let head = postcard::to_extend(header, Vec::new()).expect("plain values always encode");
    let length = (head.len() as u32).to_le_bytes();
    let mut hasher = blake3::Hasher::new();
    [&length[..], &head, records].into_iter().for_each(|part| {
        hasher.update(part);
    });
    let hash = hasher.finalize();
    let parts = [&MAGIC[..], hash.as_bytes(), &length, &head, records];
    write_atomically(path, |writer| parts.into_iter().try_for_each(|part| writer.write_all(part)))
        .map_err(|source: std::io::Error| Error::io(path, source))?;
    Ok(parts.into_iter().map(|part| part.len() as u64).sum())
}

/// Whether a file begins like a retention set.
pub fn is_one(path: &Path) -> bool {
    let mut magic = [0; 8];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    read.is_ok() && magic == *MAGIC
}

/// Reads a retention set of the base with that hash.
///
/// # Errors
/// A damaged file, or one of another base.
pub fn read(path: &Path, base_hash: &[u8; 32]) -> Result<(Header, Dataset), Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.into(), source })?;
    let refuse = |problem: &str| Error::Retention { path: path.into(), problem: problem.into() };
    let damaged = || refuse("is damaged; copy it again, or make it anew with `edgetune retention make`");
    let (hash, body) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(32)).ok_or_else(damaged)?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(damaged());
    }
    let (length, rest) = body.split_at_checked(4).ok_or_else(damaged)?;
    let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    let (head, records) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let header: Header = postcard::from_bytes(head).map_err(|_| damaged())?;
    let fits = header.sample_bytes() > 0 && records.len() == header.keys.len().saturating_mul(header.sample_bytes());
    let labels = header.labels.clone().labels(header.keys.len()).filter(|_| fits).ok_or_else(damaged)?;
    if header.base_hash != *base_hash {
        return Err(refuse(
            "is of another model: it holds features that this one does not give; make one with `edgetune retention make`",
        ));
    }
    let mut records = Bytes::copy_from_slice(records);
    let one = |_: &[u8; 32]| header.features.iter().map(|(_, _, bytes)| records.split_to(*bytes as usize)).collect();
    let features = header.keys.iter().map(one).collect();
    let set = Dataset::of_features(path, header.keys.clone(), labels, features);
    Ok((header, set))
}
