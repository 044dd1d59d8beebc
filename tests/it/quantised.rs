//! Quantised models in every format of ONNX Runtime's tools, trained as PyTorch does on the same quantised numbers:
//! `tests/goldens/quantised/`.

use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;

/// Largest relative difference from PyTorch's loss in any of the ten steps.
const TOLERANCE: f64 = 1e-3;

macro_rules! models {
    ($($name:ident: $runs:expr;)*) => {
        $(
            #[test]
            fn $name() {
                for run in $runs {
                    follows_pytorch(&Goldens::read("quantised"), stringify!($name), run, TOLERANCE);
                }
            }
        )*

        const TESTED: &[(&str, &[&str])] = &[$((stringify!($name), &$runs)),*];
    };
}

models! {
    mobilenet_qdq: ["head", "deep", "lora"];
    encoder_dynamic: ["floats", "lora"];
    decoder_4_bits: ["lora", "norms"];
    decoder_8_bits: ["lora", "norms"];
}

/// A run that learns nothing would follow any flat line: PyTorch's losses fall, over the same batches.
#[test]
fn every_run_of_the_goldens_is_tested_and_learns() {
    for model in Goldens::read("quantised").models {
        let tested = TESTED.iter().find(|(name, _)| *name == model.name).expect("a test of the model").1;
        assert_eq!(tested.len(), model.runs.len(), "{}: runs without a test", model.name);
        for run in &model.runs {
            let sum = |losses: &[f64]| losses.iter().sum::<f64>();
            let (first, last) = (sum(&run.losses[..2]), sum(&run.losses[run.losses.len() - 2..]));
            assert!(last < 0.95 * first, "{} {}: from {first} to {last}", model.name, run.name);
        }
    }
}
