//! One delta while it is looked at: its parts as matrices, a few rows at a time.

use super::form::{Part, RoundForm, Shape};
use crate::delta::{self, Head, Located, MethodKind, PREAMBLE_BYTES, head_length};
use ndarray::{ArrayView2, s};
use std::ops::Range;

/// A part's values, as they lie in a delta.
pub(super) enum Piece {
    /// `[rows]`
    Whole(Vec<f32>),
    /// `scale · b a` with `a: [rank, columns]`, `b: [rows, rank]`.
    Product { a: Vec<f32>, b: Vec<f32>, rank: usize, scale: f64 },
}

/// A delta whose head has been checked, and whose values have not been looked at.
pub(super) struct Opened<'a> {
    pub head: Head<'a>,
    entries: Vec<Located<'a>>,
    payload: &'a [u8],
}

impl<'a> Opened<'a> {
    /// # Errors
    /// What [`Head::parse`] says.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, delta::Error> {
        let preamble = bytes.first_chunk::<PREAMBLE_BYTES>().ok_or(delta::Error::TooShort)?;
        let (head, payload) = bytes.split_at_checked(head_length(preamble)?).ok_or(delta::Error::TooShort)?;
        let head = Head::parse(head)?;
        Ok(Self { entries: head.entries().collect(), head, payload })
    }

    /// The values of one part, verified: hash and finiteness. The delta must be of the form that the part is of.
    ///
    /// # Errors
    /// What [`Located::decode`] says.
    pub(super) fn piece(&self, part: &Part) -> Result<Piece, delta::Error> {
        let values = |entry: usize| {
            let located = self.entries.get(entry).ok_or(delta::Error::Unlike)?;
            let bytes = self.payload.get(located.range()).ok_or(delta::Error::Payload(located.index))?;
            let mut values = Vec::with_capacity(located.entry.count());
            located.decode(bytes, |value| values.push(value))?;
            Ok(values)
        };
        Ok(match &part.shape {
            Shape::Whole { entry, .. } => Piece::Whole(values(*entry)?),
            Shape::Product { entries: [a, b], .. } => {
                let method = self.head.header().method.ok_or(delta::Error::Unlike)?;
                let scale = f64::from(method.alpha) / divisor(method.kind, method.rank);
                Piece::Product { a: values(*a)?, b: values(*b)?, rank: method.rank as usize, scale }
            }
        })
    }

    /// All parts, in the order of the form.
    ///
    /// # Errors
    /// As [`Opened::piece`].
    pub(super) fn pieces(&self, form: &RoundForm) -> Result<Vec<Piece>, delta::Error> {
        form.parts.iter().map(|part| self.piece(part)).collect()
    }
}

impl Piece {
    /// These rows of the matrix that the part is, row-major.
    pub(super) fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        match self {
            Piece::Whole(values) => values[rows].to_vec(),
            Piece::Product { scale, .. } => {
                let (b, a) = self.factors().expect("a product");
                let scale = *scale as f32;
                b.slice(s![rows, ..]).dot(&a).into_iter().map(|value| value * scale).collect()
            }
        }
    }

    /// `b` and `a` of a product.
    pub(super) fn factors(&self) -> Option<(ArrayView2<'_, f32>, ArrayView2<'_, f32>)> {
        let Piece::Product { a, b, rank, .. } = self else { return None };
        let view = |shape, values| ArrayView2::from_shape(shape, values).expect("factors that fit each other");
        Some((view((b.len() / rank, *rank), b), view((*rank, a.len() / rank), a)))
    }
}

/// What alpha is divided by to give the scale of `B A`.
pub(super) fn divisor(kind: MethodKind, rank: u32) -> f64 {
    if kind == MethodKind::RsLora { f64::from(rank).sqrt() } else { f64::from(rank) }
}
