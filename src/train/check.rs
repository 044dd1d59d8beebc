//! Proof of a tail's gradient on this machine: for each parameter, the directional derivative from the step graph against
//! the one that two runs of the loss give.
//!
//! With a direction u in the parameter's space: ⟨∂L/∂θ, u⟩ ≈ (L(θ + hu) − L(θ − hu)) / 2h. Samples are random; nothing
//! is learned and nothing is written.

use super::error::Error;
use super::evaluate::fed;
use super::fit::labels_tensor;
use super::loss::Loss;
use super::plan::usefulness::Batch;
use super::prepare::Bundle;
use super::step::{Again, LABELS, LOSS, gradient_name};
use super::undefined;
use crate::adapter::Positions;
use crate::data::{self, Labels, Lines, Masks, Member, Role, TextRole};
use crate::engine::{Bound, Options, Session};
use crate::grad;
use crate::graph::{DType, Dim, Tensor, TensorType};
use crate::order::Order;
use crate::task::{Likeness, Part};
use std::collections::HashMap;
use std::path::PathBuf;

/// Samples that the gradient is taken over.
const BATCH: u64 = 4;
/// The sizes that are tried for a dimension that the model leaves open, such as a sequence: the first that its body takes.
/// Sound needs more than one window, text has few positions.
const OPEN_SIZES: [u64; 4] = [16, 128, 2048, 16384];
/// Largest relative difference of the two derivatives.
const TOLERANCE: f64 = 0.02;
/// The same where the gradient is a straight-through estimate: the loss moves in steps, which two runs see as noise.
const ESTIMATE_TOLERANCE: f64 = 0.4;
/// Step lengths h that are tried until one agrees, as a share of the parameter's own length: rounding spoils short ones,
/// curvature and the kinks of activations long ones.
const LENGTHS: [f64; 8] = [0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5, 0.03, LONGEST];
/// The longest of them.
const LONGEST: f64 = 0.1;
/// Further step lengths, as the share of the loss that the gradient says they move: of a table of embeddings only the rows
/// that the samples pick move it, and a share of the whole table would be far too long for them. They are
/// never longer than the longest of [`LENGTHS`].
const LOSS_SHARES: [f64; 2] = [0.01, 0.003];

/// What the check says of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// Both derivatives agree.
    Agrees,
    /// They agree as far as an estimate can: on its way the gradient passes nodes that round.
    Estimates,
    /// The loss moves less than it is rounded, or in a curve as far as it can be heard: nothing can be said.
    Flat,
    /// They differ.
    Differs,
    /// The gradient or the loss is infinite or no number.
    Undefined,
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
    pub verdict: Agreement,
    /// Where a derivative is undefined: the node that is to blame.
    pub cause: Option<String>,
}

