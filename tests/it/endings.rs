//! What a model ends in, and what a loss puts there by itself: training, the delta and the merged model compute the same, whatever
//! both are; and the model's own answer is learned on wherever its columns are the data's.

use crate::adapter::{answer, answer_of, moved, samples};
use crate::engine::runtime;
use edgetune::adapter::{HeadChoice, Request};
use edgetune::cut::Selection;
use edgetune::data::{Labels, Preprocessing};
use edgetune::delta::EncodingChoice;
use edgetune::graph::{Builder, DType, Dim, Graph, Tensor, TensorType, Val};
use edgetune::onnx::{self, Weights};
use edgetune::train::artifact::{About, Adapter, Provenance, encode, payloads};
use edgetune::train::evaluate::{rounded, softmax};
use edgetune::train::export::merged;
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, Bundle, prepare};
use std::path::Path;

const CROSS_ENTROPY: Loss = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
const LOSSES: [Loss; 3] = [CROSS_ENTROPY, Loss::BinaryCrossEntropy, Loss::MeanSquaredError];

fn weight<'b>(b: &'b Builder, seed: u64, shape: &[u64]) -> Val<'b> {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = shape.iter().product::<u64>();
    b.constant(Tensor::from_vec(shape, (0..count).map(|_| random.f32() - 0.5).collect::<Vec<f32>>()))
}

fn dense<'b>(b: &'b Builder, x: Val<'b>, seed: u64, from: u64, to: u64) -> Val<'b> {
    b.op("Gemm", &[x, weight(b, seed, &[from, to]), weight(b, seed + 1, &[to])], &[])
}

/// `x` [batch, 4] → dense 6 → ReLU → dense `width` → an ending → `y`.
fn base(folder: &Path, width: u64, ending: &str) -> Base {
    runtime();
    let b = Builder::new(Graph::new(ending, 17), "");
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(4)]));
    let hidden = dense(&b, x, 1, 4, 6).unary("Relu");
    let scores = dense(&b, hidden, 3, 6, width);
    let number = |value: f64| b.scalar(DType::Float, value);
    let y = match ending {
        "nothing" => scores,
        "one minus" => {
            let share = scores.unary("Sigmoid");
            b.op("Concat", &[number(1.0) - share, share], &[("axis", edgetune::graph::Attr::Int(1))])
        }
        "two atan" => scores.unary("Atan") * 2.0,
        "clip" => b.op("Clip", &[scores, number(-0.4), number(0.4)], &[]),
        "scaled" => scores * weight(&b, 7, &[width]) + weight(&b, 8, &[width]),
        "temperature" => scores / number(0.7),
        "cosine" => {
            let rows = weight(&b, 5, &[width, 6]);
            let axes = [("axes", edgetune::graph::Attr::Ints(vec![1])), ("keepdims", edgetune::graph::Attr::Int(1))];
            hidden.matmul((rows / b.op("ReduceL2", &[rows], &axes)).transpose(&[1, 0])) * 5.0
        }
        "squeezed" => scores.squeeze(&[1]),
        "squeezed share" => scores.unary("Sigmoid").reshape_to(&[-1]),
        "mean of two" => (scores.unary("Softmax") + dense(&b, hidden, 9, 6, width).unary("Softmax")) / number(2.0),
        op => scores.unary(op),
    };
    b.output("y", y);
    let path = folder.join(format!("{}.onnx", ending.replace(' ', "_")));
    std::fs::write(&path, onnx::encode(&b.finish(), &Weights::Embedded)).unwrap();
    Base::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

const ENDINGS: [&str; 12] = [
    "nothing",
    "Softmax",
    "LogSoftmax",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "two atan",
    "clip",
    "scaled",
    "temperature",
    "cosine",
    "mean of two",
];

fn bundle(base: &Base, width: u64, loss: &Loss, folder: &Path) -> Bundle {
    let (selections, activation) = (&[Selection::Head], Some(loss.activation()));
    let request = Request { selections, width: Some(width), activation, ..Request::default() };
    prepare(base, &request, folder).unwrap_or_else(|error| panic!("{}: {error}", base.path.display()))
}

/// What some training might have given, as it is at rest.
fn changed(bundle: &Bundle) -> Vec<Vec<f32>> {
    moved(bundle).iter().map(|values| rounded(values)).collect()
}

