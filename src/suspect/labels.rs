//! Labels that are probably wrong, by answers for which the sample itself was left out.

use crate::order::Order;
use ndarray::{ArrayView1, ArrayView2};

/// How much likelier another class must be than the given one. On photographs, texts and sounds of which a tenth had a wrong label, about
/// three in four of these are beyond it, and of what is beyond it more than half (`benches/defaults/suspects.py`).
const MARGIN: f64 = 0.4;
/// A class with fewer samples is not known well enough to say what does not belong to it.
const SAMPLES_MIN: usize = 3;
/// Robust standard deviations from the usual error beyond which a number is surprising.
const DEVIATIONS: f64 = 5.0;
/// The median absolute deviation of a normal distribution times this is its standard deviation.
pub(super) const MAD_TO_DEVIATION: f64 = 1.4826;

/// A sample whose label is probably wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mislabelled {
    /// Which row.
    pub row: usize,
    /// The class that was given.
    pub given: usize,
    /// The class that is likelier.
    pub likely: usize,
    /// The probability of the given class.
    pub given_probability: f64,
    /// The probability of the likelier one.
    pub likely_probability: f64,
}

/// Rows whose given class is much less likely than another, the clearest first. `probabilities`: `[rows, classes]`, each row's as of a model
/// that has not learned from it (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068, judge by the same quantity, the normalised margin).
pub fn mislabelled(probabilities: ArrayView2<f64>, given: &[usize]) -> Vec<Mislabelled> {
    let mut counts = vec![0usize; probabilities.ncols()];
    given.iter().for_each(|class| counts[*class] += 1);
    let judged = |(row, (answer, given)): (usize, (ArrayView1<f64>, &usize))| {
        let others = answer.iter().enumerate().filter(|(class, _)| class != given);
        let (likely, likely_probability) = others.max_by(|one, other| one.1.total_cmp(other.1))?;
        let (given_probability, likely_probability) = (answer[*given], *likely_probability);
        let is_wrong = likely_probability - given_probability > MARGIN && counts[*given] >= SAMPLES_MIN;
        is_wrong.then_some(Mislabelled { row, given: *given, likely, given_probability, likely_probability })
    };
    let mut found: Vec<Mislabelled> =
        probabilities.rows().into_iter().zip(given).enumerate().filter_map(judged).collect();
    let margin = |one: &Mislabelled| one.likely_probability - one.given_probability;
    found.order_by(|one, other| margin(other).total_cmp(&margin(one)));
    found
}

/// A sample whose number is far from what is expected of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surprising {
    /// Which row.
    pub row: usize,
    /// Which column of the targets.
    pub target: usize,
    /// The number that was given.
    pub given: f64,
    /// The number that was expected.
    pub expected: f64,
}

/// Rows with a number whose error is beyond five robust standard deviations of the errors of all, the farthest first.
/// `expected`, `given`: `[rows, targets]`, expected as of a model that has not learned from the row.
pub fn surprising(expected: ArrayView2<f64>, given: ArrayView2<f64>) -> Vec<Surprising> {
    let mut found: Vec<(f64, Surprising)> = Vec::new();
    for (target, (expected, given)) in expected.columns().into_iter().zip(given.columns()).enumerate() {
        let errors: Vec<f64> = given.iter().zip(expected).map(|(given, expected)| given - expected).collect();
        let centre = median(&errors);
        let distances: Vec<f64> = errors.iter().map(|error| (error - centre).abs()).collect();
        let deviation = MAD_TO_DEVIATION * median(&distances);
        for (row, distance) in distances.iter().enumerate() {
            if *distance > DEVIATIONS * deviation && deviation > 0.0 {
                let far = Surprising { row, target, given: given[row], expected: expected[row] };
                found.push((distance / deviation, far));
            }
        }
    }
    found.order_by(|one, other| other.0.total_cmp(&one.0));
    found.into_iter().map(|(_, far)| far).collect()
}

/// The middle of numbers; 0 of none.
pub(super) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, arr2};

    #[test]
    fn the_clearest_wrong_label_comes_first() {
        let sure = [0.9, 0.1];
        let mut probabilities = vec![sure; 8];
        probabilities[2] = [0.2, 0.8];
        probabilities[5] = [0.05, 0.95];
        probabilities[6] = [0.4, 0.6];
        let found = mislabelled(arr2(&probabilities).view(), &[0; 8]);
        assert_eq!(found.iter().map(|one| (one.row, one.likely)).collect::<Vec<_>>(), [(5, 1), (2, 1)]);
        assert_eq!((found[0].given_probability, found[0].likely_probability), (0.05, 0.95));
    }

    #[test]
    fn a_class_of_two_samples_is_not_judged() {
        let probabilities = arr2(&[[0.1, 0.9], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]);
        assert!(mislabelled(probabilities.view(), &[0, 0, 1, 1, 1]).is_empty());
        assert_eq!(mislabelled(probabilities.view(), &[0, 0, 0, 1, 1]).len(), 3);
    }

    #[test]
    fn a_number_far_from_all_expectations_is_surprising() {
        let given = Array2::from_shape_fn((40, 1), |(row, _)| row as f64 + if row == 7 { 90.0 } else { 0.0 });
        let expected = Array2::from_shape_fn((40, 1), |(row, _)| row as f64 + 0.1 * ((row % 5) as f64 - 2.0));
        let found = surprising(expected.view(), given.view());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].row, found[0].given), (7, 97.0));
        assert!(surprising(given.view(), given.view()).is_empty(), "no errors, no surprise");
    }
}
