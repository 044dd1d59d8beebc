//! How much each parameter is expected to help, and how long a step takes, measured with the step graph itself.

use crate::adapter::Parameter;
use crate::data::Labels;
use crate::engine::{self, Bound};
use crate::graph::{Dim, Element, Tensor, TensorType};
use crate::train::error::Error;
use crate::train::features::Features;
use crate::train::fit::{Settings, labels_tensor};
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::prepare::Bundle;
use crate::train::step::{LABELS, gradient_name};
use crate::train::step_session::step_session;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// For each parameter the decrease of the loss that one optimiser step promises, in the loss's units.
///
/// To first order, a step Δ changes the loss by ⟨Δ, g⟩. The step is taken along the gradient of one half of the samples and
/// judged by the gradient of the other half, and the other way round, so that what is only noise of a few samples promises
/// nothing: `gain = η/2 · (⟨d(g₁), g₂⟩ + ⟨d(g₂), g₁⟩)`, with `d` the direction of the optimiser's first step: the gradient
/// for SGD, its sign for AdamW (Kingma & Ba 2015, section 2.1). Summed over a set of parameters it is what the contribution
/// analysis of arXiv 2206.15472 (section 3.2) estimates, without training each layer by itself. `None` if stopped.
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
    stop: &AtomicBool,
) -> Result<Option<Vec<f64>>, Error> {
    // All of the body before the step's session: the run itself never holds more than the two together, often less.
    if !features.ready(samples, stop)? {
        return Ok(None);
    }
    let initial: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    let mut bound = step_session(bundle, &settings.loss, options, &initial)?;
    let (first, second) = samples.split_at(samples.len() / 2);
    let mut gradients = |half| gradient(bundle, &mut bound, features, labels, half, settings.batch as usize);
    let (first, second) = (gradients(first)?, gradients(second)?);
    let gain = |(index, parameter): (usize, &Parameter)| {
        let halves = first[index].iter().zip(&second[index]);
        let promised: f64 = halves.map(|(a, b)| agreement(&settings.optimizer, *a, *b)).sum();
        settings.peak_rate(parameter) * promised
    };
    Ok(Some(bundle.parameters.iter().enumerate().map(gain).collect()))
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

/// Seconds of one run of the step graph over `batch` samples of made-up features, the shorter of two after a first.
/// `dims` are the sizes of named dimensions but the batch.
///
/// # Errors
/// ONNX Runtime's refusal.
pub fn step_seconds(
    bundle: &Bundle,
    loss: &Loss,
    batch: u64,
    dims: &BTreeMap<String, u64>,
    options: &engine::Options,
    clock: &dyn Fn() -> f64,
) -> Result<f64, Error> {
    let initial: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    let mut bound = step_session(bundle, loss, options, &initial)?;
    for (name, ty) in &bundle.features {
        bound.set_input(name, &made_up(ty, batch, dims))?;
    }
    let labels = bound.inputs().iter().find(|(name, _)| name == LABELS).map(|(_, ty)| made_up(ty, batch, dims));
    bound.set_input(LABELS, &labels.expect("a step graph takes labels"))?;
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

/// A tensor of that type: a ramp for floats, zeros for all others (a class, a token, a mask).
fn made_up(ty: &TensorType, batch: u64, dims: &BTreeMap<String, u64>) -> Tensor {
    let size = |(axis, dim): (usize, &Dim)| match dim {
        _ if axis == 0 => batch,
        Dim::Fixed(size) => *size,
        Dim::Named(name) => dims.get(name).copied().unwrap_or(1),
        Dim::Unknown => 1,
    };
    let shape: Vec<u64> = ty.shape.iter().flatten().enumerate().map(size).collect();
    let count: u64 = shape.iter().product();
    if ty.dtype == f32::DTYPE {
        return Tensor::from_vec(&shape, (0..count).map(|index| (index % 17) as f32 * 0.1 - 0.8).collect::<Vec<f32>>());
    }
    let bytes = (count as usize * ty.dtype.bits()).div_ceil(8);
    Tensor { dtype: ty.dtype, shape, data: vec![0u8; bytes].into() }
}
