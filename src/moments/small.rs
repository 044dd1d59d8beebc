//! Solving without the standard library and without an allocator: A = L·D·Lᵀ (Cholesky's without roots; Golub and Van Loan,
//! *Matrix Computations*, section 4.1.2) in memory that the caller lends.

use super::error::{Error, Field, ensure};
use super::sums::Sums;
use crate::delta::Task;

/// Numbers that [`solve`] and [`possible`] need lent: the lower triangle and a row.
pub const fn work(coordinates: usize) -> usize {
    coordinates * (coordinates + 1) / 2 + coordinates
}

/// Overwrites a symmetric matrix, its lower triangle packed row by row, with L and D; false unless it is positive definite.
pub(super) fn factor(matrix: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        let (above, row) = matrix.split_at_mut(i * (i + 1) / 2);
        let row = &mut row[..=i];
        // Row i of L·D first; dividing by D comes behind, for what stands to the right needs both.
        for j in 0..i {
            let other = &above[j * (j + 1) / 2..][..j];
            let known: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] -= known;
        }
        for j in 0..i {
            let pivot = above[j * (j + 1) / 2 + j];
            let scaled = row[j] / pivot;
            row[i] -= row[j] * scaled;
            row[j] = scaled;
        }
        if !(row[i] > 0.0 && row[i].is_finite()) {
            return false;
        }
    }
    true
}

/// x ← A⁻¹·x with what [`factor`] has left.
pub(super) fn substitute(matrix: &[f64], x: &mut [f64]) {
    let row = |i: usize| &matrix[i * (i + 1) / 2..][..=i];
    for i in 0..x.len() {
        let known: f64 = row(i)[..i].iter().zip(&*x).map(|(l, x)| l * x).sum();
        x[i] -= known;
    }
    x.iter_mut().enumerate().for_each(|(i, x)| *x /= row(i)[i]);
    for i in (0..x.len()).rev() {
        let last = x[i];
        row(i)[..i].iter().zip(x.iter_mut()).for_each(|(l, x)| *x -= l * last);
    }
}

impl<C: AsRef<[i64]>> Sums<C> {
    /// Σ zᵢ·zⱼ less what the means explain, i ≤ j. The difference is taken of integers: nothing cancels.
    pub fn centered_product(&self, i: usize, j: usize) -> f64 {
        self.less_means(self.product(i, j), self.sum(i), self.sum(j))
    }

    /// Σ zᵢ·yₖ less what the means explain.
    pub fn centered_mixed(&self, i: usize, target: usize) -> f64 {
        self.less_means(self.mixed(i, target), self.sum(i), self.count(target))
    }

    /// Σ yₖ² less what the mean explains.
    pub fn centered_square(&self, target: usize) -> f64 {
        self.less_means(self.square(target), self.count(target), self.count(target))
    }

    fn less_means(&self, product: i64, sum: i64, other: i64) -> f64 {
        let n = i128::from(self.samples().max(1));
        let explained = i128::from(sum) * i128::from(other);
        let (whole, rest) = (explained.div_euclid(n), explained.rem_euclid(n));
        (i128::from(product) - whole) as f64 - rest as f64 / n as f64
    }
}