/// Checks every parameter of a bundle.
///
/// # Errors
/// No step graph, or samples of the model's declared types that ONNX Runtime refuses.
pub fn check(bundle: &Bundle, loss: &Loss, options: &Options, seed: u64) -> Result<Vec<Checked>, Error> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (features, open) = random_features(bundle, options, &mut random)?;
    let pixels = pixels(bundle, loss, options, &features)?;
    let labels = labels_tensor(&random_labels(bundle, (loss, pixels), open, &mut random), &[0, 1, 2, 3]);
    let values: Vec<Vec<f32>> = bundle.parameters.iter().map(|p| moving(&p.initial, &mut random)).collect();
    let ready = |path: PathBuf, gradients: &[String]| -> Result<Bound, Error> {
        let parameters = || bundle.parameters.iter();
        let inputs: Vec<(&str, &[u64])> = parameters().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        let mut outputs: Vec<(&str, &[u64])> = vec![(LOSS, &[])];
        outputs.extend(gradients.iter().zip(parameters()).map(|(name, p)| (name.as_str(), p.shape.as_slice())));
        let mut bound = Bound::new(Session::from_file(&path, options)?, &inputs, &outputs)?;
        for (name, tensor) in &features {
            bound.set_input(name, tensor)?;
        }
        bound.set_input(LABELS, &labels)?;
        for (parameter, values) in parameters().zip(&values) {
            bound.input_mut::<f32>(&parameter.name)?.copy_from_slice(values);
        }
        Ok(bound)
    };
    let gradients: Vec<String> = bundle.parameters.iter().map(|p| gradient_name(&p.name)).collect();
    let slopes: Vec<Vec<f64>> = {
        let mut step = ready(bundle.step(loss, Again::within(options.packed_bytes_max))?, &gradients)?;
        step.run()?;
        let slope = |name: &String| Ok(step.output::<f32>(name)?.iter().map(|value| f64::from(*value)).collect());
        gradients.iter().map(slope).collect::<Result<_, Error>>()?
    };
    let mut forward = ready(bundle.forward(loss)?, &[])?;
    let tail = bundle.tail_graph();
    let names = bundle.parameters.iter().map(|parameter| parameter.name.as_str());
    let mut rows: Vec<Checked> = names
        .zip(slopes.iter().zip(&values))
        .map(|(name, (slope, values))| {
            let estimates = tail.find(name).is_some_and(|id| grad::estimates(tail, tail.outputs[0], id));
            let tolerance = if estimates { ESTIMATE_TOLERANCE } else { TOLERANCE };
            let mut row = checked(&mut forward, name, slope, values, tolerance, &mut random)?;
            if estimates && row.verdict == Agreement::Agrees {
                row.verdict = Agreement::Estimates;
            }
            Ok(row)
        })
        .collect::<Result<_, Error>>()?;
    if rows.iter().any(|row| row.verdict == Agreement::Undefined) {
        let parameters = bundle.parameters.iter().zip(&values);
        let parameters: Vec<(&str, Tensor)> =
            parameters.map(|(p, values)| (p.name.as_str(), Tensor::from_f32(&p.shape, values))).collect();
        let mut fed: Vec<(&str, &Tensor)> = features.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        fed.extend(parameters.iter().map(|(name, tensor)| (*name, tensor)));
        fed.push((LABELS, &labels));
        // A step graph too large to be fetched whole has no cause that could be told.
        let cause = undefined::cause(bundle, loss, &fed, options).ok().flatten();
        rows.iter_mut().filter(|row| row.verdict == Agreement::Undefined).for_each(|row| row.cause.clone_from(&cause));
    }
    Ok(rows)
}

/// First values. A fresh head of zeros would hide every gradient below it.
fn moving(initial: &[f32], random: &mut fastrand::Rng) -> Vec<f32> {
    let zeros = initial.iter().all(|value| *value == 0.0);
    if zeros { initial.iter().map(|_| 0.05 * normal(random)).collect() } else { initial.to_vec() }
}

/// Two runs of `forward` for each length of the step along one direction from `values`, where the gradient is `slope`; the
/// two may differ by `tolerance`, relative.
fn checked(
    forward: &mut Bound,
    parameter: &str,
    slope: &[f64],
    values: &[f32],
    tolerance: f64,
    random: &mut fastrand::Rng,
) -> Result<Checked, Error> {
    // Half along the gradient, where the loss moves most, and half anywhere, so that no part of it goes unseen.
    let anywhere = unit((0..slope.len()).map(|_| f64::from(normal(random))).collect());
    let along = unit(slope.to_vec());
    // A lone value has one direction, and half of it may be the other half's opposite.
    let lone = slope.len() == 1;
    let direction = unit(along.iter().zip(&anywhere).map(|(a, b)| if lone { *a } else { a + b }).collect());
    let expected: f64 = slope.iter().zip(&direction).map(|(a, b)| a * b).sum();
    let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(0.1);
    forward.run()?;
    let at_rest = f64::from(forward.output::<f32>(LOSS)?[0]);
    let by_parameter = LENGTHS.map(|share| share * length);
    let by_loss = LOSS_SHARES.map(|share| share * at_rest.abs() / expected.abs());
    let (mut best, mut heard) = (f64::NAN, false);
    // Well above the rounding of a loss in f32.
    let audible = 1e-4 * at_rest.abs();
    // The lengths that were heard, with what they say, and the others.
    let (mut said, mut silent): (Vec<(f64, f64)>, Vec<f64>) = Default::default();
    for h in by_parameter.into_iter().chain(by_loss).filter(|h| *h <= LONGEST * length) {
        let mut moved = |h: f64| -> Result<f64, Error> {
            let to = forward.input_mut::<f32>(parameter)?;
            for ((to, from), along) in to.iter_mut().zip(values).zip(&direction) {
                *to = (f64::from(*from) + h * along) as f32;
            }
            forward.run()?;
            Ok(f64::from(forward.output::<f32>(LOSS)?[0]))
        };
        let losses = [moved(h)?, moved(-h)?];
        let numeric = (losses[0] - losses[1]) / (2.0 * h);
        if (losses[0] - losses[1]).abs() > audible {
            heard = true;
            said.push((h, numeric));
        } else {
            silent.push(h);
        }
        if best.is_nan() || (numeric - expected).abs() < (best - expected).abs() {
            best = numeric;
        }
        if verdict(expected, best, heard, tolerance) == Agreement::Agrees {
            break;
        }
    }
    forward.input_mut::<f32>(parameter)?.copy_from_slice(values);
    let mut verdict = verdict(expected, best, heard, tolerance);
    let is_curve = said.iter().all(|(_, numeric)| silent.iter().any(|h| 2.0 * h * numeric.abs() > 2.0 * audible));
    let sure = !is_curve
        && if tolerance > TOLERANCE { unanimous(&said, tolerance) } else { settled(said, expected, tolerance) };
    if verdict == Agreement::Differs && !sure {
        verdict = Agreement::Flat;
    }
    Ok(Checked { parameter: parameter.into(), gradient: expected, numeric: best, verdict, cause: None })
}

