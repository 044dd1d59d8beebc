//! The loop: epochs over cached features, one bound step after another, validation, early stopping, checkpoints.

use super::anchor::Anchor;
pub use super::anchor::Hold;
pub use super::checkpoint::EpochRecord;
use super::checkpoint::{self, Best, Checkpoint};
use super::error::Error;
use super::evaluate::{self, Metrics};
use super::features::Features;
pub use super::fitting_labels::{check_labels, labels_tensor, refuse_unknown_tokens};
use super::optimizer::{global_norm, gradient_scale};
pub use super::order::order;
use super::prepare::Bundle;
use super::schedule::Schedule;
pub use super::settings::{ScheduleKind, Settings};
use super::solve::VALIDATION_MIN;
use super::step::{LABELS, LOSS, TEACHER, gradient_name};
use super::step_session::step_session;
use crate::adapter::fp16;
use crate::data::{Labelled, Labels, Split};
use crate::engine::{self, Bound, Session};
use crate::graph::Tensor;
use crate::task;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The share by which the training loss falls in the last epoch of a run that should have gone on.
const FALLS: f64 = 0.05;
/// A mean loss below which nothing is left to learn, however much it falls.
const LEARNED: f64 = 1e-2;

/// What the loop tells while it runs.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step is done.
    Step {
        /// Epoch, from 1.
        epoch: u32,
        /// Step in the epoch, from 1.
        step: u32,
        /// Steps in an epoch.
        steps: u32,
        /// The step's loss.
        loss: f64,
        /// Samples in it.
        samples: usize,
    },
    /// An epoch is done.
    Epoch {
        /// Epoch, from 1.
        epoch: u32,
        /// Its numbers.
        record: &'a EpochRecord,
    },
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The learned values in fp32, of the best epoch where there is validation, else of the last.
    pub parameters: Vec<Vec<f32>>,
    /// What the first values measured on the validation samples, where they count as a result.
    pub start: Option<Metrics>,
    /// All finished epochs.
    pub history: Vec<EpochRecord>,
    /// The epoch the parameters are from, from 1; 0 for the first values.
    pub best_epoch: u32,
    /// How it ended.
    pub end: End,
    /// Steps done in this process.
    pub steps: u64,
    /// Seconds of each step in this process.
    pub step_seconds: Vec<f64>,
    /// The clock after the first step.
    pub first_step_at_s: Option<f64>,
}

impl Outcome {
    /// A run that was stopped before its first step, or had none: there is nothing to go on with but its parameters, if any.
    pub fn without_steps(parameters: Vec<Vec<f32>>, end: End) -> Self {
        Self {
            parameters,
            start: None,
            history: Vec::new(),
            best_epoch: 0,
            end,
            steps: 0,
            step_seconds: Vec::new(),
            first_step_at_s: None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Finished,
    /// Validation loss had not improved for as long as the settings allow.
    Early,
    /// The time that the run may take was over.
    OutOfTime,
    /// The stop flag was raised; a checkpoint is written.
    Interrupted,
}

/// The world around a run.
pub struct Around<'a> {
    /// Where the checkpoint is written; `None` writes none.
    pub checkpoint: Option<&'a Path>,
    /// Whether to go on from it.
    pub resume: bool,
    /// Whether the first values count as a result: they are validated, and kept where no epoch is
    /// better beyond chance ([`Metrics::better_beyond_chance`]).
    pub keep_start: bool,
    /// What the run begins with in place of the bundle's values; kept where no epoch has a lower validation loss.
    pub first: Option<Vec<Vec<f32>>>,
    /// The clock's time that the run may not pass: it ends with the step and the validation that still fit.
    pub until_s: Option<f64>,
    /// Raised to end the run after the step in progress.
    pub stop: &'a AtomicBool,
    /// Seconds since some fixed moment.
    pub clock: &'a dyn Fn() -> f64,
    /// Told of every step and epoch.
    pub tell: &'a mut dyn FnMut(Event<'_>),
}

