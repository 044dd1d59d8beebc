//! Closed forms: a linear head on frozen features, fitted in one pass instead of by gradient steps.
//!
//! Takes a bundle whose only parameters are one linear layer that reads the features themselves, with features and labels;
//! gives the same parameters that the loop would. Never reads the clock; time arrives as a function.

pub mod choose;
mod curve;
mod folds;
pub mod imprint;
mod layer;
pub mod lbfgs;
pub mod left_out;
pub mod logistic;
pub mod moments;
pub mod normality;
pub mod projection;
mod rows;
pub mod targets;
pub mod temperature;

pub use crate::ridge;
pub use curve::{LearningCurve, learning_curve};
pub use layer::Linear;

use super::error::Error;
use super::evaluate::{self, Metrics, Tally};
use super::features::Features;
use super::loss::Loss;
use super::prepare::Bundle;
use crate::data::{Labelled, Labels, Split};
use crate::engine::{self, Session};
use folds::Folds;
use layer::{refuse, refuse_too_large};
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use ridge::{Layer, Moments, Ridge};
use rows::{Below, Rows};
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
/// Validation samples that are enough to choose by: with fewer, one more right answer is a step of more than ten points.
pub const VALIDATION_MIN: usize = 10;
/// Training samples of which each is left out in turn where too few are held out.
const SAMPLES_FOLDED_MAX: usize = 1000;
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
    /// Least squares with a penalty from sums of integers ([`moments`]).
    Moments,
    /// What normal samples are ([`normality`]).
    Normality,
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
    /// Imprinting: classes whose rows are kept as the bundle's parameters hold them. L-BFGS: above 0, its penalty leads to what the
    /// parameters hold, in the place of zero. Else 0.
    pub known: usize,
    /// Whether the validation samples are learned from, too, once they have chosen the penalty and measured the result.
    pub refit: bool,
    /// Whether more learns than the head, which is fitted on what the layers below it give as they are.
    pub below: bool,
}

/// The world around a solution.
pub struct Around<'a> {
    /// The clock's time at which an iteration ends with what it has.
    pub until_s: Option<f64>,
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
    /// Samples that were learned from.
    pub samples: usize,
    /// Parts of the samples, each left out once, where too few are held out to measure by.
    pub folds: Option<usize>,
    /// The values of the bundle's parameters.
    #[serde(skip)]
    pub parameters: Vec<Vec<f32>>,
    /// The values before the validation samples were learned from: these are what validation may measure.
    #[serde(skip)]
    pub validated: Option<Vec<Vec<f32>>>,
    /// What each training sample showed when it was left out.
    #[serde(skip)]
    pub left_out: Option<Metrics>,
    /// The same of all samples, those that validate included: moments tell it without solving anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave_one_out: Option<Metrics>,
}

