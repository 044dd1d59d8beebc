//! How the values of a tensor lie in its payload: the decoders of all encodings.
//!
//! Takes a payload and gives its values one at a time, out of as much memory as the decoder itself; [`Values::check`] goes
//! through all of them first, so that what is iterated over afterwards is whole and finite.

use super::header::{Encoding, Packing};
use super::range::{Decoder, Tree};
use half::f16;

/// Values of one tensor, row-major. For [`Encoding::Steps`] they are step counts, see [`super::apply`].
#[derive(Debug, Clone)]
pub struct Values<'a> {
    encoding: Encoding,
    scales: &'a [u8],
    symbols: Symbols<'a>,
    next: usize,
    len: usize,
    /// Sparse: stored values that are left, and where and what the next one is.
    left: u32,
    waiting: Option<(usize, u16)>,
}

/// Why values are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Form,
    NotFinite,
}

impl<'a> Values<'a> {
    /// `None` where the payload is too short to begin with, or has a packing that the encoding does not take.
    pub(super) fn new(encoding: Encoding, packing: Packing, len: usize, payload: &'a [u8]) -> Option<Self> {
        let (scales, rest) = payload.split_at_checked(2 * scale_count(encoding, len)?)?;
        let symbols = match (packing, encoding) {
            (Packing::Coded, Encoding::Sign { .. }) => return None,
            (Packing::Coded, _) => Symbols::Coded(Decoder::new(rest)?, [Tree::NEW; 2]),
            (Packing::Raw, _) => Symbols::Raw { bytes: rest, used_bits: 0 },
        };
        let left = if let Encoding::Sparse { count } = encoding { count } else { 0 };
        let mut values = Self { encoding, scales, symbols, next: 0, len, left, waiting: None };
        if left > 0 {
            values.waiting = Some(values.read_sparse(None)?);
        }
        Some(values)
    }

    /// Goes through all values once, and tells each.
    pub(super) fn check(mut self, mut told: impl FnMut(f32)) -> Result<(), Fault> {
        let is_scale = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]) < INFINITE;
        if !self.scales.chunks_exact(2).all(is_scale) {
            return Err(Fault::NotFinite);
        }
        if let Encoding::Sparse { .. } = self.encoding {
            while let Some((place, bits)) = self.waiting {
                let misplaced = place >= self.len || bits & !SIGN == 0;
                (!misplaced).then_some(()).ok_or(Fault::Form)?;
                (bits & !SIGN < INFINITE).then_some(()).ok_or(Fault::NotFinite)?;
                (self.next..place).for_each(|_| told(0.0));
                told(f16::from_bits(bits).to_f32());
                self.next = place + 1;
                self.left -= 1;
                self.waiting = match self.left {
                    0 => None,
                    _ => Some(self.read_sparse(Some(place)).ok_or(Fault::Form)?),
                };
            }
            (self.next..self.len).for_each(|_| told(0.0));
        } else {
            for _ in 0..self.len {
                let value = self.read().ok_or(Fault::Form)?;
                value.is_finite().then_some(()).ok_or(Fault::NotFinite)?;
                told(value);
                self.next += 1;
            }
        }
        self.symbols.finished().then_some(()).ok_or(Fault::Form)
    }

    /// The next value of a dense encoding; `None` where the payload ends or holds a number that is not one of it.
    fn read(&mut self) -> Option<f32> {
        match self.encoding {
            Encoding::Fp16 => Some(f16::from_bits(self.symbols.half()?).to_f32()),
            Encoding::Steps => {
                let folded = self.symbols.half()?;
                Some(f32::from((folded >> 1) as i16 ^ -((folded & 1) as i16)))
            }
            Encoding::Int8 { block } => {
                let number = self.symbols.take(8)? as i8;
                (number != i8::MIN).then(|| f32::from(number) * self.scale(block))
            }
            Encoding::Int4 { block } => {
                let number = (self.symbols.take(4)? as i8) << 4 >> 4;
                (number != -8).then(|| f32::from(number) * self.scale(block))
            }
            Encoding::Sign { block } => {
                let scale = self.scale(block);
                Some(if self.symbols.take(1)? == 1 { -scale } else { scale })
            }
            Encoding::Sparse { .. } => None,
        }
    }

    fn scale(&self, block: u32) -> f32 {
        let at = self.next / block as usize * 2;
        f16::from_le_bytes([self.scales[at], self.scales[at + 1]]).to_f32()
    }

    /// Place and bits of the stored value after the one at `last`.
    fn read_sparse(&mut self, last: Option<usize>) -> Option<(usize, u16)> {
        let mut gap = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.symbols.gap()?;
            let bits = u32::from(byte & 0x7f);
            gap |= bits << shift;
            if bits << shift >> shift != bits {
                return None;
            }
            if byte & 0x80 == 0 {
                // One encoding for each number: no superfluous zeros at its end.
                let superfluous = byte == 0 && shift > 0;
                let place = last.map_or(0, |last| last + 1).checked_add(gap as usize)?;
                return if superfluous { None } else { Some((place, self.symbols.sparse_half()?)) };
            }
        }
        None
    }
}

