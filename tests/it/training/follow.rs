//! Trains a golden's model through the bundle, the step graph and the optimiser.

use super::golden::{Adapter, Goldens, Model, Run};
use crate::engine::runtime;
use edgetune::adapter::{Places, Request};
use edgetune::cut::Selection;
use edgetune::engine::{Bound, Options, Session};
use edgetune::graph::{DType, Tensor};
use edgetune::train::loss::Loss;
use edgetune::train::optimizer::{Optimizer, State};
use edgetune::train::prepare::{Base, Bundle, prepare};
use edgetune::train::step::{Again, LABELS, LOSS, gradient_name};
use std::collections::HashMap;
use std::path::Path;

/// Trains as the run did, and fails at the first step whose loss is off PyTorch's by more than `tolerance`, relative.
pub fn follows_pytorch(goldens: &Goldens, model: &str, run: &str, tolerance: f64) {
    let model = goldens.model(model);
    let run = model.run(run);
    let found = losses(goldens, model, run);
    assert_eq!(found.len(), run.losses.len());
    for (step, (found, expected)) in found.iter().zip(&run.losses).enumerate() {
        let difference = (found - expected).abs() / expected.abs();
        assert!(
            difference <= tolerance,
            "{}, step {step}: loss {found}, PyTorch {expected}, off by {difference:e}",
            model.name
        );
    }
}

/// The loss of every step, before its update.
fn losses(goldens: &Goldens, model: &Model, run: &Run) -> Vec<f64> {
    let scratch = tempfile::tempdir().unwrap();
    let bundle = bundle_of(&goldens.path(model), &model.learning(run), run.adapter.as_ref(), scratch.path());
    let mut trainer = Trainer::new(&bundle, &run.loss(), run.optimizer());
    let mut arrays = goldens.arrays(model);
    let step = |batch| {
        let given: Vec<(String, Tensor)> =
            bundle.inputs.iter().map(|(name, ty)| (name.clone(), arrays.tensor(name, batch, ty.dtype))).collect();
        trainer.step(&given, &arrays.tensor("labels", batch, DType::Int64), run.learning_rate)
    };
    (0..model.batches).cycle().take(run.losses.len()).map(step).collect()
}

/// A bundle in training: what a run does with it, without data, cache and schedule.
pub struct Trainer<'a> {
    bundle: &'a Bundle,
    body: Option<Session>,
    bound: Bound,
    gradients: Vec<String>,
    optimizer: Optimizer,
    states: Vec<State>,
}

impl<'a> Trainer<'a> {
    /// Before the first step.
    pub fn new(bundle: &'a Bundle, loss: &Loss, optimizer: Optimizer) -> Self {
        let options = Options { threads: 1, ..Options::default() };
        let body = bundle.body.as_deref().map(|path| Session::from_file(path, &options).unwrap());
        let step = bundle.step(loss, Again::Layers).unwrap_or_else(|error| panic!("{error}"));
        let gradients: Vec<String> = bundle.parameters.iter().map(|p| gradient_name(&p.name)).collect();
        let bound = bound(bundle, &step, &gradients, &options);
        let states = bundle.parameters.iter().map(|p| State::new(&optimizer, p.initial.len())).collect();
        Self { bundle, body, bound, gradients, optimizer, states }
    }

    /// One step on a batch of the model's inputs; gives the loss before it.
    pub fn step(&mut self, inputs: &[(String, Tensor)], labels: &Tensor, rate: f64) -> f64 {
        let features = features(self.bundle, self.body.as_mut(), inputs);
        self.step_on(features.into_iter().collect(), labels, rate)
    }

    /// One step on a batch of features.
    pub fn step_on(&mut self, features: Vec<(String, Tensor)>, labels: &Tensor, rate: f64) -> f64 {
        for (name, tensor) in features {
            self.bound.set_input(&name, &tensor).unwrap();
        }
        self.bound.set_input(LABELS, labels).unwrap();
        self.bound.run().unwrap_or_else(|error| panic!("{error}"));
        let loss = f64::from(self.bound.output::<f32>(LOSS).unwrap()[0]);
        for ((parameter, gradient), state) in self.bundle.parameters.iter().zip(&self.gradients).zip(&mut self.states) {
            let (values, gradient) = self.bound.update::<f32>(&parameter.name, gradient).unwrap();
            self.optimizer.update(values, gradient, 1.0, rate, state);
        }
        loss
    }
}

/// The bundle that trains just these initializers, which are a method's where there is one.
fn bundle_of(path: &Path, initializers: &[&str], adapter: Option<&Adapter>, bundles: &Path) -> Bundle {
    runtime();
    let base = Base::read(path).unwrap_or_else(|error| panic!("{error}"));
    let selections: Vec<Selection> = initializers.iter().map(|name| Selection::Names((*name).into())).collect();
    let request = match adapter {
        None => Request { selections: &selections, ..Request::default() },
        Some(adapter) => Request {
            method: Some(adapter.method()),
            places: Places { targets: &adapter.targets, feedforward: &adapter.feedforward, last: None },
            seed: adapter.seed,
            ..Request::default()
        },
    };
    let bundle = prepare(&base, &request, bundles).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut learned: Vec<&str> = bundle.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    learned.sort_unstable();
    assert_eq!(learned, initializers, "what learns");
    bundle
}

/// The step graph, with the parameters' first values.
fn bound(bundle: &Bundle, step: &Path, gradients: &[String], options: &Options) -> Bound {
    let inputs: Vec<(&str, &[u64])> = bundle.parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    let mut outputs: Vec<(&str, &[u64])> = vec![(LOSS, &[])];
    outputs.extend(gradients.iter().zip(&bundle.parameters).map(|(name, p)| (name.as_str(), p.shape.as_slice())));
    let session = Session::from_file(step, options).unwrap_or_else(|error| panic!("{error}"));
    let mut bound = Bound::new(session, &inputs, &outputs).unwrap();
    for parameter in &bundle.parameters {
        bound.input_mut::<f32>(&parameter.name).unwrap().copy_from_slice(&parameter.initial);
    }
    bound
}

/// The features of a batch: the body's outputs, and inputs of the model that the tail reads itself.
fn features(bundle: &Bundle, body: Option<&mut Session>, inputs: &[(String, Tensor)]) -> HashMap<String, Tensor> {
    let mut known: HashMap<String, Tensor> = inputs.iter().cloned().collect();
    if let Some(body) = body {
        let read = |name: &str| body.inputs().iter().any(|(known, _)| known == name);
        let fed: Vec<(&str, &Tensor)> =
            inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).filter(|(name, _)| read(name)).collect();
        let outputs = body.run(&fed).unwrap_or_else(|error| panic!("{error}"));
        known.extend(body.outputs().iter().map(|(name, _)| name.clone()).zip(outputs));
    }
    bundle.features.iter().map(|(name, _)| (name.clone(), known.remove(name).expect("a feature"))).collect()
}
