//! A learning curve: what a linear head reaches with a quarter, a half and all of the samples, and so what twice as many would give.

use super::folds::{Folds, numbers};
use super::left_out::answers_of;
use super::targets::Targets;
use crate::data::Labels;
use crate::order::Order;
use ndarray::{Array2, ArrayView1, Axis};
use serde::Serialize;

/// Samples from which on a gain is told. With 60 samples three of twelve forecasts were farther than three points from what came, in a trial of the
/// same rule in NumPy; with more see `benches/defaults/curve.py`.
const SAMPLES_MIN: usize = 100;
/// Samples that a curve is made of, at most: each head costs the third power of its samples.
const SAMPLES_MAX: usize = 1000;
/// Samples of a class, at least: a quarter of four fifths of them has one still.
const CLASS_MIN: usize = 5;
/// Of how many disjoint parts of a size the mean is taken.
const DRAWS: usize = 2;
/// What a doubling gains, of what the doubling before it gained: an error that falls to its least with the root of the samples.
const NEXT: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// Accuracies by the number of samples that a head learned from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearningCurve {
    /// Samples: a quarter, a half and all of four fifths.
    pub samples: [usize; 3],
    /// The accuracy on the fifths that were left out.
    pub accuracy: [f64; 3],
    /// What twice the samples that there are would add to the accuracy, as a share: never below 0.
    pub gain_of_twice: f64,
}

/// The curve of samples with one class each: five parts are left out in turn, and heads learn from the rest of the samples, from halves of it and from
/// quarters, all on the same features. The head is the ridge regression of [`super::left_out`]. `rows`: the features of `samples`
/// `[samples, features]`. `None` where classes or samples are too few to tell anything, or where it is `stopped`.
pub fn learning_curve(
    rows: &Array2<f32>,
    labels: &Labels,
    samples: &[usize],
    width: usize,
    stopped: &dyn Fn() -> bool,
) -> Option<LearningCurve> {
    let targets = Targets::new(labels, width);
    let class = |place: &usize| targets.class(samples[*place]);
    let mut counts = vec![0; width];
    (0..samples.len()).filter_map(|place| class(&place)).for_each(|class| counts[class] += 1);
    let least = counts.iter().filter(|count| **count > 0).min().copied().unwrap_or(0);
    if samples.len() < SAMPLES_MIN || least < CLASS_MIN {
        return None;
    }
    // A part of many samples, in which each class has its share.
    let mut places: Vec<usize> = (0..samples.len()).collect();
    places.order_by_key(class);
    let step = samples.len().div_ceil(SAMPLES_MAX);
    let used: Vec<usize> = places.into_iter().step_by(step).collect();
    let (rows, used) = (rows.select(Axis(0), &used), numbers(samples, &used));
    let folds = Folds::new(&rows, &used, &targets)?;
    let (mut right, mut asked, mut sizes) = ([0.0; 3], 0.0, [0; 3]);
    for (mut learned, left_out) in folds.parts() {
        learned.order_by_key(|place| targets.class(used[*place]));
        asked += left_out.len() as f64;
        for (size, share) in [4, 2, 1].into_iter().enumerate() {
            let draws = share.min(DRAWS);
            for draw in 0..draws {
                if stopped() {
                    return None;
                }
                let part: Vec<usize> = learned.iter().copied().skip(draw).step_by(share).collect();
                sizes[size] = part.len();
                right[size] += count_right(&rows, &used, &targets, (&part, &left_out)) as f64 / draws as f64;
            }
        }
    }
    let accuracy = right.map(|right| right / asked);
    let doublings = (step as f64 * used.len() as f64 / sizes[2] as f64).log2();
    Some(LearningCurve { samples: sizes, accuracy, gain_of_twice: gain(accuracy, doublings) })
}

/// What a doubling gains that begins so many doublings behind the last of three accuracies, each of twice the samples of the one before. The mean
/// of what the last doubling tells and of what the one before it tells.
fn gain([quarter, half, whole]: [f64; 3], doublings: f64) -> f64 {
    let next = (NEXT * (whole - half) + NEXT * NEXT * (half - quarter)) / 2.0;
    (next * NEXT.powf(doublings)).max(0.0)
}

