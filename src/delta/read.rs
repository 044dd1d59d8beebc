//! The reader. Bytes are hostile until they have been checked: a head by [`Head::parse`], the values of a tensor by
//! [`Located::open`], a delta that is in memory as a whole by [`Delta::parse`].

use super::header::{Counts, Encoding, Entry, Header, Label, ensure, is_name};
use super::values::{Fault, Values};
use super::{
    DELTA_BYTES_MAX, Error, Field, HEADER_BYTES_MAX, IDENTITY_BYTES, KEY_BYTES, LABEL_BYTES_MAX, LABELS_MAX, MAGIC,
    NAME_BYTES_MAX, PREAMBLE_BYTES, SIGNATURE_BYTES, SIGNED, TENSORS_MAX, VALUES_A_BYTE_MAX, VALUES_MAX, VERSION,
    signature,
};
use half::f16;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

/// All of a delta but the values, checked, its signature included. Borrows from its bytes.
///
/// To read a delta that is not in memory: read [`PREAMBLE_BYTES`], ask [`head_length`] how long the head is, read it and
/// parse it, then read the payload tensor by tensor, each as long as its entry says, and [`Located::open`] it.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    header: Header<'a>,
    labels: Labels<'a>,
    entries: Entries<'a>,
    identity: &'a [u8; IDENTITY_BYTES],
    signer: Option<&'a [u8; KEY_BYTES]>,
    length: usize,
    payload_length: usize,
}

/// Bytes from the first one to the payload.
///
/// # Errors
/// A preamble that no delta of this version has.
pub fn head_length(preamble: &[u8; PREAMBLE_BYTES]) -> Result<usize, Error> {
    let Preamble { signed, header_length, .. } = check_preamble(preamble)?;
    let length = header_length as usize;
    ensure(length <= HEADER_BYTES_MAX, Error::HeaderLength(header_length))?;
    let signature_bytes = if signed { KEY_BYTES + SIGNATURE_BYTES } else { 0 };
    Ok(PREAMBLE_BYTES + length + IDENTITY_BYTES + signature_bytes)
}

/// What the first bytes say.
struct Preamble {
    version: u16,
    signed: bool,
    header_length: u32,
}

fn check_preamble(preamble: &[u8; PREAMBLE_BYTES]) -> Result<Preamble, Error> {
    let [m0, m1, m2, m3, v0, v1, f0, f1, h0, h1, h2, h3] = *preamble;
    ensure([m0, m1, m2, m3] == MAGIC, Error::Magic)?;
    let version = u16::from_le_bytes([v0, v1]);
    ensure((1..=VERSION).contains(&version), Error::Version(version))?;
    let flags = u16::from_le_bytes([f0, f1]);
    ensure(flags & !SIGNED == 0, Error::Flags(flags))?;
    let header_length = u32::from_le_bytes([h0, h1, h2, h3]);
    Ok(Preamble { version, signed: flags & SIGNED != 0, header_length })
}

