//! The writer. What it gives has been through the reader: nothing can be written that could not be read.

use super::encode::Payload;
use super::header::{Counts, Entry, Header, Label, ensure};
use super::read::identity_of;
use super::{DELTA_BYTES_MAX, Delta, Error, HEADER_BYTES_MAX, LABELS_MAX, MAGIC, TENSORS_MAX, VERSION};
use crate::order::Order;
use heapless::Vec as Bounded;
use serde::Serialize;
use std::collections::HashSet;
use std::vec::Vec;

/// A learned tensor to be written.
#[derive(Debug, Clone, Copy)]
pub struct TensorValues<'a> {
    /// Its name: the initializer's, where it replaces one of the base.
    pub name: &'a str,
    /// Sizes, outermost first.
    pub shape: &'a [u32],
    /// The values, row-major, from [`super::encode`] or [`super::encode_difference`].
    pub payload: &'a Payload,
}

/// Writes one delta, unsigned. Equal arguments give equal bytes; the order of `tensors` does not matter.
///
/// `labels` are in the order of the classes. The caller does the file: write it atomically.
///
/// # Errors
/// Whatever the format refuses: a name that is there twice, a shape that does not fit its values…
/// Positions in the error are those in `labels`, and those in `tensors` after sorting by name.
pub fn write(header: &Header, labels: &[Label], tensors: &[TensorValues]) -> Result<Vec<u8>, Error> {
    ensure(labels.len() <= LABELS_MAX, Error::LabelCount(count(labels.len())))?;
    ensure((1..=TENSORS_MAX).contains(&tensors.len()), Error::TensorCount(count(tensors.len())))?;
    let mut sorted = tensors.to_vec();
    sorted.order_by_key(|tensor| tensor.name);
    let payload_length: u64 = sorted.iter().map(|tensor| tensor.payload.bytes.len() as u64).sum();
    ensure(payload_length < DELTA_BYTES_MAX as u64, Error::TooLong)?;

    let mut bytes = Vec::with_capacity(payload_length as usize + 1024);
    bytes.extend(MAGIC);
    let version = if header.recipe_text.is_empty() { 1 } else { VERSION };
    bytes.extend(version.to_le_bytes());
    bytes.extend([0; 2]);
    let content = header_bytes(header, labels, &sorted)?;
    ensure(content.len() <= HEADER_BYTES_MAX, Error::HeaderLength(count(content.len())))?;
    bytes.extend(count(content.len()).to_le_bytes());
    bytes.extend(content);
    bytes.extend(identity_of(&bytes));
    sorted.iter().for_each(|tensor| bytes.extend(&tensor.payload.bytes));
    Delta::parse(&bytes)?;
    Ok(bytes)
}

/// The header's bytes: header, labels, entries.
fn header_bytes(header: &Header, labels: &[Label], sorted: &[TensorValues]) -> Result<Vec<u8>, Error> {
    let counts = Counts { labels: count(labels.len()), tensors: count(sorted.len()) };
    let mut bytes = append(Vec::new(), header, Error::Header)?;
    if !header.recipe_text.is_empty() {
        bytes = append(bytes, &header.recipe_text, Error::Header)?;
    }
    let mut bytes = append(bytes, &counts, Error::Header)?;
    let mut seen = HashSet::new();
    for (index, label) in labels.iter().enumerate() {
        ensure(seen.insert(label.name), Error::LabelTwice(count(index)))?;
        bytes = append(bytes, label, Error::Label(count(index)))?;
    }
    for (index, TensorValues { name, shape, payload }) in sorted.iter().enumerate() {
        let Payload { encoding, packing, difference, bytes: values } = payload;
        let entry = Entry {
            name,
            shape: Bounded::from_slice(shape).map_err(|_| Error::Shape(count(index)))?,
            encoding: *encoding,
            packing: *packing,
            difference: *difference,
            length: count(values.len()),
            hash: blake3::hash(values).into(),
        };
        bytes = append(bytes, &entry, Error::Entry(count(index)))?;
    }
    Ok(bytes)
}

fn append(bytes: Vec<u8>, value: &impl Serialize, otherwise: Error) -> Result<Vec<u8>, Error> {
    postcard::to_extend(value, bytes).map_err(|_| otherwise)
}

/// A number that a limit has already bounded.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