/// Trains the bundle's parameters on features. The checkpoint stays: it is of no more use once the result is saved.
///
/// # Errors
/// Settings that do not fit, a loss that stops being a number, ONNX Runtime's refusal, a checkpoint of another run.
pub fn fit(
    bundle: &Bundle,
    features: &mut Features,
    learned: Labelled<'_>,
    settings: &Settings,
    options: &engine::Options,
    around: &mut Around<'_>,
) -> Result<Outcome, Error> {
    let Labelled { labels, split } = learned;
    validate(settings, labels, split, bundle)?;
    let mut run = Run::start(bundle, features, learned, settings, options, around)?;
    let steps = settings.steps_per_epoch(split.train.len());
    if around.keep_start && run.state.steps_total == 0 {
        if !run.features.ready(&split.validation, around.stop)? {
            return run.interrupted(around);
        }
        run.state.start = run.validate(around.clock)?;
        if let Some(metrics) = run.state.start.clone() {
            run.keep(&metrics);
        }
    }
    if around.first.is_some() && run.state.steps_total == 0 && chooses(split, labels) {
        if !run.features.ready(&split.validation, around.stop)? {
            return run.interrupted(around);
        }
        if let Some(metrics) = run.validate(around.clock)? {
            run.keep(&metrics);
        }
    }
    let epochs = settings.epochs_begun(split.train.len());
    while run.state.epoch < epochs && !run.out_of_patience() {
        let left = settings.total_steps(split.train.len()) - u64::from(run.state.epoch) * u64::from(steps);
        let due = left.min(steps.into()) as u32;
        let order = order(labels, &split.train, settings.seed, run.state.epoch);
        let began = (around.clock)();
        while run.state.step < due && !run.out_of_time(around) {
            if !run.step(&order, steps, around)? {
                return run.interrupted(around);
            }
        }
        let late = run.state.step < due;
        if run.state.step == 0 {
            return Ok(run.outcome(End::OutOfTime));
        }
        // Validation samples may have to go through the body first.
        if !run.features.ready(&split.validation, around.stop)? {
            return run.interrupted(around);
        }
        run.end_epoch(run.state.step, began, around)?;
        if late {
            return Ok(run.outcome(End::OutOfTime));
        }
    }
    let end = if run.state.epoch < epochs { End::Early } else { End::Finished };
    Ok(run.outcome(end))
}

/// Whether there are enough validation samples to choose an epoch by. A text counts as many as its tokens; the pixels of a picture are too
/// much alike for that.
fn chooses(split: &Split, labels: &Labels) -> bool {
    let of_pixels = matches!(labels, Labels::Pixels { .. });
    split.validation.len() >= VALIDATION_MIN || (labels.of_positions() && !of_pixels)
}

/// The training losses of the last two epochs where the last is the best so far and its loss still falls: more of them would
/// lower it further.
pub fn still_falls(outcome: &Outcome) -> Option<(f64, f64)> {
    let [.., before, last] = &outcome.history[..] else { return None };
    let goes_on = outcome.end == End::Finished && outcome.best_epoch as usize == outcome.history.len();
    let falls = last.train_loss > LEARNED && last.train_loss < (1.0 - FALLS) * before.train_loss;
    (goes_on && falls).then_some((before.train_loss, last.train_loss))
}

fn validate(settings: &Settings, labels: &Labels, split: &Split, bundle: &Bundle) -> Result<(), Error> {
    settings.check()?;
    check_labels(&settings.loss, labels, split, bundle)
}

/// A run in progress.
struct Run<'a> {
    bundle: &'a Bundle,
    features: &'a mut Features,
    labels: &'a Labels,
    split: &'a Split,
    settings: &'a Settings,
    schedule: Schedule,
    bound: Bound,
    /// Loaded for the first validation: the first step does not wait for it, and the body's memory is free again by then.
    tail: Option<Session>,
    options: &'a engine::Options,
    /// What holds the values to those at the start.
    anchor: Option<Anchor>,
    /// The values at the start as the tail's inputs, where its answers are kept to.
    teacher: Option<Vec<(String, Tensor)>>,
    /// `parameters` is brought up to date only when a checkpoint or an evaluation needs it.
    state: Checkpoint,
    /// Sums of gradients over the runs of one step, where there is more than one.
    sums: Vec<Vec<f32>>,
    gradients: Vec<String>,
    /// Seconds of the last validation.
    validation_s: f64,
    steps: u64,
    step_seconds: Vec<f64>,
    first_step_at_s: Option<f64>,
}

