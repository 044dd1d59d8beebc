//! `check` on the goldens' models: every parameter's gradient is how the loss moves.

use crate::engine::runtime;
use edgetune::adapter::{HeadChoice, Request};
use edgetune::cut::Selection;
use edgetune::engine::Options;
use edgetune::graph::{Builder, DType, Dim, Graph, Tensor, TensorType};
use edgetune::train::check::{Agreement, Checked, check};
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, prepare};
use std::path::Path;

fn checked(model: &str, selection: &str, width: Option<u64>, head: HeadChoice, loss: &Loss) {
    let found = rows_of(model, selection, width, head, loss);
    for row in &found {
        assert!(!matches!(row.verdict, Agreement::Differs | Agreement::Undefined), "{model} {selection}: {row:?}");
    }
    let agree = found.iter().filter(|row| row.verdict == Agreement::Agrees).count();
    assert!(2 * agree > found.len(), "{model} {selection}: hardly anything could be told: {found:?}");
}

fn rows_of(model: &str, selection: &str, width: Option<u64>, head: HeadChoice, loss: &Loss) -> Vec<Checked> {
    runtime();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(model);
    let base = Base::read(&path).unwrap_or_else(|error| panic!("{error}"));
    let selections = [Selection::parse(selection).unwrap()];
    let scratch = tempfile::tempdir().unwrap();
    let request = Request { selections: &selections, width, head, ..Request::default() };
    let bundle = prepare(&base, &request, scratch.path()).unwrap_or_else(|error| panic!("{error}"));
    let found = check(&bundle, loss, &Options::default(), 1).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.len(), bundle.parameters.len());
    found
}

const CROSS_ENTROPY: Loss = Loss::CrossEntropy { label_smoothing: 0.1, class_weights: None };

#[test]
fn a_convolutional_network_from_the_top_to_the_bottom() {
    checked("training/mobilenet_bn.onnx", "last:100", None, HeadChoice::Auto, &CROSS_ENTROPY);
    checked("training/mobilenet_folded.onnx", "last:4", Some(7), HeadChoice::Auto, &CROSS_ENTROPY);
}

#[test]
fn an_encoder_with_every_kind_of_head_and_loss() {
    checked("training/encoder_torchscript.onnx", "last:9", Some(3), HeadChoice::Append, &Loss::MeanSquaredError);
    checked("training/encoder_torchscript.onnx", "last:9", None, HeadChoice::Auto, &Loss::BinaryCrossEntropy);
    checked("training/encoder_dynamo.onnx", "last:9", Some(3), HeadChoice::Replace, &Loss::Huber { delta: 0.5 });
}

#[test]
fn recurrent_layers_also_where_sequences_end_early() {
    checked("families/lstm_stacked.onnx", "*", None, HeadChoice::Auto, &CROSS_ENTROPY);
    checked("exporters/packed_lstm.onnx", "last:2", None, HeadChoice::Auto, &CROSS_ENTROPY);
}

#[test]
fn a_language_model_with_and_without_past_keys() {
    for model in ["decoder", "decoder_cache", "decoder_dynamo"] {
        checked(&format!("language/{model}.onnx"), "last:8", None, HeadChoice::Auto, &Loss::NextToken);
    }
}

/// What is so steep that it leaves the range of its numbers has no slope that could be told: 0 · ∞ is no agreement, and no silence.
#[test]
fn a_gradient_that_is_no_number_is_told_with_the_node_to_blame() {
    runtime();
    let b = Builder::new(Graph::new("steep", 17), "");
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(4)]));
    let weight = b.constant(Tensor::from_f32(&[4, 3], &[60.0; 12]));
    let scale = b.constant(Tensor::from_f32(&[3], &[1.0, 1.5, 0.5]));
    b.output("y", (x.unary("Abs").matmul(weight).exp() * scale).unary("Reciprocal"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steep.onnx");
    std::fs::write(&path, edgetune::onnx::encode(&b.finish(), &edgetune::onnx::Weights::Embedded)).unwrap();
    let base = Base::read(&path).unwrap();
    let selections = [Selection::Last(2)];
    let request = Request { selections: &selections, ..Request::default() };
    let bundle = prepare(&base, &request, folder.path()).unwrap();
    let rows = check(&bundle, &CROSS_ENTROPY, &Options::default(), 1).unwrap();
    let undefined: Vec<_> = rows.iter().filter(|row| row.verdict == Agreement::Undefined).collect();
    assert_eq!(undefined.len(), 1, "{rows:?}");
    let cause = undefined[0].cause.as_deref().unwrap();
    assert!(cause.contains("(Exp) gives infinity"), "{cause}");
}

/// A sigmoid that is written out, as skl2onnx does for SGDClassifier: e⁻ˣ is infinite where the sigmoid is flat.
#[test]
fn a_sigmoid_that_is_written_out_is_flat_where_it_leaves_the_range() {
    for row in rows_of("sklearn/sgd.onnx", "last:1", None, HeadChoice::Auto, &CROSS_ENTROPY) {
        assert!(row.gradient.is_finite() && row.gradient != 0.0, "{row:?}");
        assert_ne!(row.verdict, Agreement::Undefined, "{row:?}");
    }
}
