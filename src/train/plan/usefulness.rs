//! How much each parameter is expected to help, and how long a step takes, measured with the step graph itself.

use crate::adapter::Parameter;
use crate::data::Labels;
use crate::engine::{self, Bound};
use crate::graph::Tensor;
use crate::train::error::Error;
use crate::train::features::Features;
use crate::train::fit::{Settings, labels_tensor};
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::prepare::Bundle;
use crate::train::step::{LABELS, gradient_name};
use crate::train::step_session::step_session;

/// For each parameter the decrease of the loss that one optimiser step promises, in the loss's units.
///
/// To first order, a step Δ changes the loss by ⟨Δ, g⟩. The step is taken along the gradient of one half of the samples and
/// judged by the gradient of the other half, and the other way round, so that what is only noise of a few samples promises
/// nothing: `gain = η/2 · (⟨d(g₁), g₂⟩ + ⟨d(g₂), g₁⟩)`, with `d` the direction of the optimiser's first step: the gradient
/// for SGD, its sign for AdamW (Kingma & Ba 2015, section 2.1). Summed over a set of parameters it is what the contribution
/// analysis of arXiv 2206.15472 (section 3.2) estimates, without training each layer by itself. The samples' features are there
/// already ([`Features::ready`]): the run itself never holds the body and the step's session together.
///
/// # Errors
/// A sample that cannot be loaded, ONNX Runtime's refusal.
pub fn gains(
    bundle: &Bundle,
    features: &mut Features,
    labels: &Labels,
    samples: &[usize],
    settings: &Settings,
    options: &engine::Options,
) -> Result<Vec<f64>, Error> {
    let initial: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    let mut bound = step_session(bundle, (&settings.loss, None), options, &initial)?;
    let (first, second) = samples.split_at(samples.len() / 2);
    let mut gradients = |half| gradient(bundle, &mut bound, features, labels, half, settings.batch as usize);
    let (first, second) = (gradients(first)?, gradients(second)?);
    let gain = |(index, parameter): (usize, &Parameter)| {
        let halves = first[index].iter().zip(&second[index]);
        let promised: f64 = halves.map(|(a, b)| agreement(&settings.optimizer, *a, *b)).sum();
        settings.peak_rate(parameter) * promised
    };
    Ok(bundle.parameters.iter().enumerate().map(gain).collect())
}

/// `½ (d(a)·b + d(b)·a)`.
fn agreement(optimizer: &Optimizer, a: f32, b: f32) -> f64 {
    let (a, b) = (f64::from(a), f64::from(b));
    match optimizer {
        Optimizer::Sgd { .. } => a * b,
        Optimizer::AdamW { .. } => {
            let sign = |value: f64| if value == 0.0 { 0.0 } else { value.signum() };
            0.5 * (sign(a) * b + sign(b) * a)
        }
    }
}

/// The mean gradient of the samples, by parameter.
fn gradient(
    bundle: &Bundle,
    bound: &mut Bound,
    features: &mut Features,
    labels: &Labels,
    samples: &[usize],
    batch: usize,
) -> Result<Vec<Vec<f32>>, Error> {
    let mut sums: Vec<Vec<f32>> = bundle.parameters.iter().map(|p| vec![0.0; p.initial.len()]).collect();
    for chunk in samples.chunks(batch) {
        for (name, tensor) in features.batch(chunk)? {
            bound.set_input(name, &tensor)?;
        }
        bound.set_input(LABELS, &labels_tensor(labels, chunk))?;
        bound.run()?;
        let share = chunk.len() as f32 / samples.len() as f32;
        for (sum, parameter) in sums.iter_mut().zip(&bundle.parameters) {
            let gradient = bound.output::<f32>(&gradient_name(&parameter.name))?;
            sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += share * gradient);
        }
    }
    Ok(sums)
}

/// A batch that a step can run over: features that one run of the body gave together, in any order, and labels.
pub struct Batch {
    /// By name: `[batch, …]`.
    pub features: Vec<(String, Tensor)>,
    /// `[batch, …]`, as the loss takes them.
    pub labels: Tensor,
}

impl Batch {
    /// The batch of `samples`, which may name a sample more than once.
    ///
    /// # Errors
    /// A sample that cannot be loaded, ONNX Runtime's refusal of the body.
    pub fn from_samples(features: &mut Features, labels: &Labels, samples: &[usize]) -> Result<Self, Error> {
        let stacked = features.batch(samples)?;
        let features = stacked.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect();
        Ok(Self { features, labels: labels_tensor(labels, samples) })
    }

    /// The batch with `rows` rows: those that are there, again and again.
    pub fn repeated(self, rows: u64) -> Self {
        let features = self.features.iter().map(|(name, tensor)| (name.clone(), repeated(tensor, rows))).collect();
        Self { features, labels: repeated(&self.labels, rows) }
    }
}

/// A tensor whose first dimension is `rows`, from one that has at least a row.
fn repeated(tensor: &Tensor, rows: u64) -> Tensor {
    let mut shape = tensor.shape.clone();
    let row_bytes = tensor.data.len() / (shape[0].max(1) as usize);
    shape[0] = rows;
    let data: Vec<u8> = tensor.data.iter().copied().cycle().take(row_bytes * rows as usize).collect();
    Tensor { dtype: tensor.dtype, shape, data: data.into() }
}

/// Seconds of one run of the step graph over a batch, the shorter of two after a first.
///
/// # Errors
/// ONNX Runtime's refusal.
pub fn step_seconds(
    bundle: &Bundle,
    loss: &Loss,
    batch: &Batch,
    options: &engine::Options,
    clock: &dyn Fn() -> f64,
) -> Result<f64, Error> {
    let initial: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    let mut bound = step_session(bundle, (loss, None), options, &initial)?;
    for (name, tensor) in &batch.features {
        bound.set_input(name, tensor)?;
    }
    bound.set_input(LABELS, &batch.labels)?;
    let mut shortest = f64::INFINITY;
    for run in 0..3 {
        let began = clock();
        bound.run()?;
        if run > 0 {
            shortest = shortest.min(clock() - began);
        }
    }
    Ok(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_repeated_whole() {
        let batch = Batch {
            features: vec![("x".into(), Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))],
            labels: Tensor::from_vec(&[2], vec![7i64, 8]),
        };
        let Batch { features, labels } = batch.repeated(3);
        assert_eq!(features[0].1.shape, [3, 2]);
        assert_eq!(features[0].1.data, Tensor::from_f32(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0]).data);
        assert_eq!(labels.to_i64().unwrap(), [7, 8, 7]);
    }
}
