//! A small model of each family of architectures, as its exporter writes it: all of it learns, by the step graph and the
//! optimiser, and follows PyTorch's losses. `tests/goldens/README.md` has the format.

use crate::engine::runtime;
use crate::training::follow::Trainer;
use crate::training::golden::{Arrays, optimizer};
use edgetune::adapter::Request;
use edgetune::cut::Selection;
use edgetune::graph::DType;
use edgetune::train::Error;
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, Bundle, prepare};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Largest relative difference from PyTorch's loss in any step.
const TOLERANCE: f64 = 1e-3;

/// Step *s* takes batch *s* mod this.
const BATCHES: usize = 2;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/families")
}

fn goldens() -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join("families.json")).expect("the goldens are in the project");
    serde_json::from_str(&text).expect("JSON")
}

fn bundle(model: &str, selection: &str, bundles: &Path) -> Result<Bundle, Error> {
    runtime();
    let base = Base::read(&folder().join(format!("{model}.onnx")))?;
    let selections = [Selection::parse(selection).expect("a selection")];
    let request = Request { selections: &selections, ..Request::default() };
    prepare(&base, &request, bundles)
}

fn loss(name: &str) -> Loss {
    match name {
        "cross-entropy" => Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None },
        "binary-cross-entropy" => Loss::BinaryCrossEntropy,
        "mean-squared-error" => Loss::MeanSquaredError,
        other => panic!("no loss {other}"),
    }
}

fn follows_pytorch(name: &str) {
    let golden = goldens().into_iter().find(|entry| entry["name"] == name).expect("a family of that name");
    let scratch = tempfile::tempdir().unwrap();
    let bundle = bundle(name, golden["train"].as_str().unwrap(), scratch.path()).unwrap_or_else(|e| panic!("{e}"));
    let mut learned: Vec<&str> = bundle.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    learned.sort_unstable();
    let trains: Vec<&str> = golden["trains"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(learned, trains, "what learns");
    let losses: Vec<f64> = golden["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert!(
        losses[losses.len() - 1] < 0.9 * losses[0],
        "nothing is learned that a zero gradient would not: {losses:?}"
    );
    let mut arrays = Arrays::open(&folder().join("families.npz"));
    let loss = loss(golden["loss"].as_str().unwrap());
    let labels_type = if loss.takes_classes() { DType::Int64 } else { DType::Float };
    let mut trainer = Trainer::new(&bundle, &loss, optimizer(&golden["optimizer"]));
    let data = golden["data"].as_str().unwrap();
    let rate = golden["learning_rate"].as_f64().unwrap();
    let [(input, ty)] = bundle.inputs.as_slice() else { panic!("more inputs than the archive has") };
    for (index, expected) in losses.into_iter().enumerate() {
        let batch = index % BATCHES;
        let given = [(input.clone(), arrays.tensor(&format!("{data}/input"), batch, ty.dtype))];
        let labels = arrays.tensor(&format!("{data}/labels"), batch, labels_type);
        let found = trainer.step(&given, &labels, rate);
        let difference = (found - expected).abs() / expected.abs();
        assert!(
            difference <= TOLERANCE,
            "{name}, step {index}: loss {found}, PyTorch {expected}, off by {difference:e}"
        );
    }
}

macro_rules! families {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                follows_pytorch(stringify!($name));
            }
        )*

        #[test]
        fn every_golden_is_tested() {
            let tested = [$(stringify!($name)),*];
            for golden in goldens() {
                assert!(tested.contains(&golden["name"].as_str().unwrap()), "no test for {}", golden["name"]);
            }
        }
    };
}

families! {
    resnet_basic resnet_bottleneck mobilenet_v3 efficientnet shufflenet convnext regnet densenet unet yolo tcn audio_cnn
    lstm gru keras paddle sklearn_mlp lstm_stacked gru_stacked rnn_stacked
}

/// Wherever the model is cut, body and tail together give the model's own loss. A cut may be refused where more than
/// one row a sample would cross, never at the deepest.
#[test]
fn every_cut_gives_the_same_loss() {
    for golden in goldens() {
        let name = golden["name"].as_str().unwrap();
        let loss = loss(golden["loss"].as_str().unwrap());
        let labels_type = if loss.takes_classes() { DType::Int64 } else { DType::Float };
        let mut arrays = Arrays::open(&folder().join("families.npz"));
        let data = golden["data"].as_str().unwrap();
        let expected = golden["losses"][0].as_f64().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for count in [1, 3, 8, 21] {
            let cut = match bundle(name, &format!("last:{count}"), scratch.path()) {
                Ok(bundle) => bundle,
                Err(error) => panic!("{name} last:{count}: {error}"),
            };
            let mut trainer = Trainer::new(&cut, &loss, optimizer(&golden["optimizer"]));
            let (input, ty) = &cut.inputs[0];
            let given = [(input.clone(), arrays.tensor(&format!("{data}/input"), 0, ty.dtype))];
            let found = trainer.step(&given, &arrays.tensor(&format!("{data}/labels"), 0, labels_type), 0.0);
            assert!((found - expected).abs() <= 1e-5 * expected, "{name} last:{count}: {found}, PyTorch {expected}");
        }
    }
}

#[test]
fn a_classifier_whose_weights_are_attributes_learns_like_a_linear_layer() {
    let scratch = tempfile::tempdir().unwrap();
    for selection in ["head", "last:1", "*"] {
        let bundle = bundle("sklearn_logistic", selection, scratch.path()).unwrap_or_else(|error| panic!("{error}"));
        let shapes: Vec<usize> = bundle.parameters.iter().map(|parameter| parameter.shape.len()).collect();
        assert_eq!(shapes, [2, 1], "{selection}: a weight and a bias");
    }
}
