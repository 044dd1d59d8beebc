//! A linear layer fitted by L-BFGS: Σ loss + ½·λ·Σ sⱼwⱼ² over all samples, the bias free of the penalty. sⱼ is the standard
//! deviation of feature j, divided by the root mean square of all of them. For cross-entropy that is what scikit-learn's
//! `LogisticRegression(C=1/λ)` minimises on features divided by √sⱼ, for three or more classes; for two it has one row of
//! weights where a layer has two, so that λ there is half of it.
//!
//! To divide by the root of the standard deviation is known as Pareto scaling (van den Berg et al. 2006,
//! doi:10.1186/1471-2164-7-142). It stands halfway between features as they are, where a few wide ones rule, and standardised
//! ones, where noise in narrow ones counts as much as what is wide. Either of the two costs several points on some data
//! (`benches/defaults`); the middle is within one point of the better on all of them.

use super::lbfgs;
use super::ridge::Layer;
use super::targets::Targets;
use crate::train::loss::Loss;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

/// Samples whose features are in f64 at a time.
const BLOCK: usize = 512;
/// Steps of L-BFGS for one λ, at most.
const ITERATIONS_MAX: usize = 2000;
/// The smallest standard deviation that a feature counts with, beside the root mean square of all: a nearly constant one would
/// get weights that fp16 holds too coarsely.
const NARROWEST: f64 = 0.01;

/// The samples that a layer is fitted to: centred and scaled while it is, which the result does not show.
pub struct Problem<'a> {
    /// `[samples, features]`
    rows: ArrayView2<'a, f32>,
    targets: Array2<f64>,
    weights: Vec<f64>,
    loss: Rowwise,
    intercept: bool,
    means: Array1<f64>,
    /// The features' root mean square after centring.
    scale: f64,
    /// What each feature is divided by.
    divisors: Array1<f64>,
    /// The weights that the penalty leads to, as they are while it is fitted; none leads to zero.
    towards: Option<Array2<f64>>,
}

/// The loss of one row of outputs.
#[derive(Debug, Clone, Copy)]
enum Rowwise {
    CrossEntropy,
    Binary,
    Huber(f64),
}

/// A fit, and how many steps it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// The layer.
    pub layer: Layer,
    /// Steps of L-BFGS.
    pub iterations: usize,
}

impl<'a> Problem<'a> {
    /// `rows` are the features of `samples`. `None` for a loss that ridge regression solves.
    pub fn new(
        rows: ArrayView2<'a, f32>,
        samples: &[usize],
        targets: &Targets<'_>,
        loss: &Loss,
        intercept: bool,
    ) -> Option<Self> {
        let (rowwise, smoothing) = match loss {
            Loss::CrossEntropy { label_smoothing, .. } => (Rowwise::CrossEntropy, f64::from(*label_smoothing)),
            Loss::BinaryCrossEntropy => (Rowwise::Binary, 0.0),
            Loss::Huber { delta } => (Rowwise::Huber(f64::from(*delta)), 0.0),
            Loss::MeanSquaredError
            | Loss::NextToken
            | Loss::Coral
            | Loss::TokenCrossEntropy { .. }
            | Loss::PixelCrossEntropy { .. }
            | Loss::Boxes { .. }
            | Loss::Ctc
            | Loss::Likeness { .. }
            | Loss::Normality { .. }
            | Loss::File(_) => {
                return None;
            }
        };
        let (table, weights) = table(samples, targets, loss, smoothing);
        let (count, width) = rows.dim();
        let n = count.max(1) as f64;
        let sums = rows.fold_axis(Axis(0), 0.0f64, |sum, x| sum + f64::from(*x));
        let means = if intercept { sums / n } else { Array1::zeros(width) };
        let variances = variances(rows, &means);
        let scale = (variances.sum() / width.max(1) as f64).sqrt();
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let divisors = variances.mapv(|variance| match variance.sqrt() {
            deviation if deviation > 0.0 => (deviation.max(NARROWEST * scale) * scale).sqrt(),
            _ => scale,
        });
        Some(Self { rows, targets: table, weights, loss: rowwise, intercept, means, scale, divisors, towards: None })
    }

    /// Has the penalty lead to the weights of that layer, in the place of zero (L2-SP: Li, Grandvalet and Davoine 2018, arXiv 1802.01483).
    pub fn towards(self, layer: &Layer) -> Self {
        Self { towards: Some(&layer.weights * &self.divisors), ..self }
    }

    /// λ from 10 down to 10⁻⁵ of the samples' scatter a feature, one a decade.
    pub fn grid(&self) -> Vec<f64> {
        let scatter = self.rows.nrows() as f64 * self.scale * self.scale;
        (-5..=1).rev().map(|decade| scatter * 10f64.powi(decade)).collect()
    }

    /// The layer for a λ above 0, beginning at another; to a gradient of `tolerance` a sample.
    pub fn fit(&self, lambda: f64, start: Option<&Layer>, tolerance: f64, go_on: &dyn Fn() -> bool) -> Fitted {
        let (outputs, width) = (self.targets.ncols(), self.rows.ncols());
        let start = start.map_or_else(|| vec![0.0; outputs * (width + 1)], |layer| self.scaled(layer));
        let penalty = lambda / (self.scale * self.scale);
        let mut function = |x: &[f64], gradient: &mut [f64]| self.value(x, penalty, gradient);
        let tolerance = tolerance * self.rows.nrows() as f64;
        let found = lbfgs::minimize(start, tolerance, ITERATIONS_MAX, &mut function, go_on);
        Fitted { layer: self.unscaled(&found.x), iterations: found.iterations }
    }