impl<'a> Run<'a> {
    fn start(
        bundle: &'a Bundle,
        features: &'a mut Features,
        Labelled { labels, split }: Labelled<'a>,
        settings: &'a Settings,
        options: &'a engine::Options,
        around: &Around<'_>,
    ) -> Result<Self, Error> {
        let fingerprint = fingerprint(bundle, features, split, labels, settings);
        let known = match around.checkpoint {
            Some(path) if around.resume => checkpoint::read(path, &fingerprint)?,
            _ => None,
        };
        let mut fresh = checkpoint::fresh(bundle, &settings.optimizer, fingerprint);
        if let Some(first) = &around.first {
            fresh.parameters.clone_from(first);
        }
        let start = fresh.parameters.clone();
        let state = known.unwrap_or(fresh);
        let gradients: Vec<String> = bundle.parameters.iter().map(|p| gradient_name(&p.name)).collect();
        let hold = &settings.hold;
        let mut bound = step_session(bundle, (&settings.loss, hold.teacher()), options, &start)?;
        let anchor = Anchor::new(&mut bound, (features, labels), &bundle.parameters, &start, hold)?;
        for (parameter, values) in bundle.parameters.iter().zip(&state.parameters) {
            bound.input_mut::<f32>(&parameter.name)?.copy_from_slice(values);
        }
        let several = settings.accumulate > 1;
        let sums = state.parameters.iter().map(|values| vec![0.0; if several { values.len() } else { 0 }]).collect();
        Ok(Self {
            bundle,
            features,
            labels,
            split,
            settings,
            schedule: settings.schedule(split.train.len()),
            bound,
            tail: None,
            options,
            anchor,
            teacher: hold.teacher().map(|_| evaluate::fed(&bundle.parameters, &start)),
            state,
            sums,
            gradients,
            validation_s: 0.0,
            steps: 0,
            step_seconds: Vec::new(),
            first_step_at_s: None,
        })
    }

    /// One optimiser step: forward and backward over its batches, then the update in place. `false` if the stop flag was
    /// raised before it began.
    fn step(&mut self, order: &[usize], steps: u32, around: &mut Around<'_>) -> Result<bool, Error> {
        let began = (around.clock)();
        let (batch, accumulate) = (self.settings.batch as usize, self.settings.accumulate as usize);
        let first = self.state.step as usize * batch * accumulate;
        let samples = &order[first..order.len().min(first + batch * accumulate)];
        if !self.features.ready(samples, around.stop)? {
            return Ok(false);
        }
        let runs = samples.len().div_ceil(batch);
        let whole = self.settings.loss.weight(self.labels, samples);
        let mut loss = 0.0;
        for chunk in samples.chunks(batch) {
            // Each run gives a mean; together they must weigh as one run over all samples would.
            let share = self.settings.loss.weight(self.labels, chunk) / whole.max(f64::MIN_POSITIVE);
            for (name, tensor) in self.features.batch(chunk)? {
                self.bound.set_input(name, &tensor)?;
            }
            self.ask_teacher(chunk)?;
            let labels = self.labels_of(chunk)?;
            self.bound.set_input(LABELS, &labels)?;
            self.bound.run()?;
            loss += f64::from(self.bound.output::<f32>(LOSS)?[0]) * share;
            self.accumulate(runs, (share * runs as f64) as f32)?;
        }
        self.update(runs as u32, loss)?;
        self.state.step += 1;
        self.state.steps_total += 1;
        self.state.loss_sum += loss;
        self.steps += 1;
        let now = (around.clock)();
        self.step_seconds.push(now - began);
        self.first_step_at_s.get_or_insert(now);
        let (epoch, step) = (self.state.epoch + 1, self.state.step);
        (around.tell)(Event::Step { epoch, step, steps, loss, samples: samples.len() });
        Ok(true)
    }

    /// Tells a step what the values at the start answer to samples.
    fn ask_teacher(&mut self, samples: &[usize]) -> Result<(), Error> {
        let Some(start) = &self.teacher else { return Ok(()) };
        let tail = loaded(&mut self.tail, self.bundle, self.options)?;
        let output = evaluate::output(tail, self.features, samples, start)?;
        let answers = Tensor::from_f32(&output.shape, &evaluate::floats(&output));
        Ok(self.bound.set_input(TEACHER, &answers)?)
    }

