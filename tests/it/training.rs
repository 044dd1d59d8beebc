//! Whole runs against PyTorch: the tails that its exporters write, trained by the step graph and the optimiser, follow
//! PyTorch's losses. `tests/goldens/README.md` has the format.

use crate::engine::runtime;
use edgetune::adapter::{HeadChoice, Request};
use edgetune::cut::Selection;
use edgetune::engine::{Bound, Options, Session};
use edgetune::graph::{DType, Tensor};
use edgetune::train::loss::Loss;
use edgetune::train::optimizer::{Optimizer, State};
use edgetune::train::prepare::{Base, Bundle, prepare};
use edgetune::train::step::{LABELS, LOSS, gradient_name};
use ndarray::{ArrayD, Axis, OwnedRepr};
use ndarray_npy::NpzReader;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Largest relative difference from PyTorch's loss in any of the twenty steps.
const TOLERANCE: f64 = 1e-4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training")
}

/// The entry of `training.json` for a model.
fn golden(model: &str) -> Value {
    let text = std::fs::read_to_string(folder().join("training.json")).expect("the goldens are in the project");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all.as_array().unwrap().iter().find(|entry| entry["name"] == model).expect("a model of that name").clone()
}

/// The arrays of a batch, by the names in the archive without the batch's number.
pub struct Arrays(NpzReader<File>);

impl Arrays {
    /// An archive of batches.
    pub fn open(file: &Path) -> Self {
        Self(NpzReader::new(File::open(file).expect("the archive")).expect("an archive"))
    }

    fn array<T: ndarray_npy::ReadableElement + Clone>(&mut self, name: &str, batch: usize) -> Option<ArrayD<T>> {
        let names = self.0.names().expect("names");
        let numbered = format!("{name}/{batch}");
        let plain = |wanted: &str| names.iter().any(|known| known.trim_end_matches(".npy") == wanted);
        if plain(&numbered) {
            return self.0.by_name::<OwnedRepr<T>, _>(&numbered).ok();
        }
        let all: ArrayD<T> = self.0.by_name::<OwnedRepr<T>, _>(name).ok()?;
        Some(all.index_axis(Axis(0), batch).to_owned())
    }

    /// A batch of an input or feature, in the element type that the model wants.
    pub fn tensor(&mut self, name: &str, batch: usize, dtype: DType) -> Tensor {
        match dtype {
            DType::Int64 => {
                let array = self.array::<i64>(name, batch).unwrap_or_else(|| panic!("{name} of batch {batch}"));
                let shape: Vec<u64> = array.shape().iter().map(|size| *size as u64).collect();
                Tensor::from_vec(&shape, array.iter().copied().collect())
            }
            _ => {
                let array = self.array::<f32>(name, batch).unwrap_or_else(|| panic!("{name} of batch {batch}"));
                let shape: Vec<u64> = array.shape().iter().map(|size| *size as u64).collect();
                Tensor::from_vec(&shape, array.iter().copied().collect())
            }
        }
    }
}

/// The optimiser that a golden tells.
pub fn optimizer(spec: &Value) -> Optimizer {
    let number = |name: &str| spec[name].as_f64().unwrap_or_else(|| panic!("{name} in {spec}"));
    match spec["kind"].as_str().unwrap() {
        "sgd" => Optimizer::Sgd {
            momentum: number("momentum"),
            nesterov: spec["nesterov"].as_bool().unwrap(),
            weight_decay: number("weight_decay"),
        },
        _ => Optimizer::AdamW {
            beta1: number("beta1"),
            beta2: number("beta2"),
            epsilon: number("epsilon"),
            weight_decay: number("weight_decay"),
        },
    }
}