/// Whether what the lengths say is the loss's slope and not its curve: the two shortest that were heard say the same, or what the shortest
/// says is far from the gradient.
fn settled(mut said: Vec<(f64, f64)>, gradient: f64, tolerance: f64) -> bool {
    said.order_by(|one, other| one.0.total_cmp(&other.0));
    let apart = |a: f64, b: f64| (a - b).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE);
    let far = said.first().is_some_and(|(_, numeric)| apart(*numeric, gradient) > 0.5);
    far || matches!(said[..], [(_, one), (_, other), ..] if apart(one, other) <= tolerance)
}

/// Whether all lengths say the same, of a loss that moves in steps: what rounds lets each of them say something else.
fn unanimous(said: &[(f64, f64)], tolerance: f64) -> bool {
    let slopes = || said.iter().map(|(_, numeric)| *numeric);
    let (low, high) = (slopes().fold(f64::INFINITY, f64::min), slopes().fold(f64::NEG_INFINITY, f64::max));
    said.len() > 2 && low.signum() == high.signum() && (high - low) <= tolerance * low.abs().max(high.abs())
}

fn verdict(gradient: f64, numeric: f64, heard: bool, tolerance: f64) -> Agreement {
    if !(gradient.is_finite() && numeric.is_finite()) {
        return Agreement::Undefined;
    }
    let difference = (gradient - numeric).abs() / gradient.abs().max(numeric.abs()).max(f64::MIN_POSITIVE);
    match (difference <= tolerance, heard) {
        (true, true) => Agreement::Agrees,
        (_, false) => Agreement::Flat,
        _ => Agreement::Differs,
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

/// Random inputs of the model that its body takes, by name.
///
/// # Errors
/// An input of another type than floats and integers, or the body's refusal of all sizes that were tried.
pub fn random_inputs(bundle: &Bundle, options: &Options, seed: u64) -> Result<HashMap<String, Tensor>, Error> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (known, _) = random_values(bundle, options, &mut random)?;
    Ok(known.into_iter().filter(|(name, _)| bundle.inputs.iter().any(|(input, _)| input == name)).collect())
}

/// A batch of `rows` made of a few random samples' features, which belong together as the body gives them, and the size
/// that dimensions got which the model leaves open.
///
/// # Errors
/// As [`random_inputs`].
pub fn random_batch(bundle: &Bundle, loss: &Loss, options: &Options, rows: u64) -> Result<(Batch, u64), Error> {
    let mut random = fastrand::Rng::with_seed(0);
    let (features, open) = random_features(bundle, options, &mut random)?;
    let samples: Vec<usize> = (0..BATCH as usize).collect();
    let pixels = pixels(bundle, loss, options, &features)?;
    let labels = labels_tensor(&random_labels(bundle, (loss, pixels), open, &mut random), &samples);
    Ok((Batch { features: features.into_iter().collect(), labels }.repeated(rows), open))
}

/// Features of random samples: what the body makes of random inputs. And the size of open dimensions that it took.
fn random_features(
    bundle: &Bundle,
    options: &Options,
    random: &mut fastrand::Rng,
) -> Result<(HashMap<String, Tensor>, u64), Error> {
    let (mut known, open) = random_values(bundle, options, random)?;
    known.retain(|name, _| bundle.features.iter().any(|(feature, _)| feature == name));
    let rows = |tensor: &Tensor| tensor.shape.first().copied().unwrap_or(0);
    if let Some((feature, tensor)) = known.iter().find(|(_, tensor)| rows(tensor) != BATCH) {
        return Err(Error::Rows { feature: feature.clone(), rows: rows(tensor), batch: BATCH });
    }
    Ok((known, open))
}

/// Random inputs and what the body makes of them.
fn random_values(
    bundle: &Bundle,
    options: &Options,
    random: &mut fastrand::Rng,
) -> Result<(HashMap<String, Tensor>, u64), Error> {
    let mut body = bundle.body.as_deref().map(|path| Session::from_file(path, options)).transpose()?;
    let mut refused = None;
    for open in OPEN_SIZES {
        let mut known: HashMap<String, Tensor> = HashMap::new();
        for (name, ty) in &bundle.inputs {
            known.insert(name.clone(), random_input(name, ty, open, random)?);
        }
        if let Some(body) = &mut body {
            let names: Vec<String> = body.inputs().iter().map(|(name, _)| name.clone()).collect();
            let fed: Vec<(&str, &Tensor)> = names.iter().map(|name| (name.as_str(), &known[name])).collect();
            match body.run(&fed) {
                Ok(outputs) => known.extend(body.outputs().iter().map(|(name, _)| name.clone()).zip(outputs)),
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            }
        }
        return Ok((known, open));
    }
    Err(refused.expect("a size was tried").into())
}

/// Floats are normal; of integers, masks are ones and everything else is a small number.
fn random_input(name: &str, ty: &TensorType, open: u64, random: &mut fastrand::Rng) -> Result<Tensor, Error> {
    let refuse = |problem: &str| Error::Sample {
        sample: "the random samples of the check".into(),
        input: name.into(),
        problem: problem.into(),
    };
    let dims =
        ty.shape.as_deref().ok_or_else(|| refuse("has no known rank; export the model with its input's shape"))?;
    // Nothing was read before: the sequences of past keys and values are empty.
    let open = if data::text_role(name, ty) == Some(TextRole::Past) { 0 } else { open };
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

/// The size of the labels for each pixel: the loss's own, or that of the scores, which a run of the tail tells. Of texts the steps come first.
fn pixels(
    bundle: &Bundle,
    loss: &Loss,
    options: &Options,
    features: &HashMap<String, Tensor>,
) -> Result<Option<[u64; 2]>, Error> {
    if *loss != Loss::Ctc && (loss.positions() != Positions::Pixel || loss.size().is_some()) {
        return Ok(loss.size());
    }
    let mut tail = Session::from_file(&bundle.tail, options)?;
    let values: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    let parameters = fed(&bundle.parameters, &values);
    let named = features.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let all: Vec<(&str, &Tensor)> =
        named.chain(parameters.iter().map(|(name, tensor)| (name.as_str(), tensor))).collect();
    let shape = tail.run(&all)?.remove(0).shape;
    Ok(shape.last_chunk::<2>().copied())
}

/// Texts of half as many characters as there are steps, so that repeats have room for the blank between them.
fn random_lines(steps: u64, columns: usize, random: &mut fastrand::Rng) -> Labels {
    let mut lines = Lines::new(0, steps as usize, []);
    for _ in 0..BATCH {
        let line: Vec<u32> = (0..steps / 2).map(|_| random.u32(1..columns.max(2) as u32)).collect();
        lines.push(&line);
    }
    Labels::Lines { names: (0..columns).map(|class| class.to_string()).collect(), lines }
}

fn random_labels(
    bundle: &Bundle,
    (loss, pixels): (&Loss, Option<[u64; 2]>),
    open: u64,
    random: &mut fastrand::Rng,
) -> Labels {
    let (rows, columns) = (BATCH as usize, bundle.width as usize);
    if *loss == Loss::Ctc {
        return random_lines(pixels.map_or(open, |[steps, _]| steps), columns, random);
    }
    if let Some([height, width]) = pixels {
        let mut masks = Masks::new(height as u32, width as u32);
        for _ in 0..rows {
            let mask: Vec<u8> = (0..height * width).map(|_| random.u8(0..columns.min(255) as u8)).collect();
            masks.push(&mask);
        }
        let names = (0..columns).map(|class| class.to_string()).collect();
        return Labels::Pixels { names, masks };
    }
    if *loss == Loss::NextToken || loss.positions() == Positions::Token {
        let sequence = bundle.sequence().unwrap_or(open) as usize;
        return Labels::NextTokens(ndarray::Array2::from_shape_fn((rows, sequence), |_| random.i64(0..columns as i64)));
    }
    if let Loss::File(own) = loss {
        // Class numbers below the output's width, weights and targets of 0 and 1.
        let part = |part: Part| -> Vec<Option<i64>> {
            let classes = matches!(part.dtype, DType::Int64 | DType::Int32).then_some(columns as i64);
            vec![classes; part.values() as usize]
        };
        let values: Vec<Option<i64>> = own.parts().into_iter().flat_map(part).collect();
        let value = |(_, column): (usize, usize)| match values[column] {
            Some(classes) => random.i64(0..classes) as f32,
            None => f32::from(random.bool()),
        };
        return Labels::OfLoss(ndarray::Array2::from_shape_fn((rows, values.len()), value));
    }
    if let Loss::Normality { .. } = loss {
        return Labels::Anomalies(vec![false; rows]);
    }
    if let Loss::Likeness { by } = loss {
        let scored = *by == Likeness::CosineSimilarity;
        let member = |place: u32| Member {
            identity: place / 2,
            group: place / 2,
            role: if place.is_multiple_of(2) { Role::Anchor } else { Role::Positive },
            score: if scored { random.f32() } else { 1.0 },
        };
        let members = (0..rows as u32).map(member).collect();
        return Labels::Identities { names: Vec::new(), members, scored };
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
    fn a_curve_is_no_slope() {
        assert!(settled(vec![(0.1, 1.2), (0.01, 1.1), (0.003, 1.105)], 1.0, TOLERANCE), "two lengths say the same");
        assert!(!settled(vec![(0.1, 1.03)], 1.0, TOLERANCE), "one length may be a curve's");
        assert!(!settled(vec![(0.1, 1.2), (0.03, 1.05)], 1.0, TOLERANCE));
        assert!(settled(vec![(0.1, -1.0)], 1.0, TOLERANCE), "a flipped sign is no curve");
    }

    #[test]
    fn an_estimate_differs_where_all_lengths_agree_that_it_does() {
        assert!(unanimous(&[(0.1, 1.0), (0.01, 1.1), (0.001, 0.9)], ESTIMATE_TOLERANCE));
        assert!(!unanimous(&[(0.1, 1.0), (0.01, 0.3), (0.001, 1.1)], ESTIMATE_TOLERANCE), "rounding speaks");
        assert!(!unanimous(&[(0.1, 1.0), (0.01, 1.0)], ESTIMATE_TOLERANCE), "two may agree by chance");
        assert!(!unanimous(&[(0.1, 1.0), (0.01, -1.0), (0.001, 1.0)], ESTIMATE_TOLERANCE));
    }

    #[test]
    fn a_flipped_sign_a_factor_and_silence_are_told_apart() {
        assert_eq!(verdict(1.0, 1.01, true, TOLERANCE), Agreement::Agrees);
        assert_eq!(verdict(1.0, -1.0, true, TOLERANCE), Agreement::Differs);
        assert_eq!(verdict(1.0, 2.0, true, TOLERANCE), Agreement::Differs);
        assert_eq!(verdict(1.0, f64::NAN, true, TOLERANCE), Agreement::Undefined);
        assert_eq!(verdict(f64::NAN, f64::NAN, false, TOLERANCE), Agreement::Undefined);
        assert_eq!(verdict(f64::INFINITY, 0.0, false, TOLERANCE), Agreement::Undefined);
        assert_eq!(verdict(1e-9, 0.0, false, TOLERANCE), Agreement::Flat);
    }
}
