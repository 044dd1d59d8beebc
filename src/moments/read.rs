//! The reader. Bytes are hostile until they have been checked; what is read borrows from them, and the sums go into cells of the
//! caller's, so that neither the standard library nor an allocator is needed.

use super::code::{self, Trees};
use super::error::{Error, Field, ensure};
use super::header::Header;
use super::project::value_max;
use super::sums::Sums;
use crate::delta::range::Decoder;
use crate::delta::{LABEL_BYTES_MAX, check_signature, is_name, take};

/// First bytes of all moments.
pub const MAGIC: [u8; 4] = *b"EMOM";
/// The format version that is written and read.
pub const VERSION: u16 = 1;
/// Bytes of moments, at most.
pub const BYTES_MAX: usize = 1 << 27;
/// Bytes of the header with its labels, at most.
const HEADER_BYTES_MAX: usize = 1 << 20;
/// Bytes before the header: magic, version, flags, lengths of header and payload.
pub(super) const PREAMBLE_BYTES: usize = 16;
/// Flag: key and signature stand behind the identity.
pub(super) const SIGNED: u16 = 1;
/// What is signed is this and the identity.
pub(super) const CONTEXT: &str = "edgetune moments 1";
/// Cells that a byte stands for, at most: a small file cannot make a reader work for long.
const CELLS_A_BYTE_MAX: usize = 64;

/// Moments whose header was checked, the signature included; the sums are still in their bytes.
#[derive(Debug, Clone)]
pub struct View<'a> {
    header: Header<'a>,
    labels: Labels<'a>,
    payload: &'a [u8],
    identity: &'a [u8; 32],
    signer: Option<&'a [u8; 32]>,
}

impl<'a> View<'a> {
    /// Checks all of `bytes` but the sums: they must be one file of moments and nothing else.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of `format.md`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        ensure(bytes.len() <= BYTES_MAX, Error::TooLong)?;
        let preamble = bytes.first_chunk::<PREAMBLE_BYTES>().ok_or(Error::TooShort)?;
        let [m0, m1, m2, m3, v0, v1, f0, f1, h0, h1, h2, h3, p0, p1, p2, p3] = *preamble;
        ensure([m0, m1, m2, m3] == MAGIC, Error::Magic)?;
        let version = u16::from_le_bytes([v0, v1]);
        ensure(version == VERSION, Error::Version(version))?;
        let flags = u16::from_le_bytes([f0, f1]);
        ensure(flags & !SIGNED == 0, Error::Flags(flags))?;
        let (header, payload) = (u32::from_le_bytes([h0, h1, h2, h3]), u32::from_le_bytes([p0, p1, p2, p3]));
        ensure(header as usize <= HEADER_BYTES_MAX && payload as usize <= BYTES_MAX, Error::TooLong)?;
        let end = PREAMBLE_BYTES + header as usize + payload as usize;
        let (covered, seal) = bytes.split_at_checked(end).ok_or(Error::TooShort)?;
        let (identity, seal) = seal.split_first_chunk::<32>().ok_or(Error::TooShort)?;
        ensure(identity_of(covered) == *identity, Error::Checksum)?;
        let (signer, rest) = if flags & SIGNED != 0 { signer(identity, seal)? } else { (None, seal) };
        ensure(rest.is_empty(), Error::TooLong)?;
        let (header, payload) = covered[PREAMBLE_BYTES..].split_at(header as usize);
        let (header, labels) = decode_header(header)?;
        ensure(header.shape()?.cells() <= CELLS_A_BYTE_MAX * payload.len(), Error::Payload)?;
        Ok(Self { header, labels, payload, identity, signer })
    }

    /// What the moments are of.
    pub fn header(&self) -> &Header<'a> {
        &self.header
    }

    /// The labels in the order of the targets.
    pub fn labels(&self) -> Labels<'a> {
        self.labels.clone()
    }

    /// BLAKE3 of everything but the signature: equal moments have equal identities, however they came to be.
    pub fn identity(&self) -> &'a [u8; 32] {
        self.identity
    }

    /// The key that has signed them; whose it is, is for the caller to know.
    pub fn signer(&self) -> Option<&'a [u8; 32]> {
        self.signer
    }

    /// That they are signed, and by this key.
    ///
    /// # Errors
    /// [`Error::Unsigned`], [`Error::OtherKey`].
    pub fn verify(&self, key: &[u8; 32]) -> Result<(), Error> {
        let signer = self.signer.ok_or(Error::Unsigned)?;
        ensure(signer == key, Error::OtherKey)
    }

    /// Decodes the sums into `cells`, as many as [`super::Shape::cells`] says, and checks what no data could give; what takes a matrix is
    /// [`super::possible`]'s.
    ///
    /// # Errors
    /// Sums that do not decode, or cannot be.
    pub fn sums<C: AsRef<[i64]> + AsMut<[i64]>>(&self, mut cells: C) -> Result<Sums<C>, Error> {
        let shape = self.header.shape()?;
        ensure(cells.as_ref().len() == shape.cells(), Error::Shape)?;
        let mut numbers = (Decoder::new(self.payload).ok_or(Error::Payload)?, Trees::NEW);
        let samples = i64::from(self.header.samples);
        code::walk(shape, samples, cells.as_mut(), &mut numbers).ok_or(Error::Payload)?;
        ensure(numbers.0.finished(), Error::Payload)?;
        let clipped = i64::try_from(self.header.clipped).map_err(|_| Error::Impossible(Field::Clipped))?;
        cells.as_mut()[shape.clipped_at()] = clipped;
        let sums = Sums::from_cells(shape, cells, i64::from(value_max(self.header.bits)))?;
        // A label without samples would be a second way to write the same.
        let classification = self.header.task == crate::delta::Task::Classification;
        let empty = classification && (0..shape.targets).any(|class| sums.count(class) == 0);
        ensure(!empty, Error::Impossible(Field::Counts))?;
        Ok(sums)
    }
}

/// The flags are not covered, so that signing does not change what moments are called; each wrong one is refused.
pub(super) fn identity_of(covered: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&covered[..6]).update(&covered[8..]);
    hasher.finalize().into()
}

#[inline(never)]
fn signer<'a>(identity: &[u8; 32], seal: &'a [u8]) -> Result<(Option<&'a [u8; 32]>, &'a [u8]), Error> {
    let (key, rest) = seal.split_first_chunk::<32>().ok_or(Error::TooShort)?;
    let (signature, rest) = rest.split_first_chunk::<64>().ok_or(Error::TooShort)?;
    check_signature(CONTEXT, identity, key, signature).map_err(|_| Error::Signature)?;
    Ok((Some(key), rest))
}

fn decode_header(bytes: &[u8]) -> Result<(Header<'_>, Labels<'_>), Error> {
    let (header, rest) = take::<Header>(bytes).ok_or(Error::Header)?;
    header.check()?;
    let labels = Labels { entries: rest, left: header.labels };
    let (mut rest, mut last) = (rest, "");
    for index in 0..header.labels {
        let (label, after) = take::<&str>(rest).ok_or(Error::Label(index))?;
        let ordered = header.task != crate::delta::Task::Classification || last < label;
        ensure(ordered && is_name(label, LABEL_BYTES_MAX), Error::Label(index))?;
        (rest, last) = (after, label);
    }
    ensure(rest.is_empty(), Error::Header)?;
    Ok((header, labels))
}

/// The labels of moments, decoded one at a time.
#[derive(Debug, Clone)]
pub struct Labels<'a> {
    entries: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let (label, rest) = take::<&str>(self.entries)?;
        self.entries = rest;
        Some(label)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Labels<'_> {}
