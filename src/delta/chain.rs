//! From deltas to deltas: another encoding, a difference to a parent, parent and difference joined.
//!
//! Takes parsed deltas; gives the bytes of a new one, which is unsigned: who signs it answers for it.

use super::Error;
use super::encode::{Payload, encode, encode_difference};
use super::header::{Encoding, Header, Label, ensure};
use super::read::{Delta, TensorView, apply};
use super::write::{TensorValues, write};
use core::fmt;
use core::str::FromStr;
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

/// An encoding as a person asks for it, whatever the sizes of the tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EncodingChoice {
    /// [`Encoding::Fp16`].
    Fp16,
    /// [`Encoding::Int8`], a scale for each 128 values.
    Int8,
    /// [`Encoding::Int4`], a scale for each 128 values.
    Int4,
    /// [`Encoding::Sign`], a scale for each 128 values.
    Sign,
    /// [`Encoding::Sparse`]: this part (0…1) of the values, the largest.
    Sparse(f32),
}

/// Values that share a scale where a [`EncodingChoice`] does not say otherwise: a scale then costs an eighth of a bit a value.
const BLOCK: u32 = 128;
/// A tensor of fewer values than this stays fp16: biases and scales weigh little and matter much.
const SMALL: usize = 64;

impl EncodingChoice {
    /// Those that are tried where the smallest is wanted that does no harm.
    pub const TRIED: [Self; 6] =
        [Self::Fp16, Self::Int8, Self::Int4, Self::Sparse(0.25), Self::Sparse(0.1), Self::Sign];

    /// The encoding of a tensor of `len` values.
    pub fn encoding_for(self, len: usize) -> Encoding {
        let block = BLOCK.min(len as u32);
        match self {
            _ if len < SMALL => Encoding::Fp16,
            EncodingChoice::Fp16 => Encoding::Fp16,
            EncodingChoice::Int8 => Encoding::Int8 { block },
            EncodingChoice::Int4 => Encoding::Int4 { block },
            EncodingChoice::Sign => Encoding::Sign { block },
            EncodingChoice::Sparse(part) => {
                Encoding::Sparse { count: (len as f32 * part).ceil().min(len as f32) as u32 }
            }
        }
    }
}

impl FromStr for EncodingChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent = |text: &str| text.parse().ok().filter(|percent: &f32| *percent > 0.0 && *percent <= 100.0);
        match (text, text.strip_prefix("sparse:").and_then(percent)) {
            ("fp16", _) => Ok(EncodingChoice::Fp16),
            ("int8", _) => Ok(EncodingChoice::Int8),
            ("int4", _) => Ok(EncodingChoice::Int4),
            ("sign", _) => Ok(EncodingChoice::Sign),
            (_, Some(percent)) => Ok(EncodingChoice::Sparse(percent / 100.0)),
            _ => Err("no encoding; there are fp16, int8, int4, sign and sparse:PERCENT, such as sparse:10"),
        }
    }
}

impl fmt::Display for EncodingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodingChoice::Fp16 => f.write_str("fp16"),
            EncodingChoice::Int8 => f.write_str("int8"),
            EncodingChoice::Int4 => f.write_str("int4"),
            EncodingChoice::Sign => f.write_str("sign"),
            EncodingChoice::Sparse(part) => write!(f, "sparse:{}", part * 100.0),
        }
    }
}

/// The values of a tensor that is no difference.
///
/// # Errors
/// [`Error::IsDifference`].
pub fn owned(tensor: &TensorView) -> Result<Vec<f32>, Error> {
    ensure(!tensor.entry.difference, Error::IsDifference)?;
    Ok(tensor.values().collect())
}

/// A tensor on its way into a new delta.
pub(super) struct Made {
    pub name: String,
    pub shape: Vec<u32>,
    pub payload: Payload,
}

impl Made {
    pub fn like(tensor: &TensorView, payload: Payload) -> Self {
        Self { name: tensor.entry.name.to_owned(), shape: tensor.entry.shape.to_vec(), payload }
    }

    pub fn kept(tensor: &TensorView) -> Self {
        Self::like(tensor, Payload::from_view(tensor))
    }
}

