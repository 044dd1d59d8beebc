//! Samples that are nearly the same, and such as are like no other, by distances between features.

use super::labels::{MAD_TO_DEVIATION, median};
use crate::order::Order;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// A pair is nearly the same where its distance is below this share of the usual distance to the nearest neighbour.
const NEAR: f64 = 0.13;
/// Neighbours whose mean distance tells how far from the others a sample is.
const NEIGHBOURS: usize = 10;
/// Robust standard deviations of the logarithm of that distance beyond which a sample is like no other.
const DEVIATIONS: f64 = 5.0;
/// Rows whose distances to all others are held at a time.
const BLOCK: usize = 256;

/// Two samples that are nearly the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The earlier row.
    pub first: usize,
    /// The later row, or the row of the other set.
    pub second: usize,
    /// Their distance, as a share of the usual distance to the nearest neighbour; 0 for equal features.
    pub distance: f64,
}

/// A sample that is like no other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// Which row.
    pub row: usize,
    /// Its mean distance to its nearest neighbours, as a multiple of the usual one.
    pub distance: f64,
}

/// How the samples of a set lie to each other, from one pass over all pairs.
#[derive(Debug, Clone)]
pub struct Neighbours<'a> {
    rows: ArrayView2<'a, f32>,
    /// Of each row the nearest earlier one and its distance.
    earlier: Vec<Option<(usize, f64)>>,
    /// The usual distance to the nearest other row.
    usual: f64,
    /// Of each row the mean distance to its nearest others; none where there are too few.
    means: Vec<f64>,
}

impl<'a> Neighbours<'a> {
    /// Prepares the search among features `[samples, features]`.
    pub fn new(rows: ArrayView2<'a, f32>) -> Self {
        let (mut earlier, mut nearest, mut means) = (Vec::new(), Vec::new(), Vec::new());
        each(rows, rows, |row, distances| {
            earlier.push(least(&distances[..row]));
            let mut others = [&distances[..row], &distances[row + 1..]].concat();
            nearest.extend(others.iter().copied().min_by(f64::total_cmp));
            if others.len() >= NEIGHBOURS {
                others.select_nth_unstable_by(NEIGHBOURS - 1, f64::total_cmp);
                means.push(others[..NEIGHBOURS].iter().sum::<f64>() / NEIGHBOURS as f64);
            }
        });
        Self { rows, earlier, usual: median(&nearest), means }
    }

    /// Each row with the nearest earlier one that is nearly the same, the nearest pair first.
    pub fn duplicates(&self) -> Vec<Pair> {
        let pair = |(second, nearest): (usize, &Option<(usize, f64)>)| {
            nearest.map(|(first, distance)| self.pair(first, second, distance))
        };
        sorted(self.earlier.iter().enumerate().filter_map(pair))
    }

    /// Rows of another set that are nearly the same as one of this set: what is learned from and what it is measured by must have none in
    /// common.
    pub fn shared_with(&self, others: ArrayView2<f32>) -> Vec<Pair> {
        let mut found = Vec::new();
        each(self.rows, others, |second, distances| {
            found.extend(least(distances).map(|(first, distance)| self.pair(first, second, distance)));
        });
        sorted(found)
    }

    fn pair(&self, first: usize, second: usize, distance: f64) -> Pair {
        let distance = if self.usual > 0.0 { distance / self.usual } else { distance };
        Pair { first, second, distance }
    }

    /// Rows that are much farther from their nearest neighbours than is usual, the farthest first.
    pub fn outliers(&self) -> Vec<Outlier> {
        let usual = median(&self.means);
        if usual <= 0.0 {
            return Vec::new();
        }
        // Distances are skewed, their logarithms are not.
        let far: Vec<f64> = self.means.iter().map(|mean| (mean.max(f64::MIN_POSITIVE) / usual).ln()).collect();
        let deviation = MAD_TO_DEVIATION * median(&far.iter().map(|far| far.abs()).collect::<Vec<_>>());
        let beyond = |(row, far): (usize, &f64)| {
            (*far > DEVIATIONS * deviation && deviation > 0.0).then_some(Outlier { row, distance: far.exp() })
        };
        let mut found: Vec<Outlier> = far.iter().enumerate().filter_map(beyond).collect();
        found.order_by(|one, other| other.distance.total_cmp(&one.distance));
        found
    }
}

