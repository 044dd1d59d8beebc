//! One factor for all logits, so that softmax or sigmoid of them are probabilities (temperature scaling, Guo et al. 2017,
//! arXiv 1706.04599; here its inverse).

use super::targets::Targets;
use ndarray::{Array2, ArrayView1};

/// Bounds of the factor: none at all, and more than any logit needs.
const FACTORS: [f64; 2] = [1e-3, 1e4];

/// The factor s that minimises the mean cross-entropy of s·logits, which is convex in s. Newton's steps, kept between the
/// bounds that the slope's sign has shown.
///
/// `logits`: `[samples, width]`; `samples` are their numbers in `targets`.
pub fn fit(logits: &Array2<f64>, samples: &[usize], targets: &Targets<'_>) -> f64 {
    fit_with_doubt(logits, samples, targets, 0.0)
}

/// The same where each target has a share of doubt that every class has a part of: without any, samples that are all answered rightly would
/// make every answer certain.
pub fn fit_with_doubt(logits: &Array2<f64>, samples: &[usize], targets: &Targets<'_>, doubt: f64) -> f64 {
    let [mut low, mut high] = FACTORS;
    let mut factor = 1.0;
    let mut target = vec![0.0; logits.ncols()];
    for _ in 0..100 {
        let (mut slope, mut curvature) = (0.0, 0.0);
        for (row, sample) in logits.rows().into_iter().zip(samples) {
            targets.row(*sample, &mut target);
            let even = doubt / target.len().max(1) as f64;
            target.iter_mut().for_each(|share| *share = (1.0 - doubt) * *share + even);
            let (first, second) = derivatives(row, factor, &target, targets.is_one_class());
            slope += first;
            curvature += second;
        }
        if slope > 0.0 {
            high = factor
        } else {
            low = factor
        }
        let step = factor - slope / curvature;
        let next = if step > low && step < high { step } else { (low * high).sqrt() };
        if (next / factor - 1.0).abs() < 1e-9 {
            return next;
        }
        factor = next;
    }
    factor
}

/// First and second derivative by s of the cross-entropy of one row.
fn derivatives(logits: ArrayView1<f64>, factor: f64, target: &[f64], one_class: bool) -> (f64, f64) {
    if one_class {
        let top = logits.iter().fold(f64::NEG_INFINITY, |top, z| top.max(*z));
        let power = |z: &f64| (factor * (z - top)).exp();
        let sum: f64 = logits.iter().map(power).sum();
        let mean: f64 = logits.iter().map(|z| z * power(z)).sum::<f64>() / sum;
        let spread: f64 = logits.iter().map(|z| (z - mean).powi(2) * power(z)).sum::<f64>() / sum;
        let wanted: f64 = logits.iter().zip(target).map(|(z, t)| z * t).sum();
        return (mean - wanted, spread);
    }
    let each = |(z, target): (&f64, &f64)| {
        let p = 1.0 / (1.0 + (-factor * z).exp());
        ((p - target) * z, p * (1.0 - p) * z * z)
    };
    logits.iter().zip(target).map(each).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}