    /// What a step is told of samples: their labels, or where what the model answers now decides that, as of a detector's cells or of a text's steps, what
    /// follows from it.
    fn labels_of(&mut self, samples: &[usize]) -> Result<Tensor, Error> {
        if !self.settings.loss.asks_outputs() {
            return Ok(labels_tensor(self.labels, samples));
        }
        let mut values = Vec::with_capacity(self.bundle.parameters.len());
        for parameter in &self.bundle.parameters {
            let now = self.bound.input::<f32>(&parameter.name)?;
            values.push((parameter.name.clone(), Tensor::from_f32(&parameter.shape, now)));
        }
        let tail = loaded(&mut self.tail, self.bundle, self.options)?;
        let output = evaluate::output(tail, self.features, samples, &values)?;
        let told = task::assigned(self.labels, samples, &evaluate::floats(&output));
        Ok(told.unwrap_or_else(|| labels_tensor(self.labels, samples)))
    }

    /// Adds the gradients of one of several runs to the sums, times its weight (1 where all runs weigh the same).
    fn accumulate(&mut self, runs: usize, weight: f32) -> Result<(), Error> {
        if runs > 1 {
            for (sum, name) in self.sums.iter_mut().zip(&self.gradients) {
                for (sum, gradient) in sum.iter_mut().zip(self.bound.output::<f32>(name)?) {
                    *sum += weight * gradient;
                }
            }
        }
        Ok(())
    }

    fn update(&mut self, runs: u32, loss: f64) -> Result<(), Error> {
        let learning_rate = self.schedule.learning_rate(self.settings.learning_rate, self.state.steps_total);
        let (epoch, step) = (self.state.epoch + 1, self.state.step + 1);
        let diverged = |what, value| match (epoch, step) {
            (1, 1) => Error::Undefined { what, value },
            _ => Error::Diverged { what, value, epoch, step, learning_rate },
        };
        if !loss.is_finite() {
            return Err(diverged("loss", loss));
        }
        let mut slices: Vec<&[f32]> = Vec::with_capacity(self.gradients.len());
        for (name, sum) in self.gradients.iter().zip(&self.sums) {
            slices.push(if runs > 1 { sum } else { self.bound.output(name)? });
        }
        let norm = global_norm(slices);
        if !norm.is_finite() {
            return Err(diverged("gradient's norm", norm));
        }
        let scale = gradient_scale(norm, runs, self.settings.clip_norm);
        let optimizer = &self.settings.optimizer;
        for (index, parameter) in self.bundle.parameters.iter().enumerate() {
            let (values, gradient) = self.bound.update::<f32>(&parameter.name, &self.gradients[index])?;
            let state = &mut self.state.states[index];
            let rate = self.settings.rate(learning_rate, parameter);
            if runs > 1 {
                optimizer.update(values, &self.sums[index], scale, rate, state);
                self.sums[index].fill(0.0);
            } else {
                optimizer.update(values, gradient, scale, rate, state);
            }
            if let Some(anchor) = &self.anchor {
                anchor.pull(index, values, rate);
            }
        }
        Ok(())
    }

    /// Copies the parameters out of ONNX Runtime's inputs.
    fn fetch(&mut self) -> Result<(), Error> {
        for (values, parameter) in self.state.parameters.iter_mut().zip(&self.bundle.parameters) {
            values.copy_from_slice(self.bound.input::<f32>(&parameter.name)?);
        }
        Ok(())
    }

    fn end_epoch(&mut self, steps: u32, began: f64, around: &mut Around<'_>) -> Result<(), Error> {
        self.fetch()?;
        self.refuse_too_large(steps)?;
        let measured = self.validate(around.clock)?;
        let record = EpochRecord {
            train_loss: self.state.loss_sum / f64::from(steps),
            validation_loss: measured.as_ref().map(|metrics| metrics.loss),
            validation_accuracy: measured.as_ref().and_then(|metrics| metrics.accuracy),
            validation_perplexity: measured.as_ref().and_then(|metrics| metrics.perplexity),
            seconds: (around.clock)() - began,
        };
        self.state.epoch += 1;
        self.state.step = 0;
        self.state.loss_sum = 0.0;
        if let Some(metrics) = &measured {
            self.keep_if_best(metrics);
        }
        (around.tell)(Event::Epoch { epoch: self.state.epoch, record: &record });
        self.state.history.push(record);
        if let Some(path) = around.checkpoint {
            checkpoint::write(path, &self.state)?;
        }
        Ok(())
    }

    /// Copies the parameters where their validation loss is the lowest so far and, where the first values are a result
    /// already, they are better than those by more than chance.
    fn keep_if_best(&mut self, metrics: &Metrics) {
        if !chooses(self.split, self.labels) {
            return;
        }
        let lowest = self.state.best.as_ref().is_none_or(|best| metrics.loss < best.loss);
        if lowest && self.state.start.as_ref().is_none_or(|start| metrics.better_beyond_chance(start)) {
            self.keep(metrics);
        }
    }