/// The smallest distance and its place.
fn least(distances: &[f64]) -> Option<(usize, f64)> {
    distances.iter().copied().enumerate().min_by(|one, other| one.1.total_cmp(&other.1))
}

/// Those pairs that are near, the nearest first.
fn sorted(pairs: impl IntoIterator<Item = Pair>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = pairs.into_iter().filter(|pair| pair.distance < NEAR).collect();
    pairs.order_by(|one, other| one.distance.total_cmp(&other.distance));
    pairs
}

/// Calls back with each row of `others` and its distances to all of `rows`.
fn each(rows: ArrayView2<f32>, others: ArrayView2<f32>, mut each: impl FnMut(usize, &[f64])) {
    // Around the first set's mean, so that the differences are not lost beside what all rows have in common.
    let count = rows.nrows().max(1) as f64;
    let means = rows.fold_axis(Axis(0), 0.0f64, |sum, value| sum + f64::from(*value)).mapv(|sum| (sum / count) as f32);
    let (rows, others) = (&rows - &means, &others - &means);
    let (rows_squared, others_squared) = (squares(&rows), squares(&others));
    for (block, chunk) in others.axis_chunks_iter(Axis(0), BLOCK).enumerate() {
        let products = chunk.dot(&rows.t());
        for (place, products) in products.rows().into_iter().enumerate() {
            let row = block * BLOCK + place;
            let distance = |(product, square): (&f32, &f64)| {
                let squared = square + others_squared[row] - 2.0 * f64::from(*product);
                // What remains of equal rows is rounding.
                if squared < 1e-6 * (square + others_squared[row]) { 0.0 } else { squared.sqrt() }
            };
            let distances: Vec<f64> = products.iter().zip(&rows_squared).map(distance).collect();
            each(row, &distances);
        }
    }
}

fn squares(rows: &Array2<f32>) -> Array1<f64> {
    rows.map_axis(Axis(1), |row| row.iter().map(|value| f64::from(*value).powi(2)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    /// Rows that are spread evenly, from a generator that every machine computes alike.
    fn spread(rows: usize, features: usize) -> Array2<f32> {
        let mut state = 1u64;
        Array2::from_shape_simple_fn((rows, features), || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 + 5.0
        })
    }

    #[test]
    fn what_is_nearly_the_same_is_found_with_its_first() {
        let mut rows = spread(300, 12);
        let copy = rows.row(3).to_owned();
        rows.row_mut(40).assign(&copy);
        rows.row_mut(290).assign(&(&copy + 1e-3));
        let found = Neighbours::new(rows.view()).duplicates();
        assert_eq!(found.iter().map(|pair| (pair.first, pair.second)).collect::<Vec<_>>(), [(3, 40), (3, 290)]);
        assert!(found[0].distance == 0.0 && found[1].distance > 0.0, "{found:?}");
        assert!(Neighbours::new(spread(300, 12).view()).duplicates().is_empty());
    }

    #[test]
    fn what_stands_in_both_sets_is_found() {
        let (rows, mut others) = (spread(100, 8), spread(120, 8).slice(s![100.., ..]).to_owned());
        assert!(Neighbours::new(rows.view()).shared_with(others.view()).is_empty());
        others.row_mut(4).assign(&rows.row(70));
        let found = Neighbours::new(rows.view()).shared_with(others.view());
        assert_eq!(found, [Pair { first: 70, second: 4, distance: 0.0 }]);
    }

    #[test]
    fn what_is_like_no_other_is_found() {
        let mut rows = spread(200, 6);
        assert!(Neighbours::new(rows.view()).outliers().is_empty());
        rows.row_mut(9).fill(60.0);
        let found = Neighbours::new(rows.view()).outliers();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].row == 9 && found[0].distance > 10.0);
        assert!(Neighbours::new(spread(5, 6).view()).outliers().is_empty(), "too few to say what is usual");
    }
}
