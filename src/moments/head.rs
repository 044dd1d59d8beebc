//! A linear head from sums alone: ridge regression with λ by generalised cross-validation, scores of classes made logits, and what
//! each sample would be given had it not been learned from.

use super::basis::Basis;
use super::error::{Error, Field, ensure};
use super::owned::Moments;
use super::small::{factor, substitute};
use crate::delta::Task;
use crate::ridge::{Equations, Layer, Ridge};
use ndarray::{Array1, Array2, ArrayView1, Axis, s};

/// Bounds of the factor that makes scores logits, and what it is where no class has two samples to tell by.
const FACTORS: (f64, f64) = (1e-3, 1e4);
const LONE_FACTOR: f64 = 5.0;
/// What is left of the factor of normal distributions: features have heavier tails. Measured on the demo: of 10.4, 11.4 and 12.2 (96, 256
/// and 1,280 coordinates) 5.1, 5.0 and 5.1 were right.
const TAILS: f64 = 0.5;

/// A head that was solved for.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Of the features: weights `[targets, features]` and biases, classes' scores as logits.
    pub layer: Layer,
    /// λ of ½·λ‖W‖² beside the sum over samples.
    pub l2: f64,
    /// The share of freedom that the fit leaves: see [`Ridge::freedom`].
    pub freedom: f64,
    /// What scores were multiplied by to be logits; 1 for numbers.
    pub factor: f64,
    /// Of the coordinates times their steps, before that factor.
    along: Layer,
    task: Task,
    target_step: f64,
}

impl Head {
    /// The same head with its outputs in another order: each from the place that `order` says.
    pub fn in_order(mut self, order: &[usize]) -> Self {
        for layer in [&mut self.layer, &mut self.along] {
            layer.weights = layer.weights.select(Axis(0), order);
            layer.bias = layer.bias.select(Axis(0), order);
        }
        self
    }

    /// Of classes, the one that a sample of these coordinates most likely is, and its share of softmax.
    pub fn surest(&self, coordinates: &[i16], basis: &Basis) -> (usize, f64) {
        let x = coordinates.iter().zip(basis.steps()).map(|(z, step)| f64::from(*z) * f64::from(*step));
        let scores = (self.along.weights.dot(&x.collect::<Array1<f64>>()) + &self.along.bias) * self.factor;
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
        (best, 1.0 / scores.iter().map(|score| (score - scores[best]).exp()).sum::<f64>())
    }

    /// The same head with outputs so many times as large: for logits that are to be probabilities.
    pub fn scaled(mut self, factor: f64) -> Self {
        self.layer.weights *= factor;
        self.layer.bias *= factor;
        self.factor *= factor;
        self
    }
}

/// Solves for the head of some moments. `l2`: the penalty, or `None` to have it chosen. Equal moments give equal heads, to the bit.
///
/// # Errors
/// Another basis than that of the moments, no sample, a penalty that is none.
pub fn head(moments: &Moments, basis: &Basis, l2: Option<f64>) -> Result<Head, Error> {
    let (about, sums) = (moments.about(), moments.sums());
    ensure(about.basis == basis.hash() && about.features as usize == basis.features(), Error::OtherBasis)?;
    ensure(sums.samples() > 0, Error::Wrong(Field::Samples))?;
    ensure(l2.is_none_or(|l2| l2 > 0.0 && l2.is_finite()), Error::Penalty)?;
    let ridge = Ridge::new(equations(moments, basis));
    let l2 = l2.unwrap_or_else(|| ridge.choose(&ridge.grid()));
    let (along, freedom) = (ridge.solve(l2), ridge.freedom(l2));
    let factor = match about.task {
        Task::Classification => factor_of_classes(moments, basis, (&along, freedom)),
        Task::MultiLabel => factor_of_sets(moments, basis, (&along, freedom)),
        _ => f64::from(about.target_step),
    };
    let weights = if basis.kind() == super::Directions::Identity {
        along.weights.clone()
    } else {
        along.weights.dot(&basis.directions().mapv(f64::from).t())
    };
    let mut bias = along.bias.clone();
    if !basis.center().is_empty() {
        bias -= &weights.dot(&ArrayView1::from(basis.center()).mapv(f64::from));
    }
    let layer = Layer { weights: weights * factor, bias: bias * factor };
    let target_step = f64::from(about.target_step);
    Ok(Head { layer, l2, freedom, factor, along, task: about.task, target_step })
}