fn learned(bundle: &Bundle, values: &[Vec<f32>], loss: &Loss, width: u64) -> Adapter {
    let names = (0..width).map(|class| class.to_string()).collect();
    let labels = match loss {
        Loss::MeanSquaredError => Labels::Values(ndarray::Array2::zeros((0, width as usize))),
        Loss::BinaryCrossEntropy => Labels::MultiLabel { rows: ndarray::Array2::zeros((0, width as usize)), names },
        _ => Labels::Classes { index: vec![], names },
    };
    let about = About {
        loss,
        preprocessing: &Preprocessing::Plain,
        labels: &labels,
        train: &[],
        validation: None,
        test: None,
        provenance: Provenance::default(),
    };
    let payloads = payloads(values, EncodingChoice::Fp16).unwrap();
    Adapter::from_bytes(Path::new("a.edelta"), &encode(bundle, &payloads, &about).unwrap()).unwrap()
}

/// What `predict` makes of the tail's outputs.
fn told(loss: &Loss, outputs: &[f32], width: usize) -> Vec<f32> {
    match loss {
        Loss::MeanSquaredError => outputs.to_vec(),
        Loss::BinaryCrossEntropy => outputs.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        _ => outputs.chunks(width).flat_map(softmax).collect(),
    }
}

/// What the merged model has between the outputs of the tail and its own.
fn behind(loss: &Loss, ending: &'static str, bundle: &Bundle) -> &'static str {
    let activation = ["Softmax", "LogSoftmax", "Sigmoid"].contains(&ending);
    match (loss.name(), ending) {
        _ if bundle.head.is_some() => "",
        ("cross-entropy", "Softmax" | "LogSoftmax") | ("binary-cross-entropy", "Sigmoid") => ending,
        ("cross-entropy", "mean of two") => "Softmax",
        // New scores were learned for the loss's own activation, and kept ones with the model's before the loss.
        ("cross-entropy", _) if activation && bundle.head_note.starts_with("replaced") => "Softmax",
        ("binary-cross-entropy", _) if activation && bundle.head_note.starts_with("replaced") => "Sigmoid",
        _ => "",
    }
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-4, "{what}: {found:?} where {expected:?} was expected");
    }
}

/// A model's answer is the loss's own where the two go together, and so is predicted as it is; elsewhere the loss stands behind it.
#[test]
fn what_is_predicted_is_what_the_merged_model_gives() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ENDINGS {
        let base = base(folder.path(), 3, ending);
        let given = samples(&base.graph);
        for loss in &LOSSES {
            for width in [3, 5] {
                let what = format!("{ending}, {}, {width} columns", loss.name());
                let bundle = bundle(&base, width, loss, folder.path());
                let values = changed(&bundle);
                let adapter = learned(&bundle, &values, loss, width);
                let outputs = answer(&bundle, &values, &given);
                // The delta, read again, gives the same as training had.
                let (again, read) =
                    adapter.bundle(&base, folder.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
                close(&answer(&again, &read, &given), &outputs, &format!("{what}, read again"));
                let graph = merged(&base, &adapter).unwrap_or_else(|error| panic!("{what}: {error}"));
                let output = graph.value_name(*graph.outputs.last().unwrap()).to_string();
                let found = answer_of(&graph, &output, &given);
                let own = match behind(loss, ending, &bundle) {
                    "Softmax" | "Sigmoid" => told(loss, &outputs, width as usize),
                    "LogSoftmax" => told(loss, &outputs, width as usize).into_iter().map(f32::ln).collect(),
                    _ => outputs,
                };
                close(&found, &own, &what);
            }
        }
    }
}

/// Before the first step the model is what it was.
#[test]
fn a_model_with_the_datas_columns_is_kept_whatever_it_ends_in() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ENDINGS {
        let base = base(folder.path(), 3, ending);
        let given = samples(&base.graph);
        let plain = answer_of(&base.graph, "y", &given);
        for loss in &LOSSES {
            let bundle = bundle(&base, 3, loss, folder.path());
            assert!(bundle.head_note.starts_with("kept"), "{ending}, {}: {}", loss.name(), bundle.head_note);
            // The layer that makes the scores learns, not the units that they are told in.
            let most = bundle.parameters.iter().map(|parameter| parameter.shape.len()).max();
            assert_eq!(most, Some(2), "{ending}: {:?}", bundle.parameters);
            let initial: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
            let outputs = answer(&bundle, &initial, &given);
            let own = match (loss.name(), ending) {
                ("cross-entropy", "Softmax" | "mean of two") | ("binary-cross-entropy", "Sigmoid") => {
                    told(loss, &outputs, 3)
                }
                ("cross-entropy", "LogSoftmax") => told(loss, &outputs, 3).into_iter().map(f32::ln).collect(),
                _ => outputs,
            };
            close(&own, &plain, &format!("{ending}, {}", loss.name()));
        }
    }
}

