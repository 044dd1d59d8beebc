//! Models of scikit-learn as skl2onnx writes them: read as layers that can learn, they answer what scikit-learn answers.

use crate::training::follow::Trainer;
use edgetune::adapter::Request;
use edgetune::cut::{self, Selection};
use edgetune::engine::{Options, Session};
use edgetune::graph::Tensor;
use edgetune::train::loss::Loss;
use edgetune::train::optimizer::Optimizer;
use edgetune::train::prepare::{self, Base};
use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::NpzReader;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sklearn")
}

fn cases() -> Vec<(String, bool)> {
    let text = std::fs::read(folder().join("sklearn.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let case = |case: &Value| (case["name"].as_str().unwrap().to_string(), case["learns"].as_bool().unwrap());
    cases.iter().map(case).collect()
}

fn base(name: &str) -> Base {
    crate::engine::runtime();
    Base::read(&folder().join(format!("{name}.onnx"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_scores_are_those_of_scikit_learn() {
    let mut arrays = NpzReader::new(File::open(folder().join("sklearn.npz")).unwrap()).unwrap();
    let mut array = |name: String| -> ArrayD<f32> { arrays.by_name::<OwnedRepr<f32>, _>(&name).unwrap() };
    for (name, _) in cases() {
        let base = base(&name);
        assert_eq!(base.graph.outputs.len(), 1, "{name}: the picked class is no output to learn by");
        let (x, y) = (array(format!("{name}/x")), array(format!("{name}/y")));
        let x = Tensor::from_f32(&[x.shape()[0] as u64, x.shape()[1] as u64], x.as_slice().unwrap());
        let mut session = Session::from_graph(&base.graph, &Options { threads: 1, ..Options::default() }).unwrap();
        let input = base.graph.value_name(base.graph.inputs[0]).to_string();
        let found = session.run(&[(&input, &x)]).unwrap().swap_remove(0);
        assert_eq!(found.shape, [y.shape()[0] as u64, y.shape()[1] as u64], "{name}");
        for (a, b) in found.to_f32().unwrap().iter().zip(&y) {
            assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{name}: {a} instead of {b}");
        }
    }
}

#[test]
fn their_last_layer_learns_and_an_ensemble_of_trees_takes_a_head() {
    for (name, learns) in cases() {
        let scratch = tempfile::tempdir().unwrap();
        let selections = [Selection::parse("last:1").unwrap()];
        let selections: &[Selection] = if learns { &selections } else { &[] };
        let width = (!learns).then_some(2);
        let request = Request { selections, width, ..Request::default() };
        let bundle = prepare::prepare(&base(&name), &request, scratch.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(bundle.head.is_some(), !learns, "{name}: {}", bundle.head_note);
        assert!(!bundle.parameters.is_empty(), "{name}");
    }
}

/// A range that inputs are brought to is a setting, whichever operators write it: `Scaler`, or `Mul` and `Add`.
#[test]
fn what_brings_inputs_to_a_range_is_no_layer() {
    for name in ["scaled", "min_max", "logistic_binary"] {
        let base = base(name);
        assert_eq!(edgetune::cut::layers(&base.graph, base.graph.outputs[0]).len(), 1, "{name}");
    }
}

/// A step of scikit-learn's own gradient descent after the other, from the fitted model on: `partial_fit` of a perceptron, which has no hidden
/// layer where the model is linear.
#[test]
fn ten_steps_are_those_of_scikit_learn() {
    let mut arrays = NpzReader::new(File::open(folder().join("sklearn.npz")).unwrap()).unwrap();
    let mut array = |name: String| -> ArrayD<f32> { arrays.by_name::<OwnedRepr<f32>, _>(&name).unwrap() };
    let text = std::fs::read(folder().join("sklearn.json")).unwrap();
    let facts: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let mut compared = 0;
    for fact in facts.iter().filter(|fact| fact["losses"].is_array()) {
        let name = fact["name"].as_str().unwrap();
        let (base, scratch) = (base(name), tempfile::tempdir().unwrap());
        let (x, labels) = (array(format!("{name}/x")), array(format!("{name}/labels")));
        let rows = x.shape()[0] as u64;
        let numbers = name == "linear_regression";
        let classes = labels.iter().fold(0f32, |most, label| most.max(*label)) as u64 + 1;
        let (loss, labels, rate) = if numbers {
            // scikit-learn takes half of the mean squared error.
            (Loss::MeanSquaredError, Tensor::from_f32(&[rows, 1], labels.as_slice().unwrap()), 0.5)
        } else {
            let index: Vec<i64> = labels.iter().map(|label| *label as i64).collect();
            // The one column of two classes is two of opposite signs in `LinearClassifier`, of which each learns as much.
            let share = if name == "logistic_binary" { 0.5 } else { 1.0 };
            (Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None }, Tensor::from_i64(&[rows], &index), share)
        };
        let selections = [Selection::Last(cut::layers(&base.graph, base.graph.outputs[0]).len())];
        let width = (!numbers).then_some(classes);
        let request =
            Request { selections: &selections, width, activation: Some(loss.activation()), ..Request::default() };
        let bundle =
            prepare::prepare(&base, &request, scratch.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let mut trainer = Trainer::new(&bundle, &loss, optimizer);
        let input = base.graph.value_name(base.graph.inputs[0]).to_string();
        let x = Tensor::from_f32(&[rows, x.shape()[1] as u64], x.as_slice().unwrap());
        let rate = rate * fact["learning_rate"].as_f64().unwrap();
        for (step, expected) in fact["losses"].as_array().unwrap().iter().enumerate() {
            let (expected, found) =
                (expected.as_f64().unwrap(), trainer.step(&[(input.clone(), x.clone())], &labels, rate));
            let apart = (found - expected).abs() / expected;
            assert!(apart < 1e-3, "{name}, step {step}: loss {found}, scikit-learn's {expected}, off by {apart:e}");
        }
        compared += 1;
    }
    assert_eq!(compared, 10);
}
