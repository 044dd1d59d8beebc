//! Labels that are probably wrong among the samples that are learned from.

use crate::amounts::number;
use crate::data::{Dataset, Labels};
use crate::suspect::{mislabelled, surprising};
use crate::train::solve::left_out::left_out;
use ndarray::{Array2, Axis};
use serde::Serialize;

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