impl<'a> Head<'a> {
    /// Checks the head, which must be all of `bytes`: their number is what [`head_length`] says. Allocates nothing.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of `format.md`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let preamble = bytes.first_chunk::<PREAMBLE_BYTES>().ok_or(Error::TooShort)?;
        let length = head_length(preamble)?;
        ensure(bytes.len() >= length, Error::TooShort)?;
        ensure(bytes.len() == length, Error::HeaderRest)?;
        let Preamble { version, signed, header_length } = check_preamble(preamble)?;
        let (covered, seal) = bytes.split_at(PREAMBLE_BYTES + header_length as usize);
        let (identity, seal) = seal.split_first_chunk::<IDENTITY_BYTES>().ok_or(Error::TooShort)?;
        ensure(identity_of(covered) == *identity, Error::Checksum)?;
        let signer = if signed { Some(check_signature(identity, seal)?) } else { None };
        Self::decode((version, &covered[PREAMBLE_BYTES..]), identity, signer, length)
    }

    // Apart from `parse`, so that the stack of the signature and that of the header are not taken at the same time.
    #[inline(never)]
    fn decode(
        (version, bytes): (u16, &'a [u8]),
        identity: &'a [u8; IDENTITY_BYTES],
        signer: Option<&'a [u8; KEY_BYTES]>,
        length: usize,
    ) -> Result<Self, Error> {
        let (mut header, mut rest) = take::<Header>(bytes).ok_or(Error::Header)?;
        if version > 1 {
            (header.recipe_text, rest) = take::<&str>(rest).ok_or(Error::Header)?;
            // A delta has one form: without a text its version is 1.
            ensure(!header.recipe_text.is_empty(), Error::Text(Field::Recipe))?;
        }
        let (counts, rest) = take::<Counts>(rest).ok_or(Error::Header)?;
        ensure(counts.labels as usize <= LABELS_MAX, Error::LabelCount(counts.labels))?;
        ensure((1..=TENSORS_MAX).contains(&(counts.tensors as usize)), Error::TensorCount(counts.tensors))?;
        header.check(counts.labels)?;
        let labels = Labels { entries: rest, left: counts.labels };
        let rest = labels.check()?;
        let entries = Entries { entries: rest, index: 0, count: counts.tensors, offset: 0 };
        let payload_length = entries.check()?;
        ensure(length.saturating_add(payload_length) <= DELTA_BYTES_MAX, Error::TooLong)?;
        Ok(Self { header, labels, entries, identity, signer, length, payload_length })
    }

    /// What the adapter belongs to and how it came to be.
    pub fn header(&self) -> &Header<'a> {
        &self.header
    }

    /// The labels in the order of the classes.
    pub fn labels(&self) -> Labels<'a> {
        self.labels.clone()
    }

    /// What tensors there are, in the order of their names, which is that of their values in the payload.
    pub fn entries(&self) -> Entries<'a> {
        self.entries.clone()
    }

    /// BLAKE3 hash that covers all but the signature, values included: what names this delta.
    pub fn identity(&self) -> &'a [u8; 32] {
        self.identity
    }

    /// The Ed25519 key that has signed it; the signature is right, but whose the key is, is for the caller to know.
    pub fn signer(&self) -> Option<&'a [u8; 32]> {
        self.signer
    }

    /// Bytes of the head: where the payload begins.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes behind the head, to the end of the delta.
    pub fn payload_length(&self) -> usize {
        self.payload_length
    }

    /// That the delta is signed, and by this key.
    ///
    /// # Errors
    /// [`Error::Unsigned`], [`Error::OtherKey`].
    pub fn verify(&self, key: &[u8; 32]) -> Result<(), Error> {
        let signer = self.signer.ok_or(Error::Unsigned)?;
        ensure(signer == key, Error::OtherKey)
    }
}

/// The flags are not covered, so that signing does not change what a delta is called; each wrong one is refused.
pub(super) fn identity_of(covered: &[u8]) -> [u8; IDENTITY_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&covered[..6]).update(&covered[8..]);
    hasher.finalize().into()
}

#[inline(never)]
fn check_signature<'a>(identity: &[u8; IDENTITY_BYTES], seal: &'a [u8]) -> Result<&'a [u8; KEY_BYTES], Error> {
    let (key, rest) = seal.split_first_chunk::<KEY_BYTES>().ok_or(Error::TooShort)?;
    let signature = rest.first_chunk::<SIGNATURE_BYTES>().ok_or(Error::TooShort)?;
    signature::check(signature::CONTEXT, identity, key, signature)?;
    Ok(key)
}

/// A delta that has passed every check of the format. Borrows from its bytes.
#[derive(Debug, Clone)]
pub struct Delta<'a> {
    head: Head<'a>,
    payload: &'a [u8],
}

