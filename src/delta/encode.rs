//! From values to a payload. Lossless encodings are exact for values that binary16 holds; the bounds of the others stand at
//! [`encode`]. The entropy stage is taken where it makes the payload smaller.

use super::header::{Encoding, Packing};
use super::range::{Encoder, Tree};
use super::read::{TensorView, order};
use super::values::{Values, scale_count};
use super::{Error, VALUES_A_BYTE_MAX, f16};
use crate::order::Order;
use std::vec::Vec;

/// A tensor's values as they will lie in a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// How they are stored.
    pub encoding: Encoding,
    /// Whether they went through the entropy stage.
    pub packing: Packing,
    /// Whether they are added to what they are a difference to.
    pub difference: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// Takes a tensor's bytes as they are.
    pub fn from_view(tensor: &TensorView) -> Self {
        let (entry, bytes) = (&tensor.entry, tensor.bytes.to_vec());
        Self { encoding: entry.encoding, packing: entry.packing, difference: entry.difference, bytes }
    }

    /// The `len` values that a reader of the delta will find; `None` where the payload is not of so many, or stands for
    /// what has to be added to a reference.
    pub fn values(&self, len: usize) -> Option<Vec<f32>> {
        let values = Values::new(self.encoding, self.packing, len, &self.bytes).filter(|_| !self.difference)?;
        let mut found = Vec::with_capacity(len);
        values.check(|value| found.push(value)).ok()?;
        Some(found)
    }
}

/// Encodes values. What is read back differs from them by at most
///
/// - fp16: half a unit in the last place of binary16;
/// - int8, int4: half the block's scale, which is the block's largest magnitude divided by 127 or 7, rounded up to binary16;
/// - sparse: as fp16 for the `count` values of largest magnitude, and the whole value for the others;
/// - sign: no bound on one value; the scale is the mean magnitude, which is the best one by least squares.
///
/// # Errors
/// [`Error::NotFinite`] for a value that is not finite or too large for binary16, [`Error::Encoding`] for a block or count
/// that does not fit; both say tensor 0.
pub fn encode(values: &[f32], encoding: Encoding) -> Result<Payload, Error> {
    let fits = |value: &f32| f16::from_f32(*value).is_finite();
    if !values.iter().all(fits) {
        return Err(Error::NotFinite(0));
    }
    let half = |value: &f32| f16::from_f32(*value).to_bits();
    let symbols = match encoding {
        Encoding::Fp16 => Symbols::Halves(values.iter().map(half).collect()),
        Encoding::Steps => return Err(Error::Encoding(0)),
        Encoding::Int8 { block } => Symbols::quantised(values, block, 127, 8)?,
        Encoding::Int4 { block } => Symbols::quantised(values, block, 7, 4)?,
        Encoding::Sign { block } => Symbols::signs(values, block)?,
        Encoding::Sparse { count } => Symbols::sparse(values, count)?,
    };
    // Values that are zero in binary16 are not stored, so there may be fewer than were allowed.
    let encoding = match &symbols {
        Symbols::Sparse(stored) => Encoding::Sparse { count: stored.len() as u32 },
        _ => encoding,
    };
    Ok(symbols.payload(encoding, values.len(), false))
}

/// Encodes what has to be added to `reference` to come to `values`; [`Encoding::Steps`] comes to what binary16 makes of
/// `values` exactly.
///
/// # Errors
/// As [`encode`]; [`Error::ApplyLength`] for another number of values.
pub fn encode_difference(values: &[f32], reference: &[f32], encoding: Encoding) -> Result<Payload, Error> {
    if values.len() != reference.len() {
        return Err(Error::ApplyLength);
    }
    if encoding != Encoding::Steps {
        let change: Vec<f32> = values.iter().zip(reference).map(|(value, reference)| value - reference).collect();
        return Ok(Payload { difference: true, ..encode(&change, encoding)? });
    }
    if !values.iter().chain(reference).all(|value| value.is_finite()) {
        return Err(Error::NotFinite(0));
    }
    let folded = values.iter().zip(reference).map(|(value, reference)| {
        let steps = order(*value).wrapping_sub(order(*reference));
        (steps << 1 ^ steps >> 15) as u16
    });
    Ok(Symbols::Halves(folded.collect()).payload(encoding, values.len(), true))
}

/// What is stored, before it becomes bytes.
enum Symbols {
    Halves(Vec<u16>),
    Blocks { scales: Vec<f16>, numbers: Vec<u8>, bits: u32 },
    Sparse(Vec<(u32, u16)>),
}

impl Symbols {
    fn quantised(values: &[f32], block: u32, largest: i32, bits: u32) -> Result<Self, Error> {
        scale_count(Encoding::Int8 { block }, values.len()).ok_or(Error::Encoding(0))?;
        let (mut scales, mut numbers) = (Vec::new(), Vec::with_capacity(values.len()));
        for block in values.chunks(block as usize) {
            let magnitude = block.iter().fold(0f32, |most, value| most.max(value.abs()));
            let scale = at_least(magnitude / largest as f32);
            let step = scale.to_f32();
            let number = |value: &f32| match step {
                0.0 => 0,
                _ => ((value / step).round_ties_even() as i32).clamp(-largest, largest) as u8 & (0xff >> (8 - bits)),
            };
            numbers.extend(block.iter().map(number));
            scales.push(scale);
        }
        Ok(Self::Blocks { scales, numbers, bits })
    }

