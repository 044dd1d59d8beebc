//! What normal samples are: a layer whose output is the longer, the farther a sample is from them.
//!
//! `residual`: the length of what the principal directions of the normal samples' features leave (Jackson and Mudholkar 1979). `mahalanobis`: the
//! same with each principal direction by its own spread, and all that they leave by the mean of its own, which is the distance of probabilistic
//! PCA (Tipping and Bishop 1999). What is left has as many dimensions as the features; where the layer has fewer outputs, it is projected on random
//! orthogonal ones, which keep lengths nearly (Johnson and Lindenstrauss 1984). The layer is scaled so that the threshold is 1.

use super::Layer;
use crate::factor;
use crate::order::Order;
use crate::train::error::Error;
use ndarray::{Array1, Array2, Axis, concatenate, s};

/// Principal directions at most.
const DIRECTIONS_MAX: usize = 64;
/// What of a length counts as nothing, for it is no more than rounding: of features that vary in a few directions nothing else is left.
const LEAST: f64 = 1e-3;
/// Samples for each direction.
const SAMPLES_EACH: usize = 4;
/// Normal samples that tell directions, and held-out ones that tell the threshold, at least.
const TRAIN_MIN: usize = 8;
const HELD_OUT_MIN: usize = 5;

/// Whether there are enough samples, and a bias to take their mean away.
///
/// # Errors
/// What is missing.
pub(super) fn check(train: usize, held_out: usize, has_bias: bool) -> Result<(), Error> {
    let refuse = |setting, problem: String| Err(Error::Setting { setting, problem });
    if train < TRAIN_MIN || held_out < HELD_OUT_MIN {
        return refuse(
            "data",
            format!(
                "{train} normal samples to learn from and {held_out} held out to find the threshold by; {TRAIN_MIN} and {HELD_OUT_MIN} are needed: add \
                 normal samples, or hold out more with setting `val-fraction`"
            ),
        );
    }
    match has_bias {
        true => Ok(()),
        false => refuse("head", "the model's last layer has no bias; choose setting `head = append`".into()),
    }
}