/// Ridge regression from sums: for each target the weights of the coordinates times their steps, and behind them the intercept,
/// which is free of the penalty: `[targets, coordinates + 1]` into `weights`. Targets of classes are ±1.
///
/// `penalty` is λ in mean eigenvalues of the centred Σ z·zᵀ. `lent` has [`work`] numbers; the time is that of one Cholesky.
///
/// # Errors
/// Slices of other sizes, [`Error::Penalty`], no sample.
pub fn solve<C: AsRef<[i64]>>(
    sums: &Sums<C>,
    steps: &[f32],
    penalty: f64,
    lent: &mut [f64],
    weights: &mut [f64],
) -> Result<(), Error> {
    let shape = sums.shape();
    let m = shape.coordinates;
    let fits = steps.len() == m && lent.len() == work(m) && weights.len() == shape.targets * (m + 1);
    ensure(fits, Error::Shape)?;
    ensure(sums.samples() > 0, Error::Impossible(Field::Samples))?;
    ensure(penalty > 0.0 && penalty.is_finite(), Error::Penalty)?;
    let (matrix, _) = lent.split_at_mut(m * (m + 1) / 2);
    let step = |i: usize| f64::from(steps[i]);
    for i in 0..m {
        for j in 0..=i {
            matrix[i * (i + 1) / 2 + j] = step(i) * step(j) * sums.centered_product(j, i);
        }
    }
    let diagonal = |i: usize| i * (i + 1) / 2 + i;
    let mean = (0..m).map(|i| matrix[diagonal(i)]).sum::<f64>() / m as f64;
    let lambda = penalty * if mean > 0.0 { mean } else { 1.0 };
    (0..m).for_each(|i| matrix[diagonal(i)] += lambda);
    ensure(factor(matrix, m), Error::Penalty)?;
    let n = sums.samples() as f64;
    let (scale, shift) = if shape.task == Task::Regression { (1.0, 0.0) } else { (2.0, -1.0) };
    for (target, row) in weights.chunks_exact_mut(m + 1).enumerate() {
        let (row, intercept) = row.split_at_mut(m);
        row.iter_mut().enumerate().for_each(|(i, x)| *x = scale * step(i) * sums.centered_mixed(i, target));
        substitute(matrix, row);
        let explained: f64 = row.iter().enumerate().map(|(i, w)| w * step(i) * sums.sum(i) as f64).sum();
        intercept[0] = shift + (scale * sums.count(target) as f64 - explained) / n;
    }
    Ok(())
}

/// What of the largest product counts as rounding where a matrix is tested.
const ROUNDING: f64 = 1.0 / (1u64 << 30) as f64;

/// That sums can be those of data: what is left of Σ z·zᵀ within the classes, or without the mean, is positive semidefinite, and no
/// target is explained better than perfectly. Cells that were checked before ([`Sums::from_cells`]) are needed. `lent` has [`work`] numbers.
///
/// # Errors
/// [`Error::Impossible`] with [`Field::Scatter`] or [`Field::Mixed`].
pub fn possible<C: AsRef<[i64]>>(sums: &Sums<C>, lent: &mut [f64]) -> Result<(), Error> {
    let shape = sums.shape();
    let m = shape.coordinates;
    ensure(lent.len() == work(m), Error::Shape)?;
    let (matrix, row) = lent.split_at_mut(m * (m + 1) / 2);
    let largest = (0..m).map(|i| sums.product(i, i)).max().unwrap_or(0) as f64;
    if largest == 0.0 {
        return Ok(());
    }
    let classes = shape.task == Task::Classification;
    for i in 0..m {
        for j in 0..=i {
            matrix[i * (i + 1) / 2 + j] = if classes { sums.product(j, i) as f64 } else { sums.centered_product(j, i) };
        }
    }
    for class in (0..shape.targets).filter(|class| classes && sums.count(*class) > 0) {
        let n = sums.count(class) as f64;
        row.iter_mut().enumerate().for_each(|(i, x)| *x = sums.mixed(i, class) as f64);
        for i in 0..m {
            let mean = row[i] / n;
            matrix[i * (i + 1) / 2..][..=i].iter_mut().zip(&*row).for_each(|(cell, sum)| *cell -= mean * sum);
        }
    }
    (0..m).for_each(|i| matrix[i * (i + 1) / 2 + i] += ROUNDING * largest);
    ensure(factor(matrix, m), Error::Impossible(Field::Scatter))?;
    for target in (0..shape.targets).filter(|_| !classes) {
        row.iter_mut().enumerate().for_each(|(i, x)| *x = sums.centered_mixed(i, target));
        substitute(matrix, row);
        let explained: f64 = row.iter().enumerate().map(|(i, w)| w * sums.centered_mixed(i, target)).sum();
        let all = sums.centered_square(target);
        ensure(explained <= all + 1e-6 * (all.abs() + 1.0), Error::Impossible(Field::Mixed))?;
    }
    Ok(())
}
