//! Whole runs against PyTorch: the tails that its exporters write, trained by the step graph and the optimiser, follow
//! PyTorch's losses. `tests/goldens/README.md` has the format.

pub mod follow;
pub mod golden;

use follow::follows_pytorch;
use golden::Goldens;

/// Largest relative difference from PyTorch's loss in any of the twenty steps.
const TOLERANCE: f64 = 1e-4;

macro_rules! runs {
    ($($name:ident: $model:literal $run:literal;)*) => {$(
        #[test]
        fn $name() {
            follows_pytorch(&Goldens::read("training"), $model, $run, TOLERANCE);
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
    for model in Goldens::read("training").models {
        for run in &model.runs {
            let line = format!("{:?} {:?};", model.name, run.name);
            assert!(source.contains(&line), "no test for {line}");
        }
    }
}
