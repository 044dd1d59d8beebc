//! The reader. Bytes are hostile until [`Delta::parse`] has been through all of them once.

use super::header::{Counts, Encoding, Entry, Header, Label, ensure, is_name};
use super::{
    CHECKSUM_BYTES, DELTA_BYTES_MAX, Error, HEADER_BYTES_MAX, LABEL_BYTES_MAX, LABELS_MAX, MAGIC, NAME_BYTES_MAX,
    PREAMBLE_BYTES, RANK_MAX, TENSORS_MAX, VERSION, f16,
};
use heapless::Vec;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

/// A delta that has passed every check of the format. Borrows from its bytes.
#[derive(Debug, Clone)]
pub struct Delta<'a> {
    header: Header<'a>,
    labels: Labels<'a>,
    tensors: Tensors<'a>,
    checksum: &'a [u8; CHECKSUM_BYTES],
}

impl<'a> Delta<'a> {
    /// Checks all of `bytes`, which must be one delta and nothing else. Allocates nothing; the time is linear in the
    /// length; the stack is about 2 KiB (x86-64) besides what BLAKE3 takes, whatever the delta says.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of `format.md`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        ensure(bytes.len() <= DELTA_BYTES_MAX, Error::TooLong)?;
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Error::TooShort)?;
        let (preamble, rest) = content.split_first_chunk::<PREAMBLE_BYTES>().ok_or(Error::TooShort)?;
        let header_length = check_preamble(preamble)?;
        ensure(blake3::hash(content).as_bytes() == checksum, Error::Checksum)?;

        let length = header_length as usize;
        ensure(length <= HEADER_BYTES_MAX.min(rest.len()), Error::HeaderLength(header_length))?;
        let (head, rest) = rest.split_at(length);
        let payload = match (PREAMBLE_BYTES + length) % 2 {
            0 => rest,
            _ => rest.strip_prefix(&[0]).ok_or(Error::Filling)?,
        };

        let (header, head) = take::<Header>(head).ok_or(Error::Header)?;
        let (counts, head) = take::<Counts>(head).ok_or(Error::Header)?;
        ensure(counts.labels as usize <= LABELS_MAX, Error::LabelCount(counts.labels))?;
        ensure((1..=TENSORS_MAX).contains(&(counts.tensors as usize)), Error::TensorCount(counts.tensors))?;
        header.check(counts.labels)?;

        let labels = Labels { entries: head, left: counts.labels };
        let head = labels.check()?;
        let tensors = Tensors { entries: head, left: counts.tensors, payload };
        tensors.check()?;
        Ok(Self { header, labels, tensors, checksum })
    }

    /// What the adapter belongs to and how it came to be.
    pub fn header(&self) -> &Header<'a> {
        &self.header
    }

    /// The labels in the order of the classes.
    pub fn labels(&self) -> Labels<'a> {
        self.labels.clone()
    }

    /// The learned tensors in the order of their names.
    pub fn tensors(&self) -> Tensors<'a> {
        self.tensors.clone()
    }

    /// The learned tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'a>> {
        self.tensors().find(|tensor| tensor.name == name)
    }

    /// BLAKE3 hash of everything before it: the delta's identity.
    pub fn checksum(&self) -> &'a [u8; 32] {
        self.checksum
    }
}

/// Gives the header's length.
fn check_preamble(preamble: &[u8; PREAMBLE_BYTES]) -> Result<u32, Error> {
    let [m0, m1, m2, m3, v0, v1, f0, f1, h0, h1, h2, h3] = *preamble;
    ensure([m0, m1, m2, m3] == MAGIC, Error::Magic)?;
    let version = u16::from_le_bytes([v0, v1]);
    ensure(version == VERSION, Error::Version(version))?;
    let flags = u16::from_le_bytes([f0, f1]);
    ensure(flags == 0, Error::Flags(flags))?;
    Ok(u32::from_le_bytes([h0, h1, h2, h3]))
}

/// Decodes one item from the front; gives it and the bytes after it. An item has one encoding: where writing it again
/// would give other bytes (a number with superfluous zeros), it is refused.
fn take<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    // Not `take_from_bytes`, which moves the item once more: the header would cost another 500 bytes of stack.
    let mut decoder = postcard::Deserializer::from_bytes(bytes);
    let item = T::deserialize(&mut decoder).ok()?;
    let rest = decoder.finalize().ok()?;
    let unmatched = postcard::serialize_with_flavor(&item, Matches(bytes)).ok()?;
    (unmatched.len() == rest.len()).then_some((item, rest))
}

