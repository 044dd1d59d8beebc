//! What heads that have not learned from them say of the samples: labels that are probably wrong, and whether more samples would help.

use crate::amounts::{number, percent};
use crate::data::{Dataset, Labels};
use crate::suspect::{mislabelled, surprising};
use crate::train::solve::left_out::left_out;
use crate::train::solve::{LearningCurve, learning_curve};
use ndarray::{Array2, Axis};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// A sample whose label is probably wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelError {
    /// Its file, or file and line.
    pub sample: String,
    /// The class or number that was given.
    pub given: String,
    /// The class that is likelier, or the number that was expected.
    pub likely: String,
    /// The probability of the given class; null where labels are numbers.
    pub given_probability: Option<f64>,
    /// The probability of the likelier class.
    pub likely_probability: Option<f64>,
}

/// The samples whose labels a head that has not learned from them finds wrong, the clearest first. `rows`: their features
/// `[samples, features]`. `None` where samples have neither one class each nor numbers.
pub fn label_errors(dataset: &Dataset, samples: &[usize], rows: Array2<f32>) -> Option<Vec<LabelError>> {
    let name = |row: usize| dataset.name(samples[row]);
    match dataset.labels() {
        labels @ Labels::Classes { names, index } => {
            let given: Vec<usize> = samples.iter().map(|sample| index[*sample] as usize).collect();
            let answers = left_out(rows, labels, samples, names.len());
            let found = mislabelled(answers.view(), &given).into_iter().map(|one| LabelError {
                sample: name(one.row),
                given: names[one.given].clone(),
                likely: names[one.likely].clone(),
                given_probability: Some(one.given_probability),
                likely_probability: Some(one.likely_probability),
            });
            Some(found.collect())
        }
        labels @ Labels::Values(values) => {
            let answers = left_out(rows, labels, samples, values.ncols());
            let given = values.select(Axis(0), samples).mapv(f64::from);
            let found = surprising(answers.view(), given.view()).into_iter().map(|one| LabelError {
                sample: name(one.row),
                given: number(one.given),
                likely: number(one.expected),
                given_probability: None,
                likely_probability: None,
            });
            Some(found.collect())
        }
        _ => None,
    }
}

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
