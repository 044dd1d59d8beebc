//! What a linear head would answer to each sample had it not learned from it.

use super::logistic::variances;
use super::targets::Targets;
use super::temperature;
use crate::data::Labels;
use crate::ridge::{Moments, Ridge};
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Samples that are summed up at a time.
const CHUNK: usize = 256;

/// For each row of features `[samples, inputs]` the answer of a ridge regression of all others, its penalty by generalised
/// cross-validation: probabilities `[samples, classes]` where labels are one class each, else numbers `[samples, targets]`.
///
/// Features are in Pareto scaling, as where a head is fitted ([`super::logistic`]).
pub fn left_out(rows: Array2<f32>, labels: &Labels, samples: &[usize], width: usize) -> Array2<f64> {
    let targets = Targets::new(labels, width);
    let mut found = regressed(rows, &targets.signed(samples));
    if targets.is_one_class() {
        let factor = temperature::fit(&found, samples, &targets);
        found.rows_mut().into_iter().for_each(|row| softmax(row, factor));
    }
    found
}

/// For each row of features the squared distance of the answer of a ridge regression of all others from what the labels want, as
/// [`left_out`] makes it; classes are 1 and -1.
pub fn squared_errors(rows: Array2<f32>, labels: &Labels, samples: &[usize], width: usize) -> Vec<f64> {
    let wanted = Targets::new(labels, width).signed(samples);
    let missed = regressed(rows, &wanted) - wanted;
    missed.rows().into_iter().map(|row| row.dot(&row)).collect()
}

/// What the regression of all others answers to each row.
fn regressed(mut rows: Array2<f32>, wanted: &Array2<f64>) -> Array2<f64> {
    let deviations = deviations_of(&rows);
    scale(&mut rows, &deviations);
    let (problem, lambda) = posed(&rows, wanted);
    problem.left_out(lambda, rows.view(), wanted.view())
}

/// What the same regression of some rows, with the targets that are wanted of them, answers to others: `[others, targets]`.
pub(super) fn answers_of(mut rows: Array2<f32>, wanted: &Array2<f64>, mut others: Array2<f32>) -> Array2<f64> {
    let deviations = deviations_of(&rows);
    scale(&mut rows, &deviations);
    scale(&mut others, &deviations);
    let (problem, lambda) = posed(&rows, wanted);
    problem.solve(lambda).apply(others.view())
}

/// The regression of scaled rows, and its penalty.
fn posed(rows: &Array2<f32>, wanted: &Array2<f64>) -> (Ridge, f64) {
    let problem = if rows.nrows() > rows.ncols() {
        let mut moments = Moments::new(rows.ncols(), wanted.ncols(), true);
        for (x, y) in rows.axis_chunks_iter(Axis(0), CHUNK).zip(wanted.axis_chunks_iter(Axis(0), CHUNK)) {
            moments.add(x, y);
        }
        moments.into_ridge()
    } else {
        Ridge::dual(rows.clone(), wanted.view(), true)
    };
    let lambda = problem.choose(&problem.grid());
    (problem, lambda)
}

fn softmax(mut row: ndarray::ArrayViewMut1<f64>, factor: f64) {
    let top = row.iter().fold(f64::NEG_INFINITY, |top, z| top.max(*z));
    row.mapv_inplace(|z| (factor * (z - top)).exp());
    let sum = row.sum();
    row.mapv_inplace(|power| power / sum);
}

fn deviations_of(rows: &Array2<f32>) -> Array1<f64> {
    variances(rows.view(), &means(rows.view())).mapv(f64::sqrt)
}

/// Divides each feature by the root of its standard deviation; one that never changes stays.
fn scale(rows: &mut Array2<f32>, deviations: &Array1<f64>) {
    for (mut column, deviation) in rows.columns_mut().into_iter().zip(deviations) {
        if *deviation > 0.0 {
            column.mapv_inplace(|value| (f64::from(value) / deviation.sqrt()) as f32);
        }
    }
}

fn means(rows: ArrayView2<f32>) -> Array1<f64> {
    rows.fold_axis(Axis(0), 0.0f64, |sum, value| sum + f64::from(*value)) / rows.nrows().max(1) as f64
}
