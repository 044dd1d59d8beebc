//! Proof of a tail's gradient on this machine: for each parameter, the directional derivative from the step graph against
//! the one that two runs of the loss give.
//!
//! With a direction u in the parameter's space: ⟨∂L/∂θ, u⟩ ≈ (L(θ + hu) − L(θ − hu)) / 2h. Samples are random; nothing
//! is learned and nothing is written.

use super::error::Error;
use super::fit::labels_tensor;
use super::loss::Loss;
use super::prepare::Bundle;
use super::step::{LABELS, LOSS, gradient_name};
use crate::data::{self, Labels, TextRole};
use crate::engine::{Bound, Options, Session};
use crate::graph::{DType, Dim, Tensor, TensorType};
use std::collections::HashMap;

/// Samples that the gradient is taken over.
const BATCH: u64 = 4;
/// The size that is given to a dimension that the model leaves open, such as a sequence.
const OPEN_SIZE: u64 = 16;
/// Largest relative difference of the two derivatives.
const TOLERANCE: f64 = 0.02;
/// Step lengths h that are tried, as a share of the parameter's own length: rounding spoils short ones, curvature long
/// ones.
const LENGTHS: [f64; 5] = [0.1, 0.03, 0.01, 0.003, 0.001];

/// What the check says of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both derivatives agree.
    Agrees,
    /// The loss moves less than it is rounded: nothing can be said.
    Flat,
    /// They differ.
    Differs,
}

/// One parameter's derivatives.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The parameter's name.
    pub parameter: String,
    /// ⟨∂L/∂θ, u⟩ by the step graph.
    pub gradient: f64,
    /// The same by two runs of the loss.
    pub numeric: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Checks every parameter of a bundle.
///
/// # Errors
/// No step graph, or samples of the model's declared types that ONNX Runtime refuses.
pub fn check(bundle: &Bundle, loss: &Loss, options: &Options, seed: u64) -> Result<Vec<Checked>, Error> {
    let mut random = fastrand::Rng::with_seed(seed);
    let features = random_features(bundle, options, &mut random)?;
    let gradients: Vec<String> = bundle.parameters.iter().map(|p| gradient_name(&p.name)).collect();
    let inputs: Vec<(&str, &[u64])> = bundle.parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    let mut outputs: Vec<(&str, &[u64])> = vec![(LOSS, &[])];
    outputs.extend(gradients.iter().zip(&bundle.parameters).map(|(name, p)| (name.as_str(), p.shape.as_slice())));
    let session = Session::from_file(&bundle.step(loss)?, options)?;
    let mut bound = Bound::new(session, &inputs, &outputs)?;
    for (name, tensor) in &features {
        bound.set_input(name, tensor)?;
    }
    bound.set_input(LABELS, &labels_tensor(&random_labels(bundle, loss, &mut random), &[0, 1, 2, 3]))?;
    for parameter in &bundle.parameters {
        let values = bound.input_mut::<f32>(&parameter.name)?;
        values.copy_from_slice(&parameter.initial);
        // A fresh head of zeros would hide every gradient below it.
        if values.iter().all(|value| *value == 0.0) {
            values.iter_mut().for_each(|value| *value = 0.05 * normal(&mut random));
        }
    }
    let names = bundle.parameters.iter().zip(&gradients);
    names.map(|(parameter, gradient)| checked(&mut bound, &parameter.name, gradient, &mut random)).collect()
}

fn checked(bound: &mut Bound, parameter: &str, gradient: &str, random: &mut fastrand::Rng) -> Result<Checked, Error> {
    bound.run()?;
    let at_rest = f64::from(bound.output::<f32>(LOSS)?[0]);
    let slope: Vec<f64> = bound.output::<f32>(gradient)?.iter().map(|value| f64::from(*value)).collect();
    let values = bound.input::<f32>(parameter)?.to_vec();
    // Half along the gradient, where the loss moves most, and half anywhere, so that no part of it goes unseen.
    let anywhere = unit((0..slope.len()).map(|_| f64::from(normal(random))).collect());
    let along = unit(slope.clone());
    let direction = unit(along.iter().zip(&anywhere).map(|(a, b)| a + b).collect());
    let expected: f64 = slope.iter().zip(&direction).map(|(a, b)| a * b).sum();
    let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(0.1);
    let mut best: Option<f64> = None;
    let mut heard = false;
    for share in LENGTHS {
        let mut losses = [0.0; 2];
        let h = share * length;
        for (loss, sign) in losses.iter_mut().zip([1.0, -1.0]) {
            let moved = bound.input_mut::<f32>(parameter)?;
            for ((to, from), along) in moved.iter_mut().zip(&values).zip(&direction) {
                *to = (f64::from(*from) + sign * h * along) as f32;
            }
            bound.run()?;
            *loss = f64::from(bound.output::<f32>(LOSS)?[0]);
        }
        // Well above the rounding of a loss in f32.
        heard |= (losses[0] - losses[1]).abs() > 1e-4 * at_rest.abs();
        let numeric = (losses[0] - losses[1]) / (2.0 * h);
        if best.is_none_or(|best| (numeric - expected).abs() < (best - expected).abs()) {
            best = Some(numeric);
        }
    }
    bound.input_mut::<f32>(parameter)?.copy_from_slice(&values);
    let numeric = best.unwrap_or(f64::NAN);
    let verdict = verdict(expected, numeric, heard);
    Ok(Checked { parameter: parameter.into(), gradient: expected, numeric, verdict })
}

