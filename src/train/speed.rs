//! How fast a bundle's body and step run with given options: for `doctor --benchmark`, which chooses the options by it.
//!
//! Inputs are random, and features are what the body makes of them; nothing is learned and nothing is written but the step graph.

use super::check::{random_batch, random_inputs};
use super::error::Error;
use super::loss::Loss;
use super::plan::usefulness::step_seconds;
use super::prepare::Bundle;
use crate::engine::{Options, Session};
use crate::graph::Tensor;
use std::collections::HashMap;

/// Samples in one run of the step graph, the default of training.
pub const BATCH: u64 = 32;
/// How often training visits a sample by default; its body runs once.
const EPOCHS: f64 = 10.0;
/// Runs of the body of which the shortest counts, after a first that is not counted.
const RUNS: u32 = 5;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Seconds that the frozen body takes for a sample; 0 where there is none.
    pub body_s: f64,
    /// Seconds of a step over [`BATCH`] samples.
    pub step_s: f64,
}

impl Speed {
    /// Seconds that a training of some epochs takes for each of its samples: one pass of the body and a share of as many
    /// steps.
    pub fn sample_s(self) -> f64 {
        self.body_s + EPOCHS * self.step_s / BATCH as f64
    }
}

/// Measures the body over a few random samples and the step over their features. `clock` gives seconds since some fixed
/// moment.
///
/// # Errors
/// ONNX Runtime's refusal, a provider that is absent, inputs of which no random samples are made.
pub fn measure(bundle: &Bundle, loss: &Loss, options: &Options, clock: &dyn Fn() -> f64) -> Result<Speed, Error> {
    let inputs = random_inputs(bundle, options, 0)?;
    let samples = inputs.values().filter_map(|tensor| tensor.shape.first()).max().copied().unwrap_or(1);
    let body_s = body_seconds(bundle, &inputs, options, clock)?;
    let (batch, _) = random_batch(bundle, loss, options, BATCH)?;
    let step_s = step_seconds(bundle, loss, &batch, options, clock)?;
    Ok(Speed { body_s: body_s / samples as f64, step_s })
}

/// Seconds of one run of the body.
fn body_seconds(
    bundle: &Bundle,
    inputs: &HashMap<String, Tensor>,
    options: &Options,
    clock: &dyn Fn() -> f64,
) -> Result<f64, Error> {
    let Some(path) = &bundle.body else { return Ok(0.0) };
    let mut session = Session::from_file(path, options)?;
    let names: Vec<String> = session.inputs().iter().map(|(name, _)| name.clone()).collect();
    let fed: Vec<(&str, &Tensor)> = names.iter().map(|name| (name.as_str(), &inputs[name])).collect();
    session.run(&fed)?;
    let mut shortest = f64::INFINITY;
    for _ in 0..RUNS {
        let began = clock();
        session.run(&fed)?;
        shortest = shortest.min(clock() - began);
    }
    Ok(shortest)
}