/// The layer for `rows` of normal samples, whose threshold is exceeded by a share of `held_out`.
pub(super) fn layer(
    mut rows: Array2<f64>,
    held_out: &Array2<f64>,
    outputs: usize,
    whitened: bool,
    false_alarms: f64,
) -> Layer {
    let mean = rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(rows.ncols()));
    rows -= &mean;
    let (samples, inputs) = rows.dim();
    let kept = (samples / SAMPLES_EACH).min(DIRECTIONS_MAX).min(inputs / 2).min(outputs / 2).max(1);
    let left = (outputs - if whitened { kept } else { 0 }).min(inputs - kept.min(inputs));
    // Random directions, made orthogonal to the principal ones and to each other.
    let random =
        factor::first_values(0, "edgetune normality", &[left as u64, inputs as u64]).into_iter().map(f64::from);
    let random = Array2::from_shape_vec((left, inputs), random.collect()).expect("as many values as the shape has");
    let span = factor::span(rows.view(), kept);
    let both = concatenate(Axis(0), &[span.view(), random.view()]).expect("rows of the same length");
    let basis = factor::orthonormal(both.reversed_axes()).reversed_axes();
    let (principal, rest) = basis.view().split_at(Axis(0), kept);
    // Fewer directions than there are stand for all of them.
    let mut rest = rest.mapv(|value| value * ((inputs - kept) as f64 / left.max(1) as f64).sqrt());
    let sum = |of: &Array2<f64>| of.iter().map(|value| value * value).sum::<f64>();
    let variance = |values: f64, count: usize| values / count.max(1) as f64;
    // How far normal samples lie from their mean.
    let length = variance(sum(&rows), samples).sqrt();
    let mut weights = Array2::zeros((outputs, inputs));
    if whitened {
        let shares = rows.dot(&principal.t());
        let (_, turned) = factor::factors(shares.view(), kept);
        let of_rest = variance(sum(&rows) - sum(&shares), samples * (inputs - kept));
        let of_rest = of_rest.max((LEAST * length).powi(2)).max(f64::MIN_POSITIVE);
        rest /= of_rest.sqrt();
        for (place, direction) in turned.rows().into_iter().enumerate() {
            // A factor's row is its direction times the root of its singular value.
            let singular = direction.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            let unit = direction.mapv(|value| f64::from(value) / singular.max(1e-30).sqrt());
            // A direction along which normal samples vary less than along all others together counts as those do.
            let spread = variance(singular * singular, samples).max(of_rest).sqrt();
            weights.row_mut(place).assign(&(unit.dot(&principal) / spread));
        }
    }
    let first = if whitened { kept } else { 0 };
    weights.slice_mut(s![first..first + left, ..]).assign(&rest);
    let bias = -weights.dot(&mean);
    let given = held_out.dot(&weights.t()) + &bias;
    let mut scores: Vec<f64> = given.rows().into_iter().map(|row| row.dot(&row).sqrt()).collect();
    scores.order_by(|one, other| other.total_cmp(one));
    // As many as may be are above it; those at it are not.
    let threshold = scores[((false_alarms * scores.len() as f64) as usize).min(scores.len() - 1)];
    let threshold = threshold.max(if whitened { LEAST } else { LEAST * length }).max(f64::MIN_POSITIVE);
    // Rounding to fp16 must not carry what lies at the threshold above it.
    let factor = 1.0 / (threshold * (1.0 + 1e-3));
    Layer { weights: weights * factor, bias: bias * factor }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples near a plane in twelve dimensions, one more number of `off` away from it.
    fn rows(count: usize, seed: &str, off: f64) -> Array2<f64> {
        let noise = factor::first_values(1, seed, &[count as u64, 12]);
        let noise = Array2::from_shape_vec((count, 12), noise.into_iter().map(f64::from).collect()).unwrap();
        Array2::from_shape_fn((count, 12), |(row, column)| match column {
            0 => 20.0 * noise[(row, 0)] + 5.0,
            1 => 10.0 * noise[(row, 1)] - 3.0,
            2 => 0.1 * noise[(row, 2)] + off,
            _ => 0.1 * noise[(row, column)],
        })
    }

    #[test]
    fn what_leaves_the_plane_is_told_and_false_alarms_are_as_many_as_allowed() {
        for (whitened, outputs) in [(false, 12), (true, 12), (false, 8), (true, 16)] {
            let held_out = rows(40, "held out", 0.0);
            let layer = layer(rows(60, "train", 0.0), &held_out, outputs, whitened, 0.1);
            let above = |rows: &Array2<f64>| {
                let given = rows.dot(&layer.weights.t()) + &layer.bias;
                given.rows().into_iter().filter(|row| row.dot(row) > 1.0).count()
            };
            assert!(above(&held_out) <= 4, "{whitened} {outputs}: {}", above(&held_out));
            assert_eq!(above(&rows(30, "off", 1.0)), 30, "{whitened} {outputs}");
        }
    }

    #[test]
    fn along_the_plane_only_mahalanobis_tells() {
        let held_out = rows(40, "held out", 0.0);
        // Between the normal samples' own numbers but for the first, which is seven deviations from its mean.
        let mut far = Array2::<f64>::zeros((1, 12));
        (far[(0, 0)], far[(0, 1)]) = (30.0, -3.0);
        for whitened in [false, true] {
            let layer = layer(rows(600, "train", 0.0), &held_out, 12, whitened, 0.01);
            let given = far.dot(&layer.weights.t()) + &layer.bias;
            assert_eq!(given.row(0).dot(&given.row(0)) > 1.0, whitened);
        }
    }

    #[test]
    fn too_few_are_refused() {
        assert!(check(7, 5, true).unwrap_err().to_string().contains("normal samples"));
        assert!(check(80, 4, true).unwrap_err().to_string().contains("4 held out"));
        assert!(check(80, 20, false).unwrap_err().to_string().contains("no bias"));
        assert!(check(8, 5, true).is_ok());
    }
}