/// The ridge problem in coordinates times their steps, which are features turned: λ means there what it means for the features.
/// Classes are ±1.
fn equations(moments: &Moments, basis: &Basis) -> Equations {
    let (sums, shape) = (moments.sums(), moments.sums().shape());
    let (m, k, n) = (shape.coordinates, shape.targets, sums.samples() as f64);
    let step = |i: usize| f64::from(basis.steps()[i]);
    let (scale, shift) = if shape.task == Task::Regression { (1.0, 0.0) } else { (2.0, -1.0) };
    let product = |(i, j): (usize, usize)| if j <= i { step(i) * step(j) * sums.centered_product(j, i) } else { 0.0 };
    Equations {
        count: sums.samples() as usize,
        intercept: true,
        feature_means: (0..m).map(|i| step(i) * sums.sum(i) as f64 / n).collect(),
        target_means: (0..k).map(|target| shift + scale * sums.count(target) as f64 / n).collect(),
        products: Array2::from_shape_fn((m, m), product),
        mixed: Array2::from_shape_fn((m, k), |(i, target)| scale * step(i) * sums.centered_mixed(i, target)),
        targets_squared: (0..k).map(|target| scale * scale * sums.centered_square(target)).sum(),
    }
}

/// Σ of (z − its class's mean)·(z − its class's mean)ᵀ in coordinates times their steps, `[m, m]`; for classes alone.
pub(super) fn within_classes(moments: &Moments, basis: &Basis) -> Array2<f64> {
    let (sums, shape) = (moments.sums(), moments.sums().shape());
    let step = |i: usize| f64::from(basis.steps()[i]);
    let mut within = Array2::zeros((shape.coordinates, shape.coordinates));
    // Between the classes' means, seen from the mean of all: little cancels then.
    let n = sums.samples() as f64;
    let counted: Vec<usize> = (0..shape.targets).filter(|class| sums.count(*class) > 0).collect();
    let away = Array2::from_shape_fn((counted.len(), shape.coordinates), |(place, i)| {
        let (class, count) = (counted[place], sums.count(counted[place]) as f64);
        step(i) * (sums.mixed(i, class) as f64 / count - sums.sum(i) as f64 / n) * count.sqrt()
    });
    let between = away.t().dot(&away);
    for i in 0..shape.coordinates {
        for j in i..shape.coordinates {
            let value = step(i) * step(j) * sums.centered_product(i, j) - between[(i, j)];
            (within[(i, j)], within[(j, i)]) = (value, value);
        }
    }
    within
}

/// Σ of (z − the mean)·(z − the mean)ᵀ in coordinates times their steps, `[m, m]`.
pub(super) fn total_scatter(moments: &Moments, basis: &Basis) -> Array2<f64> {
    let (sums, m) = (moments.sums(), moments.sums().shape().coordinates);
    let step = |i: usize| f64::from(basis.steps()[i]);
    Array2::from_shape_fn((m, m), |(i, j)| step(i) * step(j) * sums.centered_product(i.min(j), i.max(j)))
}

/// Mean of each class in coordinates times their steps, `[classes, m]`; zeros for a class without samples.
pub(super) fn class_means(moments: &Moments, basis: &Basis) -> Array2<f64> {
    let (sums, shape) = (moments.sums(), moments.sums().shape());
    Array2::from_shape_fn((shape.targets, shape.coordinates), |(class, i)| {
        f64::from(basis.steps()[i]) * sums.mixed(i, class) as f64 / sums.count(class).max(1) as f64
    })
}

/// What makes scores of classes logits, from the sums alone. For two normal distributions of one variance v whose means are δ apart, the
/// logit is δ/v times the score's way from the middle (linear discriminant analysis); here δ and v are those of the difference of two
/// classes' scores, as they would be for samples that had not been fitted: a residual divided by the freedom that the fit leaves. One
/// factor has to do for all pairs, and cross-entropy is lost where two classes overlap, so a pair counts by its overlap, e^(−δ²/8v).
fn factor_of_classes(moments: &Moments, basis: &Basis, (layer, freedom): (&Layer, f64)) -> f64 {
    let sums = moments.sums();
    let counted: Vec<usize> = (0..sums.shape().targets).filter(|class| sums.count(*class) > 0).collect();
    let free = sums.samples() as f64 - counted.len() as f64;
    if free <= 0.0 || counted.len() < 2 {
        return LONE_FACTOR;
    }
    let spread = layer.weights.dot(&within_classes(moments, basis)).dot(&layer.weights.t()) / free;
    let scores = class_means(moments, basis).dot(&layer.weights.t()) + &layer.bias;
    let (mut slopes, mut weights) = (0.0, 0.0);
    for (place, &a) in counted.iter().enumerate() {
        for &b in &counted[place + 1..] {
            let fitted = |own: usize, other: usize| scores[(own, own)] - scores[(own, other)];
            let left_out = |fitted: f64| 2.0 - (2.0 - fitted) / freedom;
            let apart = left_out(fitted(a, b)) + left_out(fitted(b, a));
            let variance = (spread[(a, a)] + spread[(b, b)] - 2.0 * spread[(a, b)]) / (freedom * freedom);
            if variance > 0.0 && apart > 0.0 {
                let overlap = (-apart * apart / (8.0 * variance)).exp();
                let weight = (sums.count(a) + sums.count(b)) as f64 * overlap;
                (slopes, weights) = (slopes + weight * apart / variance, weights + weight);
            }
        }
    }
    if weights > 0.0 { (TAILS * slopes / weights).clamp(FACTORS.0, FACTORS.1) } else { LONE_FACTOR }
}

