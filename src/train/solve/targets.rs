//! What each sample should give, as a row of numbers.

use crate::data::Labels;
use crate::train::loss::Loss;
use ndarray::Array2;

/// Labels as rows `[width]`: 1 on the class and 0 elsewhere, the set of classes, or the numbers to predict.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    labels: &'a Labels,
    /// Columns of a row.
    pub width: usize,
}

impl<'a> Targets<'a> {
    /// Of labels whose kind was checked against the loss.
    pub fn new(labels: &'a Labels, width: usize) -> Self {
        Self { labels, width }
    }

    /// Whether exactly one class applies to a sample.
    pub fn is_one_class(&self) -> bool {
        matches!(self.labels, Labels::Classes { .. })
    }

    /// Whether targets are classes of either kind, not numbers.
    pub fn is_classes(&self) -> bool {
        !matches!(self.labels, Labels::Values(_))
    }

    /// The class of a sample, where it has exactly one.
    pub fn class(&self, sample: usize) -> Option<usize> {
        match self.labels {
            Labels::Classes { index, .. } => Some(index[sample] as usize),
            _ => None,
        }
    }

    /// Writes the row of a sample.
    pub fn row(&self, sample: usize, row: &mut [f64]) {
        match self.labels {
            Labels::Classes { index, .. } => {
                row.fill(0.0);
                row[index[sample] as usize] = 1.0;
            }
            Labels::MultiLabel { rows, .. } | Labels::Values(rows) => {
                row.iter_mut().zip(rows.row(sample)).for_each(|(to, from)| *to = f64::from(*from));
            }
            Labels::OfLoss(_)
            | Labels::Ordinal { .. }
            | Labels::Tokens { .. }
            | Labels::Pixels { .. }
            | Labels::Boxes { .. }
            | Labels::Lines { .. }
            | Labels::Identities { .. }
            | Labels::Anomalies(_)
            | Labels::NextTokens(_)
            | Labels::Unlabelled(_) => {
                unreachable!("refused before the run")
            }
        }
    }

    /// The rows for least squares `[samples, width]`: classes are ±1, so that 0 is between yes and no.
    pub fn signed(&self, samples: &[usize]) -> Array2<f64> {
        let mut rows = Array2::zeros((samples.len(), self.width));
        for (mut row, sample) in rows.rows_mut().into_iter().zip(samples) {
            self.row(*sample, row.as_slice_mut().expect("a row is contiguous"));
        }
        if self.is_classes() {
            rows.mapv_inplace(|target| 2.0 * target - 1.0);
        }
        rows
    }

    /// For each class the weight that `loss` gives it.
    pub fn class_weights(&self, loss: &Loss) -> Vec<f64> {
        match loss {
            Loss::CrossEntropy { class_weights: Some(weights), .. } => weights.iter().map(|w| f64::from(*w)).collect(),
            _ => vec![1.0; self.width],
        }
    }
}