/// The delta that they make.
pub(super) fn written(header: &Header, labels: &[Label], made: &[Made]) -> Result<Vec<u8>, Error> {
    let tensors: Vec<TensorValues> =
        made.iter().map(|made| TensorValues { name: &made.name, shape: &made.shape, payload: &made.payload }).collect();
    write(header, labels, &tensors)
}

/// The delta with its values stored in another way. Its metrics stay those of the values before.
///
/// # Errors
/// [`Error::IsDifference`] if it does not stand alone.
pub fn convert(delta: &Delta, choice: EncodingChoice) -> Result<Vec<u8>, Error> {
    let recoded = |tensor: TensorView| {
        let values = owned(&tensor)?;
        Ok(Made::like(&tensor, encode(&values, choice.encoding_for(values.len()))?))
    };
    let made = delta.tensors().map(recoded).collect::<Result<Vec<_>, Error>>()?;
    written(delta.header(), &delta.labels().collect::<Vec<_>>(), &made)
}

/// `delta` as a difference to `parent`, both of which stand alone: lossless with no `choice`, so that [`join`] gives every
/// value back to the last bit: fp16 tensors as steps from the parent's, others as they are, for their values are no fp16
/// numbers. Tensors that are equal in both are left out; but for one, where all are.
///
/// # Errors
/// [`Error::Unlike`] if they are not of one base, or a tensor has another shape in the parent.
pub fn change(parent: &Delta, delta: &Delta, choice: Option<EncodingChoice>) -> Result<Vec<u8>, Error> {
    ensure(parent.header().base == delta.header().base, Error::Unlike)?;
    let mut made = Vec::new();
    for tensor in delta.tensors() {
        let values = owned(&tensor)?;
        let Some(known) = parent.tensor(tensor.entry.name) else {
            made.push(Made::kept(&tensor));
            continue;
        };
        ensure(known.entry.shape == tensor.entry.shape, Error::Unlike)?;
        let before = owned(&known)?;
        if values.iter().map(|value| value.to_bits()).ne(before.iter().map(|value| value.to_bits())) {
            made.push(match (choice, tensor.entry.encoding) {
                (Some(choice), _) => {
                    Made::like(&tensor, encode_difference(&values, &before, choice.encoding_for(values.len()))?)
                }
                (None, Encoding::Fp16) => Made::like(&tensor, encode_difference(&values, &before, Encoding::Steps)?),
                (None, _) => Made::kept(&tensor),
            });
        }
    }
    let gone = parent.tensors().any(|tensor| delta.tensor(tensor.entry.name).is_none());
    ensure(!gone, Error::Unlike)?;
    if let (true, Some(tensor)) = (made.is_empty(), delta.tensors().next()) {
        made.push(Made::kept(&tensor));
    }
    let header = Header { parent: Some(*parent.identity()), ..delta.header().clone() };
    written(&header, &delta.labels().collect::<Vec<_>>(), &made)
}

/// A delta that stands alone, from a parent that does and a difference to it.
///
/// # Errors
/// [`Error::OtherParent`] if `difference` names another parent; [`Error::Unlike`] for other shapes.
pub fn join(parent: &Delta, difference: &Delta) -> Result<Vec<u8>, Error> {
    ensure(difference.header().parent.as_ref() == Some(parent.identity()), Error::OtherParent)?;
    let mut made = Vec::new();
    for tensor in difference.tensors() {
        let mut values = match (tensor.entry.difference, parent.tensor(tensor.entry.name)) {
            (true, Some(known)) if known.entry.shape == tensor.entry.shape => owned(&known)?,
            (true, _) => return Err(Error::Unlike),
            (false, _) => {
                made.push(Made::kept(&tensor));
                continue;
            }
        };
        apply(&tensor, &mut values)?;
        made.push(Made::like(&tensor, encode(&values, Encoding::Fp16)?));
    }
    for tensor in parent.tensors().filter(|tensor| difference.tensor(tensor.entry.name).is_none()) {
        owned(&tensor)?;
        made.push(Made::kept(&tensor));
    }
    let header = Header { parent: None, ..difference.header().clone() };
    written(&header, &difference.labels().collect::<Vec<_>>(), &made)
}
