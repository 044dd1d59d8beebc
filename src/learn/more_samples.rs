//! Whether more samples would help: the learning curve of those that there are.

use crate::amounts::percent;
use crate::data::{Dataset, Labels};
use crate::train::solve::{LearningCurve, learning_curve};
use ndarray::Array2;
use std::sync::atomic::{AtomicBool, Ordering};

/// The learning curve of samples with one class each. `rows`: their features `[samples, features]`. `None` where they have other labels, where they are
/// too few, or where it was stopped.
pub fn curve_of(dataset: &Dataset, samples: &[usize], rows: &Array2<f32>, stop: &AtomicBool) -> Option<LearningCurve> {
    let labels @ Labels::Classes { names, .. } = dataset.labels() else { return None };
    learning_curve(rows, labels, samples, names.len(), &|| stop.load(Ordering::Relaxed))
}

/// A learning curve as a person reads it.
pub fn curve_line(curve: &LearningCurve) -> String {
    let [few, some, most] = curve.accuracy.map(percent);
    let [quarter, half, whole] = curve.samples;
    let accuracies = format!("{few}, {some}, {most} right with {quarter}, {half}, {whole} samples");
    match 100.0 * curve.gain_of_twice {
        points if points < 0.5 => format!("twice as many samples would hardly help ({accuracies})"),
        points => format!("twice as many samples: about +{points:.0} points expected ({accuracies})"),
    }
}