/// Takes written bytes for as long as they are these, so that comparing needs no buffer.
struct Matches<'a>(&'a [u8]);

impl<'a> Flavor for Matches<'a> {
    type Output = &'a [u8];

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0 = self.0.strip_prefix(bytes).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<&'a [u8]> {
        Ok(self.0)
    }
}

/// The labels of a delta, decoded one at a time.
#[derive(Debug, Clone)]
pub struct Labels<'a> {
    entries: &'a [u8],
    left: u32,
}

impl<'a> Labels<'a> {
    /// Goes through all labels once; gives the bytes after them.
    #[inline(never)]
    fn check(&self) -> Result<&'a [u8], Error> {
        let mut rest = self.entries;
        for index in 0..self.left {
            let (label, after) = take::<Label>(rest).ok_or(Error::Label(index))?;
            ensure(is_name(label.name, LABEL_BYTES_MAX), Error::Label(index))?;
            rest = after;
        }
        Ok(rest)
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (label, rest) = take::<Label>(self.entries)?;
        self.entries = rest;
        Some(label)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Labels<'_> {}

/// The tensors of a delta, decoded one at a time.
#[derive(Debug, Clone)]
pub struct Tensors<'a> {
    entries: &'a [u8],
    left: u32,
    payload: &'a [u8],
}

impl<'a> Tensors<'a> {
    /// Goes through all entries and all values once.
    #[inline(never)]
    fn check(&self) -> Result<(), Error> {
        let (mut rest, mut end, mut last) = (self.entries, 0, "");
        for index in 0..self.left {
            let (entry, after) = take::<Entry>(rest).ok_or(Error::Entry(index))?;
            ensure(is_name(entry.name, NAME_BYTES_MAX), Error::TensorName(index))?;
            ensure(last < entry.name, Error::TensorOrder(index))?;
            ensure(entry.bytes() == Some(entry.length), Error::Shape(index))?;
            ensure(entry.offset as usize == end, Error::Place(index))?;
            let values = self.values(&entry).ok_or(Error::Place(index))?;
            ensure(values.chunks_exact(2).all(is_finite), Error::NotFinite(index))?;
            (rest, end, last) = (after, end + values.len(), entry.name);
        }
        ensure(rest.is_empty(), Error::HeaderRest)?;
        ensure(end == self.payload.len(), Error::PayloadRest)
    }

    fn values(&self, entry: &Entry) -> Option<&'a [u8]> {
        self.payload.get(entry.offset as usize..)?.get(..entry.length as usize)
    }
}

impl Entry<'_> {
    /// Bytes that the shape makes up; none where a size is 0 or no delta could hold them.
    fn bytes(&self) -> Option<u32> {
        let Encoding::Fp16 = self.encoding;
        self.shape.iter().try_fold(2u32, |bytes, size| bytes.checked_mul(*size)).filter(|bytes| *bytes > 0)
    }
}

/// Whether two bytes are a finite binary16: its exponent is not all ones.
fn is_finite(bytes: &[u8]) -> bool {
    bytes[1] & 0x7c != 0x7c
}

impl<'a> Iterator for Tensors<'a> {
    type Item = TensorView<'a>;

    fn next(&mut self) -> Option<TensorView<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (entry, rest) = take::<Entry>(self.entries)?;
        self.entries = rest;
        let bytes = self.values(&entry)?;
        Some(TensorView { name: entry.name, shape: entry.shape, encoding: entry.encoding, bytes })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Tensors<'_> {}

/// A learned tensor, its values still in the delta's bytes.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Sizes, outermost first.
    pub shape: Vec<u32, RANK_MAX>,
    /// How `bytes` store the values.
    pub encoding: Encoding,
    /// The values as stored.
    pub bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.bytes.len() / 2
    }

    /// Never: a tensor without values is refused.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The values, row-major; all are finite.
    pub fn values(&self) -> impl ExactSizeIterator<Item = f16> + use<'a> {
        self.bytes.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

/// Overwrites `target` (row-major f32, as many elements as the tensor has) with the learned values.
///
/// # Errors
/// [`Error::ApplyLength`] if the number of elements differs; `target` is untouched then.
pub fn apply(tensor: &TensorView, target: &mut [f32]) -> Result<(), Error> {
    ensure(target.len() == tensor.len(), Error::ApplyLength)?;
    for (element, value) in target.iter_mut().zip(tensor.values()) {
        *element = value.to_f32();
    }
    Ok(())
}
