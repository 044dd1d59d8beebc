//! Learned tensors as ONNX Runtime's own adapter file, `*.onnx_adapter`, which its `LoraAdapter` maps and a run activates.
//!
//! Takes names, shapes and fp32 values; gives the bytes. Knows nothing of bases or deltas. The names are those of optional
//! inputs of a model ([`super::export::with_optional_inputs`]), whose element type ONNX Runtime wants to the letter: fp32.
//!
//! The file is a flatbuffer of two kinds of table (`adapter_schema.fbs` in ONNX Runtime's sources, format version 1). It
//! is written by hand, front to back, in the few lines below: the `flatbuffers` crate would bring generated code with
//! `unsafe` for a file that is never read here. The tests read it with that crate's verifier, and with ONNX Runtime.
//!
//! ```text
//! 0    u32 → Adapter; identifier "TORT"
//! 8    vtable of Adapter: its own size, the table's, the places of the fields in it (u16 each)
//! 20   Adapter: i32 back to its vtable; i32 format, adapter and model version; u32 → parameters
//! 40   vtable of Parameter
//! 52   parameters: u32 count, u32 → each
//!      Parameter: i32 back to the vtable; u32 → name, u32 → dims, i32 element type, u32 → data   } for each
//!      name: u32 length, UTF-8, a zero │ dims: u32 count, i64 each │ data: u32 bytes, the bytes   }
//! ```
//!
//! An arrow is the distance from the arrow's own place. Numbers are little-endian and lie at multiples of their size; the
//! data at multiples of 8, because the schema demands it.

use crate::graph::DType;

/// What flatbuffers of this schema begin with, behind the first arrow.
const IDENTIFIER: &[u8; 4] = b"TORT";
/// `kAdapterFormatVersion` of ONNX Runtime.
const FORMAT_VERSION: u32 = 1;
/// A table of four fields of four bytes behind the arrow to this: both tables are.
const VTABLE: [u16; 6] = [12, 20, 4, 8, 12, 16];
/// Flatbuffers address 31 bits.
pub const BYTES_MAX: usize = (1 << 31) - 1;

/// The bytes of an adapter file: names, shapes and values of each parameter. What they are worth to which model is told
/// by the names alone; the versions of adapter and model are 0.
///
/// The result must stay below [`BYTES_MAX`], which no delta reaches: it has 2²⁷ values at most.
pub fn encode<'t>(parameters: impl ExactSizeIterator<Item = (&'t str, &'t [u64], &'t [f32])>) -> Vec<u8> {
    let mut file = File(Vec::new());
    let root = file.arrow();
    file.0.extend(IDENTIFIER);
    let vtable = file.vtable();
    file.lead(root);
    file.table(vtable);
    [FORMAT_VERSION, 0, 0].into_iter().for_each(|number| file.number(number));
    let list = file.arrow();
    let vtable = file.vtable();
    file.lead(list);
    file.number(parameters.len() as u32);
    let places: Vec<usize> = (0..parameters.len()).map(|_| file.arrow()).collect();
    for (place, (name, shape, values)) in places.into_iter().zip(parameters) {
        file.align(4, 0);
        file.lead(place);
        file.table(vtable);
        let (name_at, dims) = (file.arrow(), file.arrow());
        file.number(DType::Float.onnx() as u32);
        let data = file.arrow();
        file.vector(name_at, name.len(), name.bytes());
        file.0.push(0);
        file.vector(dims, shape.len(), shape.iter().flat_map(|size| size.to_le_bytes()));
        file.vector(data, 4 * values.len(), values.iter().flat_map(|value| value.to_le_bytes()));
    }
    assert!(file.0.len() <= BYTES_MAX, "a delta is smaller than a flatbuffer can be");
    file.0
}

/// A flatbuffer under way.
struct File(Vec<u8>);

impl File {
    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    /// An arrow that leads nowhere yet; gives its place.
    fn arrow(&mut self) -> usize {
        self.number(0);
        self.0.len() - 4
    }

    /// Lets the arrow at `place` lead to what comes next.
    fn lead(&mut self, place: usize) {
        let distance = (self.0.len() - place) as u32;
        self.0[place..place + 4].copy_from_slice(&distance.to_le_bytes());
    }

    /// Fills up with zeros until `ahead` bytes more end at a multiple of `size`.
    fn align(&mut self, size: usize, ahead: usize) {
        let end = (self.0.len() + ahead).next_multiple_of(size);
        self.0.resize(end - ahead, 0);
    }

    fn vtable(&mut self) -> usize {
        let place = self.0.len();
        self.0.extend(VTABLE.iter().flat_map(|number| number.to_le_bytes()));
        place
    }

    /// The beginning of a table: how far behind its vtable lies.
    fn table(&mut self, vtable: usize) {
        self.number((self.0.len() - vtable) as u32);
    }

    /// `count` elements behind their number, at a multiple of 8; the arrow at `place` leads there.
    fn vector(&mut self, place: usize, count: usize, bytes: impl Iterator<Item = u8>) {
        self.align(8, 4);
        self.lead(place);
        self.number(count as u32);
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte, so that the drawing above stays true.
    #[test]
    fn the_smallest_file_is_as_drawn() {
        let bytes = encode([("w", &[1u64][..], &[1.0f32][..])].into_iter());
        let mut drawn = Vec::new();
        drawn.extend([20, 0, 0, 0, b'T', b'O', b'R', b'T', 12, 0, 20, 0, 4, 0, 8, 0, 12, 0, 16, 0]);
        drawn.extend([12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0]);
        drawn.extend([12, 0, 20, 0, 4, 0, 8, 0, 12, 0, 16, 0, 1, 0, 0, 0, 4, 0, 0, 0]);
        drawn.extend([20, 0, 0, 0, 20, 0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0, 0]);
        drawn.extend([0, 0, 0, 0, 1, 0, 0, 0, b'w', 0, 0, 0]);
        drawn.extend([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 128, 63]);
        assert_eq!(bytes, drawn);
    }
}
