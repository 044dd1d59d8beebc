//! `check` on the goldens' models: every parameter's gradient is how the loss moves.

use crate::engine::runtime;
use edgetune::adapter::{HeadChoice, Request};
use edgetune::cut::Selection;
use edgetune::engine::Options;
use edgetune::train::check::{Verdict, check};
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, prepare};
use std::path::Path;

fn checked(model: &str, selection: &str, width: Option<u64>, head: HeadChoice, loss: &Loss) {
    runtime();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(model);
    let base = Base::read(&path).unwrap_or_else(|error| panic!("{error}"));
    let selections = [Selection::parse(selection).unwrap()];
    let scratch = tempfile::tempdir().unwrap();
    let request = Request { selections: &selections, width, head, ..Request::default() };
    let bundle = prepare(&base, &request, scratch.path()).unwrap_or_else(|error| panic!("{error}"));
    let found = check(&bundle, loss, &Options::default(), 1).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.len(), bundle.parameters.len());
    for row in &found {
        assert_ne!(row.verdict, Verdict::Differs, "{model} {selection}: {row:?}");
    }
    let agree = found.iter().filter(|row| row.verdict == Verdict::Agrees).count();
    assert!(2 * agree > found.len(), "{model} {selection}: hardly anything could be told: {found:?}");
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
