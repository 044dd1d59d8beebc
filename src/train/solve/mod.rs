//! Closed forms: a linear head on frozen features, fitted in one pass instead of by gradient steps.
//!
//! Takes a bundle whose only parameters are one linear layer that reads the features themselves, with features and labels;
//! gives the same parameters that the loop would. Never reads the clock; time arrives as a function.

pub mod imprint;
mod layer;
pub mod lbfgs;
pub mod logistic;
pub mod ridge;
pub mod targets;
pub mod temperature;
pub mod tridiagonal;

pub use layer::Linear;

use super::error::Error;
use super::evaluate;
use super::features::Features;
use super::loss::{Loss, Target};
use super::prepare::Bundle;
use crate::adapter::fp16;
use crate::data::{Labels, Split};
use crate::engine::{self, Session};
use layer::refuse;
use ndarray::{Array2, Axis, concatenate};
use ridge::{Layer, Moments, Ridge};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use targets::Targets;

/// Samples whose features are asked for at a time.
const CHUNK: usize = 256;
/// Samples by which the tail is compared with the layer that was found in it.
const COMPARED: usize = 8;
/// The largest difference that counts as equal, of the largest output: a base in fp16 rounds at 10⁻³.
const TOLERANCE: f64 = 0.02;
/// Largest element of the gradient, a sample, at which L-BFGS ends; and while it is only to compare penalties.
const GRADIENT: f64 = 1e-6;
const GRADIENT_WHILE_CHOOSING: f64 = 1e-4;
/// Penalties without a better validation loss after which no weaker one is tried.
const PATIENCE: usize = 2;

/// How to solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Solver {
    /// Least squares with a penalty ([`ridge`]).
    Ridge,
    /// Logistic regression and others by L-BFGS ([`logistic`]).
    Lbfgs,
    /// Each class's mean direction ([`imprint`]).
    Imprint,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How.
    pub solver: Solver,
    /// λ of ½·λ‖W‖² beside the sum over samples; `None` chooses it.
    pub l2: Option<f64>,
    /// What is minimised; ridge takes it for the kind of targets only.
    pub loss: Loss,
    /// Classes whose rows are kept as the bundle's parameters hold them; for imprinting, else 0.
    pub known: usize,
}

/// The world around a solution.
pub struct Around<'a> {
    /// Raised to end it.
    pub stop: &'a AtomicBool,
    /// Seconds since some fixed moment.
    pub clock: &'a dyn Fn() -> f64,
    /// Told how many samples' features were read.
    pub tell: &'a mut dyn FnMut(usize),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Solved {
    /// How.
    pub solver: Solver,
    /// λ, chosen or given; none for imprinting.
    pub l2: Option<f64>,
    /// Steps of L-BFGS, those for other λ included.
    pub iterations: Option<usize>,
    /// Seconds from features to parameters.
    pub seconds: f64,
    /// The values of the bundle's parameters.
    #[serde(skip)]
    pub parameters: Vec<Vec<f32>>,
}

impl Settings {
    /// Whether solver and loss go together.
    ///
    /// # Errors
    /// [`Error::Setting`] with what helps.
    pub fn check(&self) -> Result<(), Error> {
        let setting = |setting, problem: String| Err(Error::Setting { setting, problem });
        if self.l2.is_some_and(|l2| !(l2 > 0.0 && l2.is_finite())) {
            return setting("--l2", "must be a positive number, such as 1; leave it out to have it chosen".into());
        }
        match (self.solver, &self.loss) {
            (_, Loss::NextToken) => {
                setting("--solver", "next-token has no closed form: remove it to train by gradient steps".into())
            }
            (Solver::Lbfgs, Loss::MeanSquaredError) => {
                setting("--solver", "mean-squared-error has an exact solution: choose --solver ridge".into())
            }
            (Solver::Ridge, Loss::Huber { .. }) => {
                setting("--solver", "ridge squares every error: choose --solver lbfgs for --loss huber".into())
            }
            (Solver::Imprint, loss) if !loss.takes_classes() => {
                setting("--solver", "imprint needs one class a sample: choose ridge or lbfgs".into())
            }
            (Solver::Imprint, _) if self.l2.is_some() => {
                setting("--l2", "imprinting has no penalty: remove it, or choose --solver ridge or lbfgs".into())
            }
            _ => Ok(()),
        }
    }
}