impl Settings {
    /// Whether solver and loss go together.
    ///
    /// # Errors
    /// [`Error::Setting`] with what helps.
    pub fn check(&self) -> Result<(), Error> {
        let setting = |setting, problem: String| Err(Error::Setting { setting, problem });
        if self.l2.is_some_and(|l2| !(l2 > 0.0 && l2.is_finite())) {
            return setting("l2", "must be a positive number, such as 1; leave it out to have it chosen".into());
        }
        match (self.solver, &self.loss) {
            (
                _,
                loss @ (Loss::NextToken
                | Loss::Coral
                | Loss::TokenCrossEntropy { .. }
                | Loss::PixelCrossEntropy { .. }
                | Loss::Boxes { .. }
                | Loss::Ctc
                | Loss::Likeness { .. }
                | Loss::File(_)),
            ) => {
                let name = loss.name();
                setting("solver", format!("{name} has no closed form: remove it to train by gradient steps"))
            }
            (Solver::Lbfgs, Loss::MeanSquaredError) => {
                setting("solver", "mean-squared-error has an exact solution: choose setting `solver = ridge`".into())
            }
            (Solver::Ridge | Solver::Moments, Loss::Huber { .. }) => setting(
                "solver",
                "ridge and moments square every error: choose setting `solver = lbfgs` for setting `loss = huber`"
                    .into(),
            ),
            (Solver::Imprint, loss) if !loss.takes_classes() => {
                setting("solver", "imprint needs one class a sample: choose ridge or lbfgs".into())
            }
            (Solver::Imprint, _) if self.l2.is_some() => setting(
                "l2",
                "imprinting has no penalty: remove it, or choose setting `solver = ridge` or lbfgs".into(),
            ),
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
    learned: Labelled<'_>,
    settings: &Settings,
    options: &engine::Options,
    around: &mut Around<'_>,
) -> Result<Option<Solved>, Error> {
    let Labelled { labels, split } = learned;
    settings.check()?;
    super::fit::check_labels(&settings.loss, labels, split, bundle)?;
    let linear = if settings.below { Linear::fresh_head(bundle)? } else { Linear::find(bundle)? };
    let targets = Targets::new(labels, linear.outputs);
    let below = if linear.reads_the_feature(bundle) { None } else { Some(Below::new(bundle, &linear, options)?) };
    let rows = Rows { features, linear: &linear, below, stop: around.stop };
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
    let (clock, until_s) = (around.clock, around.until_s);
    let is_late = &|| until_s.is_some_and(|until_s| clock() > until_s);
    let mut work = Work { rows, targets, labels, split, settings, initial: bundle, is_late };
    let Some(found) = work.find()? else { return Ok(None) };
    let parameters = work.placed(&found.layer, found.added);
    let validated = found.validated.map(|layer| linear.place(&layer));
    refuse_too_large(&parameters)?;
    work.compare(bundle, &linear.among_all(bundle, &parameters), options)?;
    let (folds, left_out) = found.left_out.unzip();
    Ok(Some(Solved {
        solver: settings.solver,
        l2: found.l2,
        iterations: found.iterations,
        seconds: (around.clock)() - began,
        samples: split.train.len() + if validated.is_some() { split.validation.len() } else { 0 },
        folds,
        parameters,
        validated,
        left_out,
        leave_one_out: found.leave_one_out,
    }))
}

/// The values that gradient steps begin with: a fresh head in closed form, all else as it is. `None` where the head has no
/// closed form, or the stop flag was raised.
///
/// # Errors
/// As [`solve`].
pub fn start(
    bundle: &Bundle,
    features: &mut Features,
    learned: Labelled<'_>,
    loss: &Loss,
    options: &engine::Options,
    around: &mut Around<'_>,
) -> Result<Option<Vec<Vec<f32>>>, Error> {
    let Some(settings) = choose::solver(bundle, learned.labels, learned.split, loss) else { return Ok(None) };
    let settings = Settings { refit: false, below: true, ..settings };
    match solve(bundle, features, learned, &settings, options, around) {
        Ok(solved) => {
            let linear = Linear::fresh_head(bundle)?;
            Ok(solved.map(|solved| linear.among_all(bundle, &solved.parameters)))
        }
        Err(Error::NoClosedForm { problem, .. }) => {
            tracing::info!(problem, "the head starts from zero");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A solution.
struct Solution {
    layer: Layer,
    /// Whether the layer has the new classes' rows only.
    added: bool,
    /// The layer without the validation samples, where they were learned from in the end.
    validated: Option<Layer>,
    /// The number of parts, and what each training sample showed when it was left out.
    left_out: Option<(usize, Metrics)>,
    /// What every sample showed when it was left out, where that costs nothing.
    leave_one_out: Option<Metrics>,
    l2: Option<f64>,
    iterations: Option<usize>,
}

impl Solution {
    fn layer(layer: Layer) -> Self {
        Self { layer, added: false, validated: None, left_out: None, leave_one_out: None, l2: None, iterations: None }
    }
}

/// A solution in progress.
struct Work<'a> {
    rows: Rows<'a>,
    targets: Targets<'a>,
    labels: &'a Labels,
    split: &'a Split,
    settings: &'a Settings,
    initial: &'a Bundle,
    /// Whether the time that the solution may take is over.
    is_late: &'a dyn Fn() -> bool,
}

impl Work<'_> {
    fn find(&mut self) -> Result<Option<Solution>, Error> {
        match self.settings.solver {
            Solver::Ridge => self.ridge(),
            Solver::Lbfgs => self.lbfgs(),
            Solver::Imprint => self.imprint(),
            Solver::Moments => self.moments(),
            Solver::Normality => self.normality(),
        }
    }

    /// Training and validation samples, where the latter are learned from in the end.
    fn everyone(&self) -> Option<Vec<usize>> {
        let Split { train, validation } = self.split;
        (self.settings.refit && !validation.is_empty()).then(|| [&train[..], &validation[..]].concat())
    }

    fn ridge(&mut self) -> Result<Option<Solution>, Error> {
        let split = self.split;
        let Some((layer, lambda)) = self.ridge_of(&split.train)? else { return Ok(None) };
        let mut found = Solution { l2: Some(lambda), ..Solution::layer(layer) };
        if split.validation.len() < VALIDATION_MIN && split.train.len() <= SAMPLES_FOLDED_MAX {
            let Some(rows) = self.rows.all(&split.train)? else { return Ok(None) };
            found.left_out = self.folds_of(&rows).map(|folds| self.ridge_left_out(&rows, &folds));
        }
        let Some(everyone) = self.everyone() else { return Ok(Some(found)) };
        let Some((layer, lambda)) = self.ridge_of(&everyone)? else { return Ok(None) };
        Ok(Some(Solution { layer, l2: Some(lambda), validated: Some(found.layer), ..found }))
    }

    /// The layer for some samples, and its λ.
    fn ridge_of(&mut self, samples: &[usize]) -> Result<Option<(Layer, f64)>, Error> {
        let (inputs, outputs, bias) = (self.rows.linear.inputs, self.rows.linear.outputs, self.rows.linear.has_bias());
        let problem = if samples.len() > inputs {
            let mut moments = Moments::new(inputs, outputs, bias);
            for chunk in samples.chunks(CHUNK) {
                let Some(rows) = self.rows.fetch(chunk)? else { return Ok(None) };
                moments.add(rows.view(), self.targets.signed(chunk).view());
            }
            moments.into_ridge()
        } else {
            let Some(rows) = self.rows.all(samples)? else { return Ok(None) };
            Ridge::dual(rows, self.targets.signed(samples).view(), bias)
        };
        let lambda = self.settings.l2.unwrap_or_else(|| problem.choose(&problem.grid()));
        let mut layer = problem.solve(lambda);
        if self.targets.is_classes() {
            let freedom = problem.freedom(lambda);
            let Some(factor) = self.calibration(&layer, samples, freedom)? else { return Ok(None) };
            layer.weights *= factor;
            layer.bias *= factor;
        }
        Ok(Some((layer, lambda)))
    }

    /// What each training sample shows where the layer, its penalty included, is found without it.
    fn ridge_left_out(&self, rows: &Array2<f32>, folds: &Folds) -> (usize, Metrics) {
        let (train, targets) = (&self.split.train, &self.targets);
        let mut tally = Tally::new(self.labels, &self.settings.loss);
        for (kept, left) in folds.parts() {
            let (x, samples) = (rows.select(Axis(0), &kept), folds::numbers(train, &kept));
            let wanted = targets.signed(&samples);
            let problem = Ridge::dual(x.clone(), wanted.view(), self.rows.linear.has_bias());
            let lambda = self.settings.l2.unwrap_or_else(|| problem.choose(&problem.grid()));
            let mut layer = problem.solve(lambda);
            if targets.is_classes() {
                let left_out = &wanted - (&wanted - layer.apply(x.view())) / problem.freedom(lambda);
                let factor = temperature::fit(&left_out, &samples, targets);
                layer.weights *= factor;
                layer.bias *= factor;
            }
            let outputs = layer.apply(rows.select(Axis(0), &left).view());
            add_outputs(&mut tally, &outputs, &folds::numbers(train, &left));
        }
        (folds.count, tally.metrics())
    }

    /// The factor that makes the outputs logits, from predictions of each sample as if it had not been fitted: its residual
    /// divided by the freedom that the fit leaves.
    fn calibration(&mut self, layer: &Layer, samples: &[usize], freedom: f64) -> Result<Option<f64>, Error> {
        let mut left_out = Array2::zeros((samples.len(), self.rows.linear.outputs));
        for (chunk, mut to) in samples.chunks(CHUNK).zip(left_out.axis_chunks_iter_mut(Axis(0), CHUNK)) {
            let Some(rows) = self.rows.fetch(chunk)? else { return Ok(None) };
            let wanted = self.targets.signed(chunk);
            to.assign(&(&wanted - (&wanted - layer.apply(rows.view())) / freedom));
        }
        Ok(Some(temperature::fit(&left_out, samples, &self.targets)))
    }

    fn lbfgs(&mut self) -> Result<Option<Solution>, Error> {
        let Split { train, validation } = self.split;
        let everyone = [&train[..], &validation[..]].concat();
        let Some(all) = self.rows.all(&everyone)? else { return Ok(None) };
        let (rows, held_out) = all.view().split_at(Axis(0), train.len());
        let (stop, is_late) = (self.rows.stop, self.is_late);
        let go_on = || !stop.load(Ordering::Relaxed) && !is_late();
        let problem = self.problem(rows, train);
        let (choice, left_out) = match self.settings.l2 {
            Some(lambda) => (ChosenPenalty { lambda, start: None, iterations: 0 }, None),
            None if validation.len() >= VALIDATION_MIN => (self.by_validation(&problem, held_out, &go_on), None),
            None => {
                let Some((choice, metrics)) = self.by_folds(rows, &go_on) else { return Err(no_penalty()) };
                (choice, Some(metrics))
            }
        };
        let fitted = problem.fit(choice.lambda, choice.start.as_ref(), GRADIENT, &go_on);
        let mut found = Solution {
            l2: Some(choice.lambda),
            iterations: Some(choice.iterations + fitted.iterations),
            left_out,
            ..Solution::layer(fitted.layer)
        };
        if self.everyone().is_some() {
            let whole = self.problem(all.view(), &everyone).fit(choice.lambda, Some(&found.layer), GRADIENT, &go_on);
            found.iterations = found.iterations.map(|before| before + whole.iterations);
            found.validated = Some(std::mem::replace(&mut found.layer, whole.layer));
        }
        Ok((!stop.load(Ordering::Relaxed)).then_some(found))
    }

    fn problem<'r>(&self, rows: ArrayView2<'r, f32>, samples: &[usize]) -> logistic::Problem<'r> {
        let bias = self.rows.linear.has_bias();
        let problem = logistic::Problem::new(rows, samples, &self.targets, &self.settings.loss, bias)
            .expect("the settings were checked");
        if self.settings.known == 0 { problem } else { problem.towards(&self.known_layer()) }
    }

    /// The layer that the bundle's parameters hold.
    fn known_layer(&self) -> Layer {
        let linear = self.rows.linear;
        let (weights, bias) = linear.stored(&self.initial_values());
        let (alpha, beta) = linear.factors();
        let bias = if bias.is_empty() { vec![0.0; linear.outputs] } else { bias };
        Layer {
            weights: weights.mapv(|w| alpha * f64::from(w)),
            bias: bias.iter().map(|b| beta * f64::from(*b)).collect(),
        }
    }

    /// The penalty with the lowest loss on the validation samples.
    fn by_validation(
        &self,
        problem: &logistic::Problem<'_>,
        held_out: ArrayView2<f32>,
        go_on: &dyn Fn() -> bool,
    ) -> ChosenPenalty {
        let mut best: Option<(f64, ChosenPenalty)> = None;
        let mut last = (self.settings.known > 0).then(|| self.known_layer());
        let (mut iterations, mut worse) = (0, 0);
        for lambda in problem.grid() {
            let fitted = problem.fit(lambda, last.as_ref(), GRADIENT_WHILE_CHOOSING, go_on);
            iterations += fitted.iterations;
            let mut tally = Tally::new(self.labels, &self.settings.loss);
            add_outputs(&mut tally, &fitted.layer.apply(held_out), &self.split.validation);
            let found = tally.metrics().loss;
            last = Some(fitted.layer.clone());
            if best.as_ref().is_none_or(|best| found < best.0) {
                best = Some((found, ChosenPenalty { lambda, start: Some(fitted.layer), iterations: 0 }));
                worse = 0;
            } else {
                worse += 1;
            }
            if worse == PATIENCE || !go_on() {
                break;
            }
        }
        ChosenPenalty { iterations, ..best.expect("the grid is not empty").1 }
    }

    /// The penalty with the lowest loss where each part of the training samples is left out once, and what they showed then.
    /// `None` where nothing can be left out.
    fn by_folds(&self, rows: ArrayView2<f32>, go_on: &dyn Fn() -> bool) -> Option<(ChosenPenalty, (usize, Metrics))> {
        let train = &self.split.train;
        let folds = self.folds_of(&rows.to_owned())?;
        let grid = self.problem(rows, train).grid();
        let mut tallies = vec![Tally::new(self.labels, &self.settings.loss); grid.len()];
        let mut iterations = 0;
        for (kept, left) in folds.parts() {
            let (x, samples) = (rows.select(Axis(0), &kept), folds::numbers(train, &kept));
            let (held_out, left) = (rows.select(Axis(0), &left), folds::numbers(train, &left));
            let problem = self.problem(x.view(), &samples);
            let mut last: Option<Layer> = None;
            for (lambda, tally) in grid.iter().zip(&mut tallies) {
                let fitted = problem.fit(*lambda, last.as_ref(), GRADIENT_WHILE_CHOOSING, go_on);
                iterations += fitted.iterations;
                add_outputs(tally, &fitted.layer.apply(held_out.view()), &left);
                last = Some(fitted.layer);
            }
        }
        let metrics: Vec<Metrics> = tallies.iter().map(Tally::metrics).collect();
        let best = (0..grid.len()).min_by(|a, b| metrics[*a].loss.total_cmp(&metrics[*b].loss))?;
        let choice = ChosenPenalty { lambda: grid[best], start: None, iterations };
        Some((choice, (folds.count, metrics[best].clone())))
    }

    fn folds_of(&self, rows: &Array2<f32>) -> Option<Folds> {
        Folds::new(rows, &self.split.train, &self.targets)
    }

    fn normality(&mut self) -> Result<Option<Solution>, Error> {
        let (Loss::Normality { whitened, false_alarms }, Labels::Anomalies(anomalous)) =
            (&self.settings.loss, self.labels)
        else {
            unreachable!("labels were checked against the loss before the run")
        };
        let held_out: Vec<usize> = self.split.validation.iter().copied().filter(|sample| !anomalous[*sample]).collect();
        normality::check(self.split.train.len(), held_out.len(), self.rows.linear.has_bias())?;
        let train = &self.split.train;
        let (Some(rows), Some(held_out)) = (self.rows.all(train)?, self.rows.all(&held_out)?) else { return Ok(None) };
        let outputs = self.rows.linear.outputs;
        let layer =
            normality::layer(rows.mapv(f64::from), &held_out.mapv(f64::from), outputs, *whitened, *false_alarms);
        Ok(Some(Solution::layer(layer)))
    }

    fn imprint(&mut self) -> Result<Option<Solution>, Error> {
        let train = &self.split.train;
        let Some(rows) = self.rows.all(train)? else { return Ok(None) };
        let (linear, known) = (self.rows.linear, self.settings.known);
        if known == 0 {
            return Ok(Some(Solution::layer(imprint::imprint(&rows, train, &self.targets))));
        }
        if !linear.has_bias() {
            return Err(refuse("the layer has no bias that could set a new class against the known ones".into()));
        }
        let Layer { weights, bias } = self.known_layer();
        let old = Layer {
            weights: weights.slice(ndarray::s![..known, ..]).to_owned(),
            bias: bias.slice(ndarray::s![..known]).to_owned(),
        };
        let new = imprint::extend(&old, &rows, train, &self.targets);
        Ok(Some(Solution { added: true, ..Solution::layer(new) }))
    }

    fn initial_values(&self) -> Vec<Vec<f32>> {
        self.initial.parameters.iter().map(|parameter| parameter.initial.clone()).collect()
    }

    /// The values of the bundle's parameters. Where a layer has rows for new classes only, the known ones stay to the bit.
    fn placed(&self, layer: &Layer, added: bool) -> Vec<Vec<f32>> {
        let linear = self.rows.linear;
        if !added {
            return linear.place(layer);
        }
        let (weights, mut bias) = linear.stored(&self.initial_values());
        let (alpha, beta) = linear.factors();
        let kept = weights.slice(ndarray::s![..self.settings.known, ..]);
        let new = layer.weights.mapv(|w| (w / alpha) as f32);
        let weights = concatenate(Axis(0), &[kept, new.view()]).expect("rows of the same length");
        bias.truncate(self.settings.known);
        bias.extend(layer.bias.iter().map(|b| (b / beta) as f32));
        linear.store(&weights, bias)
    }

    /// Runs the tail with what was found: whatever the walk took for linear must be so.
    fn compare(&mut self, bundle: &Bundle, parameters: &[Vec<f32>], options: &engine::Options) -> Result<(), Error> {
        let samples: Vec<usize> = self.split.train.iter().copied().take(COMPARED).collect();
        let shipped = evaluate::shipped(&bundle.parameters, parameters);
        let mut tail = Session::from_file(&bundle.tail, options)?;
        let outputs = evaluate::outputs(&mut tail, self.rows.features, &samples, &shipped)?;
        let Some(rows) = self.rows.fetch(&samples)? else { return Ok(()) };
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

/// A penalty that was chosen, the layer found with it on the way, and the steps of the search.
struct ChosenPenalty {
    lambda: f64,
    start: Option<Layer>,
    iterations: usize,
}

/// Adds samples with the outputs of a layer.
fn add_outputs(tally: &mut Tally<'_>, outputs: &Array2<f64>, samples: &[usize]) {
    let values: Vec<f32> = outputs.iter().map(|output| *output as f32).collect();
    tally.add(&values, samples);
}

/// With one sample a class nothing can be held out that could tell a good penalty from a bad one.
fn no_penalty() -> Error {
    let problem = "no class has two samples that differ, so nothing tells a good penalty from a bad one; give setting `l2`, such as 1, or choose \
                   setting `solver = imprint`";
    Error::Setting { setting: "solver", problem: problem.into() }
}
