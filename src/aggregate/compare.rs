//! Two adapters beside each other: how far each has gone from the base, how far they are apart, and whether they point the
//! same way.

use super::contribution::Opened;
use super::norm::distance;
use super::{Error, RoundForm};
use std::slice::from_ref;

/// A tensor, or what two factors do as their product, in two adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// The tensor's name, or the module's whose factors they are.
    pub name: String,
    /// Values of the tensor, or of the product.
    pub values: usize,
    /// Frobenius norms in the first and the second adapter.
    pub norms: [f64; 2],
    /// Frobenius norm of their difference.
    pub difference: f64,
}

impl Compared {
    /// The cosine of the angle between both, from the law of cosines; none where one of them is zero.
    pub fn cosine(&self) -> Option<f64> {
        let [one, other] = self.norms;
        let product = one * other;
        (product > 0.0)
            .then(|| ((one.powi(2) + other.powi(2) - self.difference.powi(2)) / (2.0 * product)).clamp(-1.0, 1.0))
    }
}

/// Compares two adapters of one form, part by part, in as much memory as one part of each.
///
/// # Errors
/// [`Error::Delta`] for bytes that are no delta of values; [`Error::Unlike`] for adapters of two forms.
pub fn compare(deltas: [&[u8]; 2]) -> Result<Vec<Compared>, Error> {
    let opened = |index: usize| Opened::new(deltas[index]).map_err(|source| Error::Delta { index, source });
    let both = [opened(0)?, opened(1)?];
    let form_of =
        |index: usize| RoundForm::from_head(&both[index].head).map_err(|source| Error::Delta { index, source });
    let forms = [form_of(0)?, form_of(1)?];
    if let Some(what) = forms[0].difference(&forms[1]) {
        return Err(Error::Unlike { index: 1, what });
    }
    let parts = forms[0].parts.iter().zip(&forms[1].parts);
    let compared = parts.map(|(part, other)| {
        let piece = |index: usize, part| both[index].piece(part).map_err(|source| Error::Delta { index, source });
        let (one, other) = (piece(0, part)?, piece(1, other)?);
        let (rows, columns) = part.size();
        Ok(Compared {
            name: part.name.clone(),
            values: rows * columns,
            norms: [distance(from_ref(&one), None), distance(from_ref(&other), None)],
            difference: distance(from_ref(&one), Some(from_ref(&other))),
        })
    });
    compared.collect()
}