/// Solves for a bundle's parameters; `None` if it was stopped.
///
/// # Errors
/// A bundle that learns more than one linear layer, settings that do not fit, features that cannot be read.
pub fn solve(
    bundle: &Bundle,
    features: &mut Features,
    labels: &Labels,
    split: &Split,
    settings: &Settings,
    options: &engine::Options,
    around: &mut Around<'_>,
) -> Result<Option<Solved>, Error> {
    settings.check()?;
    super::fit::check_labels(&settings.loss, labels, split, bundle)?;
    let linear = Linear::find(bundle)?;
    let targets = Targets::new(labels, linear.outputs);
    let rows = Rows { features, linear: &linear, stop: around.stop };
    // The body's pass comes first, so that what follows is the solver's own time.
    for (index, chunk) in split.train.chunks(CHUNK).enumerate() {
        if !rows.features.ready(chunk, around.stop)? {
            return Ok(None);
        }
        (around.tell)(index * CHUNK + chunk.len());
    }
    if !rows.features.ready(&split.validation, around.stop)? {
        return Ok(None);
    }
    let began = (around.clock)();
    let mut work = Work { rows, targets, split, settings, initial: bundle };
    let found = match settings.solver {
        Solver::Ridge => work.ridge()?,
        Solver::Lbfgs => work.lbfgs()?,
        Solver::Imprint => work.imprint()?,
    };
    let Some((parameters, l2, iterations)) = found else { return Ok(None) };
    let seconds = (around.clock)() - began;
    refuse_too_large(&parameters)?;
    work.compare(bundle, &parameters, options)?;
    Ok(Some(Solved { solver: settings.solver, l2, iterations, seconds, parameters }))
}

/// Features as the layer reads them.
struct Rows<'a> {
    features: &'a mut Features,
    linear: &'a Linear,
    stop: &'a AtomicBool,
}

impl Rows<'_> {
    /// `[samples, inputs]`; `None` if it was stopped.
    fn of(&mut self, samples: &[usize]) -> Result<Option<Array2<f32>>, Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = self.features.batch(samples)?;
        self.linear.rows(&batch[0].1).map(Some)
    }

    /// [`Rows::of`] for any number of samples: all of them in memory.
    fn all(&mut self, samples: &[usize]) -> Result<Option<Array2<f32>>, Error> {
        let mut all = Array2::zeros((samples.len(), self.linear.inputs));
        for (chunk, mut to) in samples.chunks(CHUNK).zip(all.axis_chunks_iter_mut(Axis(0), CHUNK)) {
            let Some(rows) = self.of(chunk)? else { return Ok(None) };
            to.assign(&rows);
        }
        Ok(Some(all))
    }
}

/// Parameters, λ, and steps.
type Found = Option<(Vec<Vec<f32>>, Option<f64>, Option<usize>)>;

/// A solution in progress.
struct Work<'a> {
    rows: Rows<'a>,
    targets: Targets<'a>,
    split: &'a Split,
    settings: &'a Settings,
    initial: &'a Bundle,
}