fn verdict(gradient: f64, numeric: f64, heard: bool) -> Verdict {
    let difference = (gradient - numeric).abs() / gradient.abs().max(numeric.abs()).max(f64::MIN_POSITIVE);
    match (difference <= TOLERANCE, heard) {
        (true, true) => Verdict::Agrees,
        (_, false) => Verdict::Flat,
        _ => Verdict::Differs,
    }
}

fn unit(values: Vec<f64>) -> Vec<f64> {
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 { values.into_iter().map(|value| value / length).collect() } else { values }
}

/// A sample of the standard normal distribution (Box and Muller, 1958).
fn normal(random: &mut fastrand::Rng) -> f32 {
    let (radius, angle) = (1.0 - random.f64(), random.f64());
    ((-2.0 * radius.ln()).sqrt() * (2.0 * std::f64::consts::PI * angle).cos()) as f32
}

/// Features of random samples: what the body makes of random inputs.
fn random_features(
    bundle: &Bundle,
    options: &Options,
    random: &mut fastrand::Rng,
) -> Result<HashMap<String, Tensor>, Error> {
    let mut known: HashMap<String, Tensor> = HashMap::new();
    for (name, ty) in &bundle.inputs {
        known.insert(name.clone(), random_input(name, ty, random)?);
    }
    if let Some(path) = &bundle.body {
        let mut body = Session::from_file(path, options)?;
        let names: Vec<String> = body.inputs().iter().map(|(name, _)| name.clone()).collect();
        let fed: Vec<(&str, &Tensor)> = names.iter().map(|name| (name.as_str(), &known[name])).collect();
        let outputs = body.run(&fed)?;
        known.extend(body.outputs().iter().map(|(name, _)| name.clone()).zip(outputs));
    }
    known.retain(|name, _| bundle.features.iter().any(|(feature, _)| feature == name));
    Ok(known)
}

/// Floats are normal; of integers, masks are ones and everything else is a small number.
fn random_input(name: &str, ty: &TensorType, random: &mut fastrand::Rng) -> Result<Tensor, Error> {
    let refuse = |problem: &str| Error::Sample {
        sample: "the random samples of the check".into(),
        input: name.into(),
        problem: problem.into(),
    };
    let dims =
        ty.shape.as_deref().ok_or_else(|| refuse("has no known rank; export the model with its input's shape"))?;
    // Nothing was read before: the sequences of past keys and values are empty.
    let open = if data::text_role(name, ty) == Some(TextRole::Past) { 0 } else { OPEN_SIZE };
    let size = |(axis, dim): (usize, &Dim)| if axis == 0 { BATCH } else { dim.fixed().unwrap_or(open) };
    let shape: Vec<u64> = dims.iter().enumerate().map(size).collect();
    let count = shape.iter().product::<u64>() as usize;
    match ty.dtype {
        DType::Float => Ok(Tensor::from_vec(&shape, (0..count).map(|_| normal(random)).collect())),
        DType::Int64 | DType::Int32 => {
            let last = *shape.last().unwrap_or(&1);
            let value = |at: u64, random: &mut fastrand::Rng| match name {
                _ if name.contains("mask") => 1,
                _ if name.contains("type") => 0,
                _ if name.contains("position") => (at % last.max(1)) as i64,
                _ => random.i64(1..10),
            };
            let values: Vec<i64> = (0..count as u64).map(|at| value(at, random)).collect();
            Ok(match ty.dtype {
                DType::Int32 => Tensor::from_vec(&shape, values.into_iter().map(|value| value as i32).collect()),
                _ => Tensor::from_vec(&shape, values),
            })
        }
        _ => Err(refuse("is neither float nor an integer of 32 or 64 bits, of which alone random samples are made")),
    }
}

fn random_labels(bundle: &Bundle, loss: &Loss, random: &mut fastrand::Rng) -> Labels {
    let (rows, columns) = (BATCH as usize, bundle.width as usize);
    if *loss == Loss::NextToken {
        let sequence = bundle.sequence().unwrap_or(OPEN_SIZE) as usize;
        return Labels::NextTokens(ndarray::Array2::from_shape_fn((rows, sequence), |_| random.i64(0..columns as i64)));
    }
    if loss.takes_classes() {
        let names = (0..columns).map(|class| class.to_string()).collect();
        return Labels::Classes { names, index: (0..rows).map(|_| random.u32(0..columns as u32)).collect() };
    }
    Labels::Values(ndarray::Array2::from_shape_fn((rows, columns), |_| f32::from(random.bool())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_sign_a_factor_and_silence_are_told_apart() {
        assert_eq!(verdict(1.0, 1.01, true), Verdict::Agrees);
        assert_eq!(verdict(1.0, -1.0, true), Verdict::Differs);
        assert_eq!(verdict(1.0, 2.0, true), Verdict::Differs);
        assert_eq!(verdict(1.0, f64::NAN, true), Verdict::Differs);
        assert_eq!(verdict(1e-9, 0.0, false), Verdict::Flat);
    }
}