/// The bundle that trains just the parameters of a golden run.
fn bundle_of(model: &Value, run: &Value, bundles: &Path) -> Bundle {
    runtime();
    let base = Base::read(&folder().join(model["model"].as_str().unwrap())).unwrap_or_else(|error| panic!("{error}"));
    let initializers: HashMap<&str, &str> = model["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["parameter"].as_str().unwrap(), entry["initializer"].as_str().unwrap()))
        .collect();
    let names = run["trains"].as_array().unwrap().iter().map(|name| initializers[name.as_str().unwrap()].to_string());
    let selections: Vec<Selection> = names.map(Selection::Names).collect();
    let request = Request { output: None, selections: &selections, width: None, head: HeadChoice::Auto };
    let bundle = prepare(&base, &request, bundles).unwrap_or_else(|error| panic!("{error}"));
    let mut learned: Vec<&str> = bundle.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let mut wanted: Vec<&str> =
        run["trains"].as_array().unwrap().iter().map(|name| initializers[name.as_str().unwrap()]).collect();
    learned.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(learned, wanted, "what learns");
    bundle
}

/// The features of a batch: the body's outputs, and inputs of the model that the tail reads itself.
fn features(bundle: &Bundle, body: Option<&mut Session>, inputs: &[(String, Tensor)]) -> HashMap<String, Tensor> {
    let mut known: HashMap<String, Tensor> = inputs.iter().cloned().collect();
    if let Some(body) = body {
        let fed: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let outputs = body.run(&fed).unwrap_or_else(|error| panic!("{error}"));
        known.extend(body.outputs().iter().map(|(name, _)| name.clone()).zip(outputs));
    }
    bundle.features.iter().map(|(name, _)| (name.clone(), known.remove(name).expect("a feature"))).collect()
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
        let step = bundle.step(loss).unwrap_or_else(|error| panic!("{error}"));
        let gradients: Vec<String> = bundle.parameters.iter().map(|p| gradient_name(&p.name)).collect();
        let inputs: Vec<(&str, &[u64])> =
            bundle.parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        let mut outputs: Vec<(&str, &[u64])> = vec![(LOSS, &[])];
        outputs.extend(gradients.iter().zip(&bundle.parameters).map(|(name, p)| (name.as_str(), p.shape.as_slice())));
        let mut bound = Bound::new(Session::from_file(&step, &options).unwrap(), &inputs, &outputs).unwrap();
        for parameter in &bundle.parameters {
            bound.input_mut::<f32>(&parameter.name).unwrap().copy_from_slice(&parameter.initial);
        }
        let states = bundle.parameters.iter().map(|p| State::new(&optimizer, p.initial.len())).collect();
        Self { bundle, body, bound, gradients, optimizer, states }
    }

    /// One step on a batch of the model's inputs; gives the loss before it.
    pub fn step(&mut self, inputs: &[(String, Tensor)], labels: &Tensor, rate: f64) -> f64 {
        for (name, tensor) in features(self.bundle, self.body.as_mut(), inputs) {
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

fn follows_pytorch(model: &str, run: &str) {
    let golden = golden(model);
    let run = golden["runs"].as_array().unwrap().iter().find(|entry| entry["name"] == run).expect("a run of that name");
    let scratch = tempfile::tempdir().unwrap();
    let bundle = bundle_of(&golden, run, scratch.path());
    let loss = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
    let mut trainer = Trainer::new(&bundle, &loss, optimizer(&run["optimizer"]));
    let mut arrays = Arrays::open(&folder().join(golden["arrays"].as_str().unwrap()));
    let rate = run["learning_rate"].as_f64().unwrap();
    for (index, expected) in run["losses"].as_array().unwrap().iter().enumerate() {
        let batch = index % 8;
        let given: Vec<(String, Tensor)> =
            bundle.inputs.iter().map(|(name, ty)| (name.clone(), arrays.tensor(name, batch, ty.dtype))).collect();
        let found = trainer.step(&given, &arrays.tensor("labels", batch, DType::Int64), rate);
        let expected = expected.as_f64().unwrap();
        let difference = (found - expected).abs() / expected.abs();
        assert!(
            difference <= TOLERANCE,
            "{model}, step {index}: loss {found}, PyTorch {expected}, off by {difference:e}"
        );
    }
}

macro_rules! runs {
    ($($name:ident: $model:literal $run:literal;)*) => {$(
        #[test]
        fn $name() {
            follows_pytorch($model, $run);
        }
    )*};
}

runs! {
    mobilenet_tail_with_batch_normalization: "mobilenet_bn" "tail_sgd";
    mobilenet_classifier_with_batch_normalization: "mobilenet_bn" "classifier_sgd";
    mobilenet_tail_folded: "mobilenet_folded" "tail_sgd";
    mobilenet_classifier_folded: "mobilenet_folded" "classifier_sgd";
    encoder_layer_torchscript: "encoder_torchscript" "tail_sgd";
    encoder_layer_torchscript_adamw: "encoder_torchscript" "tail_adamw";
    encoder_classifier_torchscript: "encoder_torchscript" "classifier_adamw";
    encoder_layer_dynamo: "encoder_dynamo" "tail_sgd";
    encoder_layer_dynamo_adamw: "encoder_dynamo" "tail_adamw";
    encoder_classifier_dynamo: "encoder_dynamo" "classifier_adamw";
}

#[test]
fn every_run_of_the_goldens_is_tested() {
    let source = include_str!("training.rs");
    for model in ["mobilenet_bn", "mobilenet_folded", "encoder_torchscript", "encoder_dynamo"] {
        for run in golden(model)["runs"].as_array().unwrap() {
            let line = format!("{:?} {};", model, run["name"]);
            assert!(source.contains(&line), "no test for {line}");
        }
    }
}