impl<'a> Delta<'a> {
    /// Checks all of `bytes`, which must be one delta and nothing else. Allocates nothing; the time is linear in the number
    /// of values, which `format.md` bounds by that of the bytes.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of `format.md`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        ensure(bytes.len() <= DELTA_BYTES_MAX, Error::TooLong)?;
        let preamble = bytes.first_chunk::<PREAMBLE_BYTES>().ok_or(Error::TooShort)?;
        let (head, payload) = bytes.split_at_checked(head_length(preamble)?).ok_or(Error::TooShort)?;
        let head = Head::parse(head)?;
        for located in head.entries() {
            located.open(payload.get(located.range()).ok_or(Error::Payload(located.index))?)?;
        }
        ensure(payload.len() == head.payload_length, Error::PayloadRest)?;
        Ok(Self { head, payload })
    }

    /// All but the values.
    pub fn head(&self) -> &Head<'a> {
        &self.head
    }

    /// What the adapter belongs to and how it came to be.
    pub fn header(&self) -> &Header<'a> {
        &self.head.header
    }

    /// The labels in the order of the classes.
    pub fn labels(&self) -> Labels<'a> {
        self.head.labels()
    }

    /// The learned tensors in the order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'a>> + use<'a> {
        let payload = self.payload;
        self.head.entries().map(move |located| {
            let bytes = &payload[located.range()];
            TensorView { entry: located.entry, bytes }
        })
    }

    /// The learned tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'a>> {
        self.tensors().find(|tensor| tensor.entry.name == name)
    }

    /// [`Head::identity`].
    pub fn identity(&self) -> &'a [u8; 32] {
        self.head.identity
    }

    /// The bytes up to and with the identity, and the payload.
    #[cfg(feature = "std")]
    pub(super) fn parts(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let seal = if self.head.signer.is_some() { KEY_BYTES + SIGNATURE_BYTES } else { 0 };
        (&bytes[..self.head.length - seal], self.payload)
    }
}

/// Decodes one item from the front; gives it and the bytes after it. An item has one encoding: where writing it again
/// would give other bytes (a number with superfluous zeros), it is refused.
pub(crate) fn take<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
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

/// What the header says of the tensors, one at a time.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    entries: &'a [u8],
    index: u32,
    count: u32,
    offset: usize,
}

impl<'a> Entries<'a> {
    /// Goes through all entries once; gives the length of the payload.
    #[inline(never)]
    fn check(&self) -> Result<usize, Error> {
        let (mut rest, mut end, mut last, mut values) = (self.entries, 0usize, "", 0usize);
        for index in 0..self.count {
            let (entry, after) = take::<Entry>(rest).ok_or(Error::Entry(index))?;
            ensure(is_name(entry.name, NAME_BYTES_MAX), Error::TensorName(index))?;
            ensure(last < entry.name, Error::TensorOrder(index))?;
            let count = entry.values().ok_or(Error::Shape(index))?;
            values += count;
            ensure(values <= VALUES_MAX, Error::ValueCount)?;
            let dense = !matches!(entry.encoding, Encoding::Sparse { .. });
            let sized = count as u64 <= VALUES_A_BYTE_MAX as u64 * u64::from(entry.length);
            ensure(!dense || sized, Error::Shape(index))?;
            ensure(entry.difference || entry.encoding != Encoding::Steps, Error::Encoding(index))?;
            (rest, end, last) = (after, end.saturating_add(entry.length as usize), entry.name);
        }
        ensure(rest.is_empty(), Error::HeaderRest)?;
        Ok(end)
    }
}

impl Entry<'_> {
    /// The number of values; none where a size is 0 or there are more than a delta can have.
    fn values(&self) -> Option<usize> {
        let product = self.shape.iter().try_fold(1u32, |count, size| count.checked_mul(*size));
        product.map(|count| count as usize).filter(|count| (1..=VALUES_MAX).contains(count))
    }

    /// The number of values of an entry that was checked.
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().map(|size| *size as usize).product()
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Located<'a>;

    fn next(&mut self) -> Option<Located<'a>> {
        if self.index == self.count {
            return None;
        }
        let (entry, rest) = take::<Entry>(self.entries)?;
        let located = Located { offset: self.offset, index: self.index, entry };
        self.entries = rest;
        self.index += 1;
        self.offset += located.entry.length as usize;
        Some(located)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.count - self.index) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// An entry, and where its values lie.
#[derive(Debug, Clone)]
pub struct Located<'a> {
    /// What the header says of the tensor.
    pub entry: Entry<'a>,
    /// Position among the tensors.
    pub index: u32,
    /// Where the values begin, counted from the start of the payload.
    pub offset: usize,
}

