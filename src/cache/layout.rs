//! Where the features of a sample lie in its record: one behind the other, each aligned to 64 bytes.

use super::{Error, Key, key};
use crate::graph::{DType, Dim, TensorType};
use bytes::Bytes;
use std::ops::Range;

/// Alignment of records and features: a cache line, and enough for every vector unit.
pub(super) const ALIGN_BYTES: usize = 64;

/// Bytes of a record, at most: what one mapping must hold on a 32-bit device.
const RECORD_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug)]
pub(super) struct Layout {
    features: Vec<Feature>,
    /// Bytes from one record to the next.
    pub stride: usize,
}

#[derive(Debug)]
struct Feature {
    dtype: DType,
    shape: Vec<u64>,
    range: Range<usize>,
}

impl Layout {
    pub fn new(types: &[TensorType]) -> Result<Self, Error> {
        let (mut features, mut end) = (Vec::with_capacity(types.len()), 0u64);
        for (index, ty) in types.iter().enumerate() {
            let refused = || Error::Layout { index, ty: ty.to_string() };
            let (shape, bytes) = fixed(ty).ok_or_else(refused)?;
            let start = end as usize;
            end += bytes.next_multiple_of(ALIGN_BYTES as u64);
            if end > RECORD_BYTES_MAX {
                return Err(refused());
            }
            features.push(Feature { dtype: ty.dtype, shape, range: start..start + bytes as usize });
        }
        Ok(Self { features, stride: (end as usize).max(ALIGN_BYTES) })
    }

    /// What a cache of this body and layout is bound to.
    pub fn id(&self, body: &Key) -> Key {
        let mut words = Vec::new();
        for Feature { dtype, shape, .. } in &self.features {
            words.extend([dtype.onnx() as u64, shape.len() as u64]);
            words.extend(shape);
        }
        key(&[body, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>()])
    }

    /// The folder's name: the body in hexadecimal, and enough of the layout to tell two apart.
    pub fn folder(&self, body: &Key) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}-{}", hex(body), hex(&self.id(body)[..8]))
    }

    pub fn len(&self) -> usize {
        self.features.len()
    }

    pub fn range(&self, index: usize) -> Range<usize> {
        self.features[index].range.clone()
    }

    pub fn ty(&self, index: usize) -> (DType, &[u64]) {
        (self.features[index].dtype, &self.features[index].shape)
    }

    pub fn check(&self, given: &[&[u8]]) -> Result<(), Error> {
        let lengths = self.features.iter().map(|feature| feature.range.len());
        if lengths.clone().eq(given.iter().map(|bytes| bytes.len())) {
            return Ok(());
        }
        Err(Error::Record { given: given.iter().map(|bytes| bytes.len()).collect(), expected: lengths.collect() })
    }

    /// Copies features into a record of zeros.
    pub fn fill(&self, given: &[&[u8]], record: &mut [u8]) {
        for (feature, bytes) in self.features.iter().zip(given) {
            record[feature.range.clone()].copy_from_slice(bytes);
        }
    }
}

/// Bytes in memory, aligned as a record on disk is.
pub(super) fn aligned(length: usize, fill: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = vec![0; length + ALIGN_BYTES];
    let start = bytes.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
    let range = start..start + length;
    fill(&mut bytes[range.clone()]);
    Bytes::from_owner(bytes).slice(range)
}

/// Shape and bytes of a type all of whose dimensions are known.
fn fixed(ty: &TensorType) -> Option<(Vec<u64>, u64)> {
    let shape: Vec<u64> = ty.shape.as_ref()?.iter().map(Dim::fixed).collect::<Option<_>>()?;
    let bits = (ty.dtype != DType::String).then_some(ty.dtype.bits() as u64)?;
    let bits = shape.iter().try_fold(bits, |bits, size| bits.checked_mul(*size))?;
    Some((shape, bits.div_ceil(8))).filter(|(_, bytes)| *bytes <= RECORD_BYTES_MAX)
}
