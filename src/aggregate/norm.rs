//! How far deltas have gone, and the bound that is put to it: who sends a change a hundred times too large counts no more than
//! the others.

use super::Error;
use super::contribution::Piece;
use ndarray::ArrayView2;

/// A bound of the norm: a longer change is made as long as that, its direction kept (centred clipping, arXiv 2012.10333).
///
/// A change is what a delta has beyond the adapter that the round began with. Without one it is all of the delta, which is
/// right for LoRA and a fresh head, both of which begin at zero; where tensors of the base are replaced, give one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// The median of the norms: half of the devices stay as they are.
    AtMedian,
    /// A norm, known from earlier rounds.
    At(f64),
}

impl Clip {
    /// What the change of each device is multiplied by, 1 for most.
    ///
    /// # Errors
    /// A bound that is none.
    pub(super) fn factors(self, norms: &[f64]) -> Result<Vec<f64>, Error> {
        let bound = match self {
            Clip::At(bound) if bound > 0.0 && bound.is_finite() => bound,
            Clip::At(bound) => return Err(Error::Norm(bound)),
            Clip::AtMedian => median(norms),
        };
        Ok(norms.iter().map(|norm| if *norm > bound { bound / norm } else { 1.0 }).collect())
    }
}

fn median(norms: &[f64]) -> f64 {
    let mut sorted = norms.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len() - 1;
    (sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0
}

/// ‖pieces − from‖ over all parts. Products stay factors: ‖P − Q‖² = ⟨P,P⟩ − 2⟨P,Q⟩ + ⟨Q,Q⟩.
pub(super) fn distance(pieces: &[Piece], from: Option<&[Piece]>) -> f64 {
    let square = |(index, piece): (usize, &Piece)| match (piece, from.map(|from| &from[index])) {
        (Piece::Whole(values), Some(Piece::Whole(from))) => {
            values.iter().zip(from).map(|(value, from)| (f64::from(*value) - f64::from(*from)).powi(2)).sum()
        }
        (Piece::Whole(values), _) => values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>(),
        (piece, Some(from)) => inner(piece, piece) - 2.0 * inner(piece, from) + inner(from, from),
        (piece, None) => inner(piece, piece),
    };
    pieces.iter().enumerate().map(square).sum::<f64>().max(0.0).sqrt()
}

/// ⟨b a, b′ a′⟩ = Σ (bᵀ b′) ∘ (a a′ᵀ): products of the ranks' size only. In f64, for the terms of a small distance cancel.
fn inner(one: &Piece, other: &Piece) -> f64 {
    let (Piece::Product { scale, .. }, Piece::Product { scale: other_scale, .. }) = (one, other) else { return 0.0 };
    let (Some((b, a)), Some((b2, a2))) = (one.factors(), other.factors()) else { return 0.0 };
    let wide = |matrix: ArrayView2<'_, f32>| matrix.mapv(f64::from);
    let rows = wide(b).t().dot(&wide(b2));
    let columns = wide(a).dot(&wide(a2).t());
    scale * other_scale * (&rows * &columns).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_of_products_is_that_of_the_matrices() {
        let product = |a: &[f32], b: &[f32], rank, scale| Piece::Product { a: a.to_vec(), b: b.to_vec(), rank, scale };
        let one = product(&[1.0, 2.0, 3.0], &[2.0, -1.0], 1, 2.0);
        let other = product(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], &[1.0, 0.0, 0.0, 1.0], 2, 0.5);
        let plain = |piece: &Piece| Piece::Whole(piece.rows(0..2));
        for from in [None, Some([other])] {
            let exact = distance(&[plain(&one)], from.as_ref().map(|[from]| [plain(from)]).as_ref().map(|f| &f[..]));
            let found = distance(std::slice::from_ref(&one), from.as_ref().map(|f| &f[..]));
            assert!((found - exact).abs() < 1e-12 * exact, "{found}, exactly {exact}");
        }
        assert!(distance(std::slice::from_ref(&one), Some(std::slice::from_ref(&one))) < 1e-6);
    }

    #[test]
    fn only_what_is_longer_is_shortened() {
        assert_eq!(Clip::AtMedian.factors(&[1.0, 400.0, 2.0]).unwrap(), [1.0, 0.005, 1.0]);
        assert_eq!(Clip::At(8.0).factors(&[1.0, 16.0]).unwrap(), [1.0, 0.5]);
        assert!(Clip::At(0.0).factors(&[1.0]).is_err() && Clip::At(f64::NAN).factors(&[1.0]).is_err());
    }
}