    fn scaled(&self, layer: &Layer) -> Vec<f64> {
        let bias = &layer.bias + &layer.weights.dot(&self.means);
        (&layer.weights * &self.divisors).iter().copied().chain(bias).collect()
    }

    fn unscaled(&self, x: &[f64]) -> Layer {
        let (outputs, width) = (self.targets.ncols(), self.rows.ncols());
        let (weights, bias) = x.split_at(outputs * width);
        let weights = Array2::from_shape_fn((outputs, width), |(row, column)| {
            weights[row * width + column] / self.divisors[column]
        });
        let bias = Array1::from(bias.to_vec()) - weights.dot(&self.means);
        Layer { weights, bias }
    }

    /// Σ loss + ½·penalty‖W‖² and its gradient, for W and b of centred and scaled features one after the other.
    fn value(&self, x: &[f64], penalty: f64, gradient: &mut [f64]) -> f64 {
        let (outputs, width) = (self.targets.ncols(), self.rows.ncols());
        let (w, b) = x.split_at(outputs * width);
        let w = ndarray::ArrayView2::from_shape((outputs, width), w).expect("the sizes are those of the layer");
        let away = self.towards.as_ref().map_or_else(|| w.to_owned(), |towards| &w - towards);
        let mut sum = 0.5 * penalty * away.iter().map(|w| w * w).sum::<f64>();
        let mut dw = penalty * away;
        let mut db = Array1::<f64>::zeros(outputs);
        for start in (0..self.rows.nrows()).step_by(BLOCK) {
            let end = self.rows.nrows().min(start + BLOCK);
            let mut rows = self.rows.slice(s![start..end, ..]).mapv(f64::from);
            rows -= &self.means;
            rows /= &self.divisors;
            // Row by row in memory, which `dot` does not promise.
            let mut z = Array2::zeros((end - start, outputs)) + ArrayView1::from(b);
            ndarray::linalg::general_mat_mul(1.0, &rows, &w.t(), 1.0, &mut z);
            for (place, mut z) in (start..end).zip(z.rows_mut()) {
                let (target, weight) = (self.targets.row(place), self.weights[place]);
                sum += weight * self.loss.row(z.as_slice_mut().expect("a row is contiguous"), target);
                z *= weight;
            }
            db += &z.sum_axis(Axis(0));
            ndarray::linalg::general_mat_mul(1.0, &z.t(), &rows, 1.0, &mut dw);
        }
        if !self.intercept {
            db.fill(0.0);
        }
        gradient.iter_mut().zip(dw.iter().chain(&db)).for_each(|(to, from)| *to = *from);
        sum
    }
}

impl Rowwise {
    /// The loss of outputs z; turns them into its gradient.
    fn row(self, z: &mut [f64], target: ArrayView1<f64>) -> f64 {
        match self {
            // With Σ t = 1 or, where classes are weighted, another total: Σ t · (log Σ eᶻ − z).
            Rowwise::CrossEntropy => {
                let top = z.iter().fold(f64::NEG_INFINITY, |top, z| top.max(*z));
                let powers: f64 = z.iter().map(|z| (z - top).exp()).sum();
                let (log, total) = (top + powers.ln(), target.sum());
                let loss = z.iter().zip(&target).map(|(z, t)| t * (log - z)).sum();
                z.iter_mut().zip(&target).for_each(|(z, t)| *z = total * (*z - log).exp() - t);
                loss
            }
            Rowwise::Binary => {
                let loss = z.iter().zip(&target).map(|(z, t)| z.max(0.0) - z * t + (-z.abs()).exp().ln_1p()).sum();
                z.iter_mut().zip(&target).for_each(|(z, t)| *z = 1.0 / (1.0 + (-*z).exp()) - t);
                loss
            }
            Rowwise::Huber(delta) => {
                let mut loss = 0.0;
                for (z, t) in z.iter_mut().zip(&target) {
                    let error = *z - t;
                    *z = error.clamp(-delta, delta);
                    loss += z.abs() * (error.abs() - 0.5 * z.abs());
                }
                loss
            }
        }
    }
}

/// The rows of targets, smoothed and weighted as [`Loss::CrossEntropy`] says, and a factor for each sample.
fn table(samples: &[usize], targets: &Targets<'_>, loss: &Loss, smoothing: f64) -> (Array2<f64>, Vec<f64>) {
    let class_weights = targets.class_weights(loss);
    let mut table = Array2::zeros((samples.len(), targets.width));
    for (mut row, sample) in table.rows_mut().into_iter().zip(samples) {
        targets.row(*sample, row.as_slice_mut().expect("a row is contiguous"));
        if targets.is_one_class() {
            row.mapv_inplace(|target| (1.0 - smoothing) * target + smoothing / targets.width as f64);
            row.iter_mut().zip(&class_weights).for_each(|(target, weight)| *target *= weight);
        }
    }
    // The mean weight is 1, so that λ means the same with weights and without.
    let total: f64 =
        samples.iter().map(|sample| targets.class(*sample).map_or(1.0, |class| class_weights[class])).sum();
    (table, vec![samples.len() as f64 / total.max(f64::MIN_POSITIVE); samples.len()])
}

/// The mean squared distance of each feature from its centre.
pub(super) fn variances(rows: ArrayView2<f32>, means: &Array1<f64>) -> Array1<f64> {
    let mut squares = Array1::<f64>::zeros(means.len());
    for row in rows.rows() {
        squares.iter_mut().zip(row).zip(means).for_each(|((sum, x), mean)| *sum += (f64::from(*x) - mean).powi(2));
    }
    squares / rows.nrows().max(1) as f64
}