/// How many of the places that were left out are answered rightly by a head of the others.
fn count_right(
    rows: &Array2<f32>,
    samples: &[usize],
    targets: &Targets<'_>,
    (learned, left_out): (&[usize], &[usize]),
) -> usize {
    let wanted = targets.signed(&numbers(samples, learned));
    let answers = answers_of(rows.select(Axis(0), learned), &wanted, rows.select(Axis(0), left_out));
    let likeliest = |row: &ArrayView1<f64>| (0..row.len()).max_by(|one, other| row[*one].total_cmp(&row[*other]));
    let is_right = |(row, place): &(ArrayView1<f64>, &usize)| targets.class(samples[**place]) == likeliest(row);
    answers.rows().into_iter().zip(left_out).filter(is_right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes around centres of their own, so far apart that more samples help up to a point.
    fn noisy(count: usize, noise: f32, seed: u64) -> (Array2<f32>, Labels) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut normal = || (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
        let rows = Array2::from_shape_fn((count, 30), |(row, feature)| {
            f32::from(u8::from(feature == row % 4)) + noise * normal()
        });
        let index = (0..count).map(|row| (row % 4) as u32).collect();
        (rows, Labels::Classes { names: ["a", "b", "c", "d"].map(String::from).to_vec(), index })
    }

    fn curve(count: usize, noise: f32) -> Option<LearningCurve> {
        curve_of(count, noise, 7)
    }

    fn curve_of(count: usize, noise: f32, seed: u64) -> Option<LearningCurve> {
        let (rows, labels) = noisy(count, noise, seed);
        let samples: Vec<usize> = (0..count).collect();
        learning_curve(&rows, &labels, &samples, 4, &|| false)
    }

    #[test]
    fn more_samples_help_where_the_head_is_still_learning() {
        let few = curve(120, 0.5).unwrap();
        assert_eq!(few.samples, [24, 48, 96]);
        assert!(few.accuracy[0] < few.accuracy[1] && few.accuracy[1] < few.accuracy[2], "{few:?}");
        assert!(few.gain_of_twice > 0.02, "{few:?}");
        let many = curve(3000, 0.5).unwrap();
        assert!(many.gain_of_twice < 0.01, "{many:?}");
    }

    #[test]
    fn the_forecast_is_what_twice_the_samples_give() {
        for count in [160, 240, 400] {
            let mean = |of: &dyn Fn(u64) -> f64| (0..8).map(of).sum::<f64>() / 8.0;
            let foretold = mean(&|seed| curve_of(count, 0.5, seed).unwrap().gain_of_twice);
            let came = mean(&|seed| {
                let accuracy = |count| curve_of(count, 0.5, seed).unwrap().accuracy[2];
                accuracy(2 * count) - accuracy(count)
            });
            assert!((foretold - came).abs() < 0.02, "{count}: {foretold} foretold, {came} came");
        }
    }

    #[test]
    fn what_is_learned_already_gains_nothing_and_too_few_tell_nothing() {
        assert_eq!(curve(200, 0.01).unwrap().gain_of_twice, 0.0);
        assert_eq!(curve(99, 0.5), None);
        let (rows, labels) = noisy(120, 0.5, 1);
        assert_eq!(learning_curve(&rows, &labels, &(0..120).collect::<Vec<_>>(), 4, &|| true), None, "stopped");
    }

    #[test]
    fn each_doubling_gains_less_by_the_root_of_two() {
        let floor = |n: f64| 0.9 - 0.8 / n.sqrt();
        let forecast = gain([floor(100.0), floor(200.0), floor(400.0)], 0.0);
        assert!((forecast - (floor(800.0) - floor(400.0))).abs() < 1e-12);
        let later = gain([floor(100.0), floor(200.0), floor(400.0)], 1.0);
        assert!((later - (floor(1600.0) - floor(800.0))).abs() < 1e-12);
        assert_eq!(gain([0.9, 0.8, 0.7], 0.0), 0.0);
    }
}