impl<'a> Located<'a> {
    /// The bytes of the payload that are this tensor's.
    pub fn range(&self) -> core::ops::Range<usize> {
        self.offset..self.offset + self.entry.length as usize
    }

    /// Checks the bytes of this tensor: the hash, and that every value decodes and is finite.
    ///
    /// # Errors
    /// What is wrong with them; then not one of them may be used.
    #[inline(never)]
    pub fn open<'b>(&self, bytes: &'b [u8]) -> Result<TensorView<'b>, Error>
    where
        'a: 'b,
    {
        self.decode(bytes, |_| {})?;
        Ok(TensorView { entry: self.entry.clone(), bytes })
    }

    /// Checks the bytes of this tensor as [`Located::open`] does, and tells each value on the way, row-major: half the work of opening
    /// it and asking for its [`TensorView::values`], which decodes all of them twice.
    ///
    /// # Errors
    /// What is wrong with them; then not one of the values that were told may be used.
    pub fn decode(&self, bytes: &[u8], told: impl FnMut(f32)) -> Result<(), Error> {
        ensure(blake3::hash(bytes).as_bytes() == &self.entry.hash, Error::Payload(self.index))?;
        let Entry { encoding, packing, .. } = self.entry;
        let values = Values::new(encoding, packing, self.entry.count(), bytes).ok_or(Error::Encoding(self.index))?;
        values.check(told).map_err(|fault| match fault {
            Fault::Form => Error::Values(self.index),
            Fault::NotFinite => Error::NotFinite(self.index),
        })
    }
}

/// A learned tensor, its values still in the delta's bytes.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    /// What the header says of it.
    pub entry: Entry<'a>,
    /// The values as stored.
    pub(super) bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.entry.count()
    }

    /// Never: a tensor without values is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as they are stored, row-major; all are finite. What [`apply`] does with them depends on the entry.
    pub fn values(&self) -> Values<'a> {
        let Entry { encoding, packing, .. } = self.entry;
        Values::new(encoding, packing, self.len(), self.bytes).expect("the payload was checked")
    }
}

/// A number of this size or less stays finite whatever is added to it: no encoding holds more than 65504 · 127.
const REFERENCE_MAX: f32 = 1e30;

/// Overwrites `target` (row-major f32, as many elements as the tensor has) with the learned values. Where the entry is a
/// difference, `target` must hold the tensor that it is a difference to, and is changed by it.
///
/// # Errors
/// [`Error::ApplyLength`] if the number of elements differs, [`Error::Reference`] if the outcome would not be finite;
/// `target` is untouched then.
pub fn apply(tensor: &TensorView, target: &mut [f32]) -> Result<(), Error> {
    ensure(target.len() == tensor.len(), Error::ApplyLength)?;
    if !tensor.entry.difference {
        target.iter_mut().zip(tensor.values()).for_each(|(element, value)| *element = value);
        return Ok(());
    }
    ensure(target.iter().all(|element| element.abs() <= REFERENCE_MAX), Error::Reference)?;
    if tensor.entry.encoding != Encoding::Steps {
        target.iter_mut().zip(tensor.values()).for_each(|(element, value)| *element += value);
        return Ok(());
    }
    let stepped = |element: &f32, steps: f32| from_order(order(*element).wrapping_add(steps as i16));
    let finite = target.iter().zip(tensor.values()).all(|(element, steps)| stepped(element, steps).is_finite());
    ensure(finite, Error::Reference)?;
    for (element, steps) in target.iter_mut().zip(tensor.values()) {
        *element = stepped(element, steps).to_f32();
    }
    Ok(())
}

/// The place of the nearest binary16 in the order of all of them, −0 before 0.
pub(super) fn order(value: f32) -> i16 {
    let bits = f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits() as i16;
    if bits < 0 { bits ^ 0x7fff } else { bits }
}

fn from_order(place: i16) -> f16 {
    f16::from_bits((if place < 0 { place ^ 0x7fff } else { place }) as u16)
}