impl Iterator for Values<'_> {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        if self.next == self.len {
            return None;
        }
        let value = match (self.encoding, self.waiting) {
            (Encoding::Sparse { .. }, Some((place, bits))) if place == self.next => {
                self.left -= 1;
                self.waiting = if self.left == 0 { None } else { self.read_sparse(Some(place)) };
                Some(f16::from_bits(bits).to_f32())
            }
            (Encoding::Sparse { .. }, _) => Some(0.0),
            _ => self.read(),
        };
        self.next += 1;
        value
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len - self.next, Some(self.len - self.next))
    }
}

impl ExactSizeIterator for Values<'_> {}

/// Bits of the first binary16 that is not finite.
const INFINITE: u16 = 0x7c00;
const SIGN: u16 = 0x8000;

/// How many scales an encoding has for `len` values; `None` for a block that is none.
pub(super) fn scale_count(encoding: Encoding, len: usize) -> Option<usize> {
    match encoding {
        Encoding::Int8 { block } | Encoding::Int4 { block } | Encoding::Sign { block } => {
            (1..=len).contains(&(block as usize)).then(|| len.div_ceil(block as usize))
        }
        Encoding::Fp16 | Encoding::Steps | Encoding::Sparse { .. } => Some(0),
    }
}

/// Numbers of a few bits, as they are or through the entropy stage.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // There is no allocator to put the trees elsewhere.
enum Symbols<'a> {
    /// Least significant bit first.
    Raw {
        bytes: &'a [u8],
        used_bits: u32,
    },
    Coded(Decoder<'a>, [Tree; 2]),
}

impl Symbols<'_> {
    fn take(&mut self, bits: u32) -> Option<u8> {
        match self {
            Symbols::Coded(decoder, [first, _]) => decoder.symbol(bits, first),
            Symbols::Raw { bytes, used_bits } => {
                let byte = *bytes.first()?;
                let value = (u32::from(byte) >> *used_bits) & ((1 << bits) - 1);
                *used_bits += bits;
                if *used_bits == 8 {
                    (*bytes, *used_bits) = (&bytes[1..], 0);
                }
                Some(value as u8)
            }
        }
    }

    /// 16 bits. Coded: first the upper half; the lower one is learned where the upper is 0, and noise elsewhere.
    fn half(&mut self) -> Option<u16> {
        match self {
            Symbols::Coded(decoder, [first, second]) => {
                let upper = decoder.symbol(8, first)?;
                let lower = if upper == 0 { decoder.symbol(8, second)? } else { decoder.plain()? };
                Some(u16::from_be_bytes([upper, lower]))
            }
            Symbols::Raw { .. } => Some(u16::from_le_bytes([self.take(8)?, self.take(8)?])),
        }
    }

    /// 16 bits of a sparse tensor, whose gaps have the second tree.
    fn sparse_half(&mut self) -> Option<u16> {
        match self {
            Symbols::Coded(decoder, [first, _]) => {
                Some(u16::from_be_bytes([decoder.symbol(8, first)?, decoder.plain()?]))
            }
            Symbols::Raw { .. } => self.half(),
        }
    }

    fn gap(&mut self) -> Option<u8> {
        match self {
            Symbols::Coded(decoder, [_, second]) => decoder.symbol(8, second),
            Symbols::Raw { .. } => self.take(8),
        }
    }

    /// Whether all bytes are used up and the bits that fill the last one are zero.
    fn finished(&self) -> bool {
        match self {
            Symbols::Coded(decoder, _) => decoder.finished(),
            Symbols::Raw { bytes: [], .. } => true,
            Symbols::Raw { bytes: [last], used_bits } => *used_bits > 0 && last >> used_bits == 0,
            Symbols::Raw { .. } => false,
        }
    }
}