impl Work<'_> {
    fn ridge(&mut self) -> Result<Found, Error> {
        let train = &self.split.train;
        let (inputs, outputs, bias) = (self.rows.linear.inputs, self.rows.linear.outputs, self.rows.linear.has_bias());
        let problem = if train.len() > inputs {
            let mut moments = Moments::new(inputs, outputs, bias);
            for chunk in train.chunks(CHUNK) {
                let Some(rows) = self.rows.of(chunk)? else { return Ok(None) };
                moments.add(rows.view(), self.targets.signed(chunk).view());
            }
            moments.into_ridge()
        } else {
            let Some(rows) = self.rows.all(train)? else { return Ok(None) };
            Ridge::dual(rows, self.targets.signed(train).view(), bias)
        };
        let lambda = self.settings.l2.unwrap_or_else(|| problem.choose(&problem.grid()));
        let mut layer = problem.solve(lambda);
        if self.targets.is_classes() {
            let Some(factor) = self.calibration(&layer, problem.freedom(lambda))? else { return Ok(None) };
            layer.weights *= factor;
            layer.bias *= factor;
        }
        Ok(Some((self.rows.linear.place(&layer), Some(lambda), None)))
    }

    /// The factor that makes the outputs logits, from predictions of each sample as if it had not been fitted: its residual
    /// divided by the freedom that the fit leaves.
    fn calibration(&mut self, layer: &Layer, freedom: f64) -> Result<Option<f64>, Error> {
        let train = &self.split.train;
        let mut left_out = Array2::zeros((train.len(), self.rows.linear.outputs));
        for (chunk, mut to) in train.chunks(CHUNK).zip(left_out.axis_chunks_iter_mut(Axis(0), CHUNK)) {
            let Some(rows) = self.rows.of(chunk)? else { return Ok(None) };
            let wanted = self.targets.signed(chunk);
            to.assign(&(&wanted - (&wanted - layer.apply(rows.view())) / freedom));
        }
        Ok(Some(temperature::fit(&left_out, train, &self.targets)))
    }

    fn lbfgs(&mut self) -> Result<Found, Error> {
        let Some(rows) = self.rows.all(&self.split.train)? else { return Ok(None) };
        let Some(held_out) = self.rows.all(&self.split.validation)? else { return Ok(None) };
        let (loss, bias) = (&self.settings.loss, self.rows.linear.has_bias());
        let problem = logistic::Problem::new(&rows, &self.split.train, &self.targets, loss, bias)
            .expect("the settings were checked");
        let stop = self.rows.stop;
        let go_on = || !stop.load(Ordering::Relaxed);
        let mut iterations = 0;
        let (lambda, start) = match self.settings.l2 {
            Some(lambda) => (lambda, None),
            None if self.split.validation.is_empty() => {
                let problem = "without validation samples nothing tells a good penalty from a bad one; give --l2, such as \
                               1, raise --val-fraction, or choose --solver ridge, which needs none";
                return Err(Error::Setting { setting: "--solver", problem: problem.into() });
            }
            None => {
                let mut best: Option<(f64, f64, Layer)> = None;
                let mut last: Option<Layer> = None;
                let mut worse = 0;
                for lambda in problem.grid() {
                    let fitted = problem.fit(lambda, last.as_ref(), GRADIENT_WHILE_CHOOSING, &go_on);
                    iterations += fitted.iterations;
                    let found = self.mean_loss(&fitted.layer, &held_out);
                    last = Some(fitted.layer.clone());
                    if best.as_ref().is_none_or(|best| found < best.0) {
                        best = Some((found, lambda, fitted.layer));
                        worse = 0;
                    } else {
                        worse += 1;
                    }
                    if worse == PATIENCE {
                        break;
                    }
                }
                let (_, lambda, layer) = best.expect("the grid is not empty");
                (lambda, Some(layer))
            }
        };
        let fitted = problem.fit(lambda, start.as_ref(), GRADIENT, &go_on);
        if !go_on() {
            return Ok(None);
        }
        iterations += fitted.iterations;
        Ok(Some((self.rows.linear.place(&fitted.layer), Some(lambda), Some(iterations))))
    }

    /// The mean loss on validation samples.
    fn mean_loss(&self, layer: &Layer, rows: &Array2<f32>) -> f64 {
        let outputs = layer.apply(rows.view()).mapv(|output| output as f32);
        let mut target = vec![0.0; self.targets.width];
        let one = |(row, sample): (ndarray::ArrayView1<f32>, &usize)| {
            let row = row.to_vec();
            if let Some(class) = self.targets.class(*sample) {
                return self.settings.loss.of_row(&row, Target::Class(class));
            }
            self.targets.row(*sample, &mut target);
            let values: Vec<f32> = target.iter().map(|value| *value as f32).collect();
            self.settings.loss.of_row(&row, Target::Values(&values))
        };
        outputs.rows().into_iter().zip(&self.split.validation).map(one).sum::<f64>() / rows.nrows() as f64
    }

    fn imprint(&mut self) -> Result<Found, Error> {
        let train = &self.split.train;
        let Some(rows) = self.rows.all(train)? else { return Ok(None) };
        let (linear, known) = (self.rows.linear, self.settings.known);
        if known == 0 {
            let layer = imprint::imprint(&rows, train, &self.targets);
            return Ok(Some((linear.place(&layer), None, None)));
        }
        if !linear.has_bias() {
            return Err(refuse("the layer has no bias that could set a new class against the known ones".into()));
        }
        let initial: Vec<Vec<f32>> = self.initial.parameters.iter().map(|p| p.initial.clone()).collect();
        let (mut weights, mut bias) = linear.stored(&initial);
        let (alpha, beta) = linear.factors();
        let old = Layer {
            weights: weights.slice(ndarray::s![..known, ..]).mapv(|w| alpha * f64::from(w)),
            bias: bias[..known].iter().map(|b| beta * f64::from(*b)).collect(),
        };
        let new = imprint::extend(&old, &rows, train, &self.targets);
        let kept = weights.slice(ndarray::s![..known, ..]);
        let added = new.weights.mapv(|w| (w / alpha) as f32);
        weights = concatenate(Axis(0), &[kept, added.view()]).expect("rows of the same length");
        bias.truncate(known);
        bias.extend(new.bias.iter().map(|b| (b / beta) as f32));
        Ok(Some((linear.store(&weights, bias), None, None)))
    }

    /// Runs the tail with what was found: whatever the walk took for linear must be so.
    fn compare(&mut self, bundle: &Bundle, parameters: &[Vec<f32>], options: &engine::Options) -> Result<(), Error> {
        let samples: Vec<usize> = self.split.train.iter().copied().take(COMPARED).collect();
        let shipped = evaluate::shipped(&bundle.parameters, parameters);
        let mut tail = Session::from_file(&bundle.tail, options)?;
        let outputs = evaluate::outputs(&mut tail, self.rows.features, &samples, &shipped)?;
        let batch = self.rows.features.batch(&samples)?;
        let rows = self.rows.linear.rows(&batch[0].1)?;
        let values: Vec<Vec<f32>> = shipped.iter().map(|(_, tensor)| tensor.to_f32().unwrap_or_default()).collect();
        let (weights, bias) = self.rows.linear.stored(&values);
        let (alpha, beta) = self.rows.linear.factors();
        let mut wanted = rows.dot(&weights.t()).mapv(|z| alpha * f64::from(z));
        if !bias.is_empty() {
            wanted += &ndarray::Array1::from(bias).mapv(|b| beta * f64::from(b));
        }
        let largest = wanted.iter().fold(0.0f64, |largest, z| largest.max(z.abs()));
        let off = |(row, wanted): (&Vec<f32>, ndarray::ArrayView1<f64>)| {
            row.len() != wanted.len()
                || row.iter().zip(wanted).any(|(z, wanted)| (f64::from(*z) - wanted).abs() > TOLERANCE * largest)
        };
        if outputs.iter().zip(wanted.rows()).any(off) {
            return Err(refuse("what lies between the layer and the output changes more than its shape".into()));
        }
        Ok(())
    }
}

/// What is beyond fp16 would be another value in the delta.
fn refuse_too_large(parameters: &[Vec<f32>]) -> Result<(), Error> {
    let worst = parameters.iter().flatten().find(|value| value.is_nan() || value.abs() > fp16::LARGEST);
    worst.map_or(Ok(()), |value| {
        Err(refuse(format!(
            "a value of {value} would be learned, which fp16 does not hold (its features are too small)"
        )))
    })
}