    fn signs(values: &[f32], block: u32) -> Result<Self, Error> {
        scale_count(Encoding::Sign { block }, values.len()).ok_or(Error::Encoding(0))?;
        let mean = |block: &[f32]| block.iter().map(|value| f64::from(value.abs())).sum::<f64>() / block.len() as f64;
        let scales = values.chunks(block as usize).map(|block| f16::from_f64(mean(block))).collect();
        let numbers = values.iter().map(|value| u8::from(*value < 0.0)).collect();
        Ok(Self::Blocks { scales, numbers, bits: 1 })
    }

    fn sparse(values: &[f32], count: u32) -> Result<Self, Error> {
        let mut places: Vec<u32> = (0..values.len() as u32).collect();
        if count as usize > places.len() {
            return Err(Error::Encoding(0));
        }
        let magnitude = |place: &u32| values[*place as usize].abs();
        places.order_by(|a, b| magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(b)));
        places.truncate(count as usize);
        places.sort_unstable();
        let stored = places.into_iter().map(|place| (place, f16::from_f32(values[place as usize]).to_bits()));
        Ok(Self::Sparse(stored.filter(|(_, bits)| bits & 0x7fff != 0).collect()))
    }

    /// The smaller of the two packings; raw where they are equal, and where coding would promise a reader too much work.
    fn payload(&self, encoding: Encoding, len: usize, difference: bool) -> Payload {
        let raw = self.raw();
        let coded = self.coded().filter(|coded| {
            let bound = matches!(self, Symbols::Sparse(_)) || len <= VALUES_A_BYTE_MAX * coded.len();
            coded.len() < raw.len() && bound
        });
        let (packing, bytes) = match coded {
            Some(coded) => (Packing::Coded, coded),
            None => (Packing::Raw, raw),
        };
        Payload { encoding, packing, difference, bytes }
    }

    fn raw(&self) -> Vec<u8> {
        match self {
            Symbols::Halves(halves) => halves.iter().flat_map(|half| half.to_le_bytes()).collect(),
            Symbols::Blocks { scales, numbers, bits } => {
                let per_byte = 8 / *bits as usize;
                let join = |chunk: &[u8]| {
                    chunk.iter().enumerate().fold(0, |byte, (place, number)| byte | number << (place as u32 * bits))
                };
                let packed = numbers.chunks(per_byte).map(join);
                scales.iter().flat_map(|scale| scale.to_le_bytes()).chain(packed).collect()
            }
            Symbols::Sparse(stored) => {
                let pair = |(gap, half): (Vec<u8>, u16)| gap.into_iter().chain(half.to_le_bytes());
                gaps(stored).flat_map(pair).collect()
            }
        }
    }

    fn coded(&self) -> Option<Vec<u8>> {
        let (mut encoder, mut first, mut second) = (Encoder::new(), Tree::NEW, Tree::NEW);
        match self {
            Symbols::Halves(halves) => {
                for [upper, lower] in halves.iter().map(|half| half.to_be_bytes()) {
                    encoder.symbol(upper, 8, &mut first);
                    if upper == 0 { encoder.symbol(lower, 8, &mut second) } else { encoder.plain(lower) }
                }
                Some(encoder.finish())
            }
            Symbols::Blocks { bits: 1, .. } => None,
            Symbols::Blocks { scales, numbers, bits } => {
                numbers.iter().for_each(|number| encoder.symbol(*number, *bits, &mut first));
                Some(scales.iter().flat_map(|scale| scale.to_le_bytes()).chain(encoder.finish()).collect())
            }
            Symbols::Sparse(stored) => {
                for (gap, half) in gaps(stored) {
                    gap.iter().for_each(|byte| encoder.symbol(*byte, 8, &mut second));
                    let [upper, lower] = half.to_be_bytes();
                    encoder.symbol(upper, 8, &mut first);
                    encoder.plain(lower);
                }
                Some(encoder.finish())
            }
        }
    }
}

/// The smallest binary16 that is not below `value`, so that a block's largest value never falls outside of its numbers.
fn at_least(value: f32) -> f16 {
    let nearest = f16::from_f32(value);
    if nearest.to_f32() < value { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}

/// Each stored value with the varint of how many places lie between it and the one before.
fn gaps(stored: &[(u32, u16)]) -> impl Iterator<Item = (Vec<u8>, u16)> {
    let before = std::iter::once(None).chain(stored.iter().map(|(place, _)| Some(*place)));
    stored.iter().zip(before).map(|((place, half), before)| {
        let mut gap = place - before.map_or(0, |before| before + 1);
        let mut bytes = Vec::new();
        while gap >= 0x80 {
            bytes.push(gap as u8 | 0x80);
            gap >>= 7;
        }
        bytes.push(gap as u8);
        (bytes, *half)
    })
}