/// As [`factor_of_classes`] for classes that a sample has or has not: each is a pair of its own.
fn factor_of_sets(moments: &Moments, basis: &Basis, (layer, freedom): (&Layer, f64)) -> f64 {
    let (sums, shape) = (moments.sums(), moments.sums().shape());
    let (m, n) = (shape.coordinates, sums.samples() as f64);
    let step = |i: usize| f64::from(basis.steps()[i]);
    let products = total_scatter(moments, basis);
    let (mut slopes, mut counted) = (0.0, 0.0);
    for target in 0..shape.targets {
        let row = layer.weights.row(target);
        let mixed: f64 = (0..m).map(|i| row[i] * step(i) * sums.centered_mixed(i, target)).sum();
        let share = sums.centered_square(target);
        if share <= 0.0 {
            continue;
        }
        let apart = mixed / share;
        let variance = (row.dot(&products.dot(&row)) - apart * mixed).max(0.0) / n / (freedom * freedom);
        if variance > 0.0 {
            (slopes, counted) = (slopes + (2.0 - (2.0 - apart) / freedom) / variance, counted + 1.0);
        }
    }
    if counted > 0.0 { (TAILS * slopes / counted).clamp(FACTORS.0, FACTORS.1) } else { LONE_FACTOR }
}

/// What samples would be given had they not been learned from, each for itself and without solving anew (PRESS; Allen 1974).
#[derive(Debug, Clone)]
pub struct LeftOut<'a> {
    head: &'a Head,
    steps: &'a [f32],
    means: Array1<f64>,
    samples: f64,
    lower: Vec<f64>,
}

impl<'a> LeftOut<'a> {
    /// For samples that are in the moments from which the head was solved.
    ///
    /// # Errors
    /// Sums that are singular with that penalty.
    pub fn new(moments: &Moments, basis: &'a Basis, head: &'a Head) -> Result<Self, Error> {
        let equations = equations(moments, basis);
        let m = basis.coordinates();
        let mut lower = Vec::with_capacity(m * (m + 1) / 2);
        for (i, row) in equations.products.rows().into_iter().enumerate() {
            lower.extend(row.slice(s![..=i]));
            lower[(i * (i + 1)) / 2 + i] += head.l2;
        }
        ensure(factor(&mut lower, m), Error::Penalty)?;
        let samples = moments.samples() as f64;
        Ok(Self { head, steps: basis.steps(), means: equations.feature_means, samples, lower })
    }

    /// The output for a sample of these coordinates and targets, had it not been learned from: logits of classes, or numbers.
    /// `targets`: a number each, 0 or 1 for classes, in units for regression.
    pub fn output(&self, coordinates: &[i16], targets: &[f64]) -> Vec<f64> {
        let x: Array1<f64> =
            coordinates.iter().zip(self.steps).map(|(z, step)| f64::from(*z) * f64::from(*step)).collect();
        let away = &x - &self.means;
        let mut solved = away.to_vec();
        substitute(&self.lower, &mut solved);
        let leverage = 1.0 / self.samples + away.iter().zip(&solved).map(|(a, b)| a * b).sum::<f64>();
        let free = (1.0 - leverage).max(f64::EPSILON);
        let Head { along, factor, task, target_step, .. } = self.head;
        let fitted = along.weights.dot(&x) + &along.bias;
        let coded = |y: f64| if *task == Task::Regression { y / target_step } else { 2.0 * y - 1.0 };
        fitted.iter().zip(targets).map(|(fitted, y)| factor * (coded(*y) - (coded(*y) - fitted) / free)).collect()
    }
}
