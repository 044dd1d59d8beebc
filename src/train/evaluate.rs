//! Measuring: the tail over features, with the parameters that would ship.

use super::error::Error;
use super::features::Features;
use super::loss::{Loss, Target};
use crate::adapter::{Parameter, fp16};
use crate::data::Labels;
use crate::engine::Session;
use crate::graph::Tensor;
use serde::{Deserialize, Serialize};

/// Samples in one run of the tail.
const BATCH: usize = 64;

/// What a set of samples showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean loss a sample, unweighted and without label smoothing.
    pub loss: f64,
    /// The share of right answers: of samples for classes, of single decisions for label sets, none for values.
    pub accuracy: Option<f64>,
    /// The number of samples.
    pub samples: usize,
    /// For classes: each with its samples and the share of them that was recognised.
    pub per_class: Vec<ClassMetrics>,
}

/// One class's share of [`Metrics`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The class.
    pub name: String,
    /// Samples of it.
    pub samples: usize,
    /// The share of them that was recognised.
    pub recall: f64,
}

/// The parameters as the tail's inputs, rounded to what fp16 holds: evaluation is always on the values that ship.
pub fn shipped(parameters: &[Parameter], values: &[Vec<f32>]) -> Vec<(String, Tensor)> {
    let rounded = |values: &Vec<f32>| {
        let mut rounded = vec![0.0; values.len()];
        fp16::round_into(values, &mut rounded);
        rounded
    };
    let tensor = |(parameter, values): (&Parameter, &Vec<f32>)| {
        (parameter.name.clone(), Tensor::from_vec(&parameter.shape, rounded(values)))
    };
    parameters.iter().zip(values).map(tensor).collect()
}

/// The tail's output for some samples, row by row: `[samples, width]`.
///
/// # Errors
/// ONNX Runtime's refusal, a record that is no longer in the cache.
pub fn outputs(
    tail: &mut Session,
    features: &mut Features,
    samples: &[usize],
    parameters: &[(String, Tensor)],
) -> Result<Vec<Vec<f32>>, Error> {
    let mut rows = Vec::with_capacity(samples.len());
    for chunk in samples.chunks(BATCH) {
        let batch = features.batch(chunk)?;
        let mut fed: Vec<(&str, &Tensor)> = batch.iter().map(|(name, tensor)| (*name, tensor)).collect();
        fed.extend(parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        let output = tail.run(&fed)?.remove(0);
        let values = output.to_f32().expect("the tail's output is a float");
        let width = values.len() / chunk.len();
        rows.extend(values.chunks_exact(width).map(<[f32]>::to_vec));
    }
    Ok(rows)
}

/// Loss and accuracy of the tail on some samples.
///
/// # Errors
/// As [`outputs`].
pub fn evaluate(
    tail: &mut Session,
    features: &mut Features,
    samples: &[usize],
    parameters: &[(String, Tensor)],
    labels: &Labels,
    loss: &Loss,
) -> Result<Metrics, Error> {
    let rows = outputs(tail, features, samples, parameters)?;
    Ok(metrics(&rows, samples, labels, loss))
}

/// Loss and accuracy of given outputs.
pub fn metrics(rows: &[Vec<f32>], samples: &[usize], labels: &Labels, loss: &Loss) -> Metrics {
    let mut sum = 0.0;
    let (mut right, mut decisions) = (0usize, 0usize);
    let mut classes = vec![(0usize, 0usize); labels.names().len()];
    for (logits, sample) in rows.iter().zip(samples) {
        match labels {
            Labels::Classes { index, .. } => {
                let class = index[*sample] as usize;
                let hit = largest(logits) == class;
                sum += loss.of_row(logits, Target::Class(class));
                classes[class].0 += 1;
                classes[class].1 += usize::from(hit);
                right += usize::from(hit);
                decisions += 1;
            }
            Labels::MultiLabel { rows, .. } => {
                let row = rows.row(*sample);
                sum += loss.of_row(logits, Target::Values(row.as_slice().expect("rows are contiguous")));
                right += logits.iter().zip(row).filter(|(logit, target)| (**logit > 0.0) == (**target > 0.5)).count();
                decisions += logits.len();
            }
            Labels::Values(rows) => {
                let row = rows.row(*sample);
                sum += loss.of_row(logits, Target::Values(row.as_slice().expect("rows are contiguous")));
            }
            Labels::Unlabelled(_) => {}
        }
    }
    let class = |(name, (samples, hits)): (&String, (usize, usize))| ClassMetrics {
        name: name.clone(),
        samples,
        recall: if samples == 0 { 0.0 } else { hits as f64 / samples as f64 },
    };
    Metrics {
        loss: sum / samples.len().max(1) as f64,
        accuracy: (decisions > 0).then(|| right as f64 / decisions as f64),
        samples: samples.len(),
        per_class: match labels {
            Labels::Classes { names, .. } => names.iter().zip(classes).map(class).collect(),
            _ => Vec::new(),
        },
    }
}

/// The position of the largest value; the first of equals.
pub fn largest(values: &[f32]) -> usize {
    let better = |best: usize, (index, value): (usize, &f32)| if *value > values[best] { index } else { best };
    values.iter().enumerate().fold(0, better)
}

/// softmax(logits), in f32.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}
