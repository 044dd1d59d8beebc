//! Methods beside the layers against Hugging Face's PEFT: the same base, the same first values of `A`, the same names of what
//! learns, the same losses. `tests/goldens/README.md` tells where PEFT's arithmetic is not ours.

use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;

/// Largest relative difference from PEFT's loss in any of the ten steps.
const TOLERANCE: f64 = 1e-4;

macro_rules! models {
    ($($name:ident: $model:literal, $methods:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let goldens = Goldens::read("adapters");
                for method in $methods {
                    follows_pytorch(&goldens, $model, &format!("{method}_sgd"), TOLERANCE);
                    follows_pytorch(&goldens, $model, &format!("{method}_adamw"), TOLERANCE);
                }
            }
        )*

        const TESTED: &[(&str, &[&str])] = &[$(($model, &$methods)),*];
    };
}

models! {
    an_encoder_in_single_steps: "encoder_torchscript", ["lora", "rslora", "dora", "lora-fa", "ia3", "bitfit", "norm"];
    an_encoder_of_the_dynamo_exporter: "encoder_dynamo", ["lora", "rslora", "dora", "lora-fa", "ia3", "bitfit", "norm"];
    convolutions_with_kernels: "convnext", ["lora", "rslora", "dora", "lora-fa", "ia3", "bitfit", "norm"];
    convolutions_before_normalisations: "mobilenet_bn", ["lora", "rslora", "dora", "lora-fa", "ia3", "bitfit", "norm"];
    convolutions_with_biases: "mobilenet_folded", ["lora", "dora", "bitfit"];
    one_layer_of_queries_keys_and_values: "gpt2", ["lora", "ia3", "norm"];
    one_layer_of_queries_keys_and_values_of_dynamo: "gpt2_dynamo", ["lora", "ia3", "norm"];
}

/// A method that changes nothing would follow any flat line: PEFT's losses fall, over the same batches.
#[test]
fn every_run_of_the_goldens_is_tested_and_learns() {
    for model in Goldens::read("adapters").models {
        let methods = TESTED.iter().find(|(name, _)| *name == model.name).expect("a test of the model").1;
        assert_eq!(model.runs.len(), 2 * methods.len(), "{}: runs without a test", model.name);
        for run in &model.runs {
            let count = model.batches;
            let first: f64 = run.losses[..count].iter().sum();
            let last: f64 = run.losses[run.losses.len() - count..].iter().sum();
            assert!(last < 0.95 * first, "{} {}: from {first} to {last}", model.name, run.name);
        }
    }
}