    fn keep(&mut self, metrics: &Metrics) {
        let parameters = self.state.parameters.clone();
        self.state.best = Some(Best { epoch: self.state.epoch, loss: metrics.loss, parameters });
    }

    /// What has grown beyond fp16 would be another value in the delta.
    fn refuse_too_large(&self, steps: u32) -> Result<(), Error> {
        let largest = self.state.parameters.iter().flatten().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest <= fp16::LARGEST {
            return Ok(());
        }
        Err(Error::Diverged {
            what: "largest learned value",
            value: largest.into(),
            epoch: self.state.epoch + 1,
            step: steps,
            learning_rate: self.settings.learning_rate,
        })
    }

    fn validate(&mut self, clock: &dyn Fn() -> f64) -> Result<Option<Metrics>, Error> {
        if self.split.validation.is_empty() {
            return Ok(None);
        }
        let began = clock();
        let parameters = evaluate::shipped(&self.bundle.parameters, &self.state.parameters);
        let samples = &self.split.validation;
        let loss = &self.settings.loss;
        let tail = loaded(&mut self.tail, self.bundle, self.options)?;
        let metrics = evaluate::evaluate(tail, self.features, samples, &parameters, self.labels, loss)?;
        self.validation_s = clock() - began;
        Ok(Some(metrics))
    }

    /// Whether another step, as long as the last, and a validation would end after the time that is allowed. A run that
    /// has nothing to give yet takes one step.
    fn out_of_time(&self, around: &Around<'_>) -> bool {
        let something = self.state.steps_total > 0 || self.state.start.is_some();
        let ahead_s = self.step_seconds.last().unwrap_or(&0.0) + self.validation_s;
        something && around.until_s.is_some_and(|until_s| (around.clock)() + ahead_s > until_s)
    }

    fn out_of_patience(&self) -> bool {
        let since_best = |best: &Best| self.state.epoch - best.epoch;
        match (self.settings.patience, &self.state.best) {
            (Some(patience), Some(best)) => since_best(best) >= patience,
            _ => false,
        }
    }

    fn interrupted(mut self, around: &Around<'_>) -> Result<Outcome, Error> {
        self.fetch()?;
        if let Some(path) = around.checkpoint {
            checkpoint::write(path, &self.state)?;
        }
        Ok(self.outcome(End::Interrupted))
    }

    fn outcome(self, end: End) -> Outcome {
        let state = self.state;
        let (parameters, best_epoch) = match state.best {
            Some(best) => (best.parameters, best.epoch),
            None => (state.parameters, state.epoch),
        };
        Outcome {
            parameters,
            start: state.start,
            history: state.history,
            best_epoch,
            end,
            steps: self.steps,
            step_seconds: self.step_seconds,
            first_step_at_s: self.first_step_at_s,
        }
    }
}

/// The tail, which is loaded when it is first asked for.
fn loaded<'t>(
    tail: &'t mut Option<Session>,
    bundle: &Bundle,
    options: &engine::Options,
) -> Result<&'t mut Session, Error> {
    let session = match tail.take() {
        Some(session) => session,
        None => Session::from_file(&bundle.tail, options)?,
    };
    Ok(tail.insert(session))
}

/// What a checkpoint belongs to.
fn fingerprint(bundle: &Bundle, features: &Features, split: &Split, labels: &Labels, settings: &Settings) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bundle.base_hash);
    hasher.update(bundle.output.as_bytes());
    // The tail's name is the hash of its content: a method's numbers are in it.
    hasher.update(bundle.tail.file_name().unwrap_or_default().as_encoded_bytes());
    hasher.update(&features.fingerprint());
    for parameter in &bundle.parameters {
        hasher.update(format!("{}{:?}", parameter.name, parameter.shape).as_bytes());
    }
    // `{:?}` of plain values is stable within one version of edgetune, which is all a checkpoint promises.
    // Buffered, but never as a whole: it grows with the samples.
    let mut text = std::io::BufWriter::with_capacity(1 << 12, hasher);
    write!(text, "{split:?}{labels:?}{settings:?}").expect("hashing cannot fail");
    *text.into_inner().expect("hashing cannot fail").finalize().as_bytes()
}