/// One column behind a sigmoid is a classifier of two classes, as Keras and scikit-learn write it: the share of the second.
#[test]
fn one_column_behind_a_sigmoid_tells_two_classes() {
    let folder = tempfile::tempdir().unwrap();
    for (ending, column) in [("Sigmoid", 0), ("one minus", 1), ("squeezed share", 0)] {
        let base = base(folder.path(), 1, ending);
        let given = samples(&base.graph);
        let bundle = bundle(&base, 2, &CROSS_ENTROPY, folder.path());
        assert!(bundle.head_note.starts_with("kept"), "{ending}: {}", bundle.head_note);
        let values = changed(&bundle);
        let shares = told(&CROSS_ENTROPY, &answer(&bundle, &values, &given), 2);
        let second: Vec<f32> = shares.chunks(2).map(|pair| pair[1]).collect();
        let adapter = learned(&bundle, &values, &CROSS_ENTROPY, 2);
        let (again, read) = adapter.bundle(&base, folder.path()).unwrap();
        close(&told(&CROSS_ENTROPY, &answer(&again, &read, &given), 2), &shares, ending);
        let found = answer_of(&merged(&base, &adapter).unwrap(), "y", &given);
        let found: Vec<f32> = found.chunks(column + 1).map(|row| row[column]).collect();
        close(&found, &second, ending);
    }
}

/// Scores of other classes are poor features: a new head reads what the old ones were made from.
#[test]
fn a_head_for_other_classes_reads_below_the_old_scores() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["Tanh", "two atan", "scaled", "temperature", "clip", "cosine"] {
        let base = base(folder.path(), 3, ending);
        let bundle = bundle(&base, 5, &CROSS_ENTROPY, folder.path());
        let head = bundle.head.as_ref().unwrap_or_else(|| panic!("{ending}: {}", bundle.head_note));
        assert_eq!(head.features, 6, "{ending}: {}", bundle.head_note);
        // The merged model gives the new scores in the place and by the name of the old ones.
        let values = changed(&bundle);
        let merged = merged(&base, &learned(&bundle, &values, &CROSS_ENTROPY, 5)).unwrap();
        let outputs: Vec<&str> = merged.outputs.iter().map(|id| merged.value_name(*id)).collect();
        assert_eq!(outputs, ["y"], "{ending}");
        let given = samples(&base.graph);
        close(&answer_of(&merged, "y", &given), &answer(&bundle, &values, &given), ending);
    }
    // Also where a head of the same width is to be replaced that is no linear layer.
    let base = base(folder.path(), 3, "Tanh");
    let request = Request { width: Some(3), head: HeadChoice::Replace, ..Request::default() };
    assert_eq!(prepare(&base, &request, folder.path()).unwrap().head.unwrap().features, 6);
    // What was asked for is done.
    let request = Request { width: Some(5), head: HeadChoice::Append, ..Request::default() };
    assert_eq!(prepare(&base, &request, folder.path()).unwrap().head.unwrap().features, 3);
}

/// `squeeze(-1)` behind one column: what is learned is the column, for one value as for several classes.
#[test]
fn a_column_that_is_given_as_a_list_is_a_column() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["squeezed", "squeezed share"] {
        let base = base(folder.path(), 1, ending);
        let given = samples(&base.graph);
        for (loss, width, rows) in [(&Loss::BinaryCrossEntropy, 1, "kept"), (&CROSS_ENTROPY, 3, "replaced")] {
            let bundle = bundle(&base, width, loss, folder.path());
            assert!(bundle.head_note.starts_with(rows), "{ending}: {}", bundle.head_note);
            let values = changed(&bundle);
            let expected = told(loss, &answer(&bundle, &values, &given), width as usize);
            let graph = merged(&base, &learned(&bundle, &values, loss, width)).unwrap();
            let found = answer_of(&graph, "y", &given);
            let found = if ending == "squeezed" { told(loss, &found, width as usize) } else { found };
            close(&found, &expected, &format!("{ending}, {}", loss.name()));
        }
    }
}
