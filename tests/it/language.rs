//! Language models: the next token's loss against PyTorch, without and with a cache of keys and values.

use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;

/// Largest relative difference from PyTorch's loss in any of the sixteen steps.
const TOLERANCE: f64 = 1e-4;

macro_rules! runs {
    ($($name:ident: $model:literal;)*) => {$(
        #[test]
        fn $name() {
            for run in ["block_sgd", "block_adamw", "head_adamw"] {
                follows_pytorch(&Goldens::read("language"), $model, run, TOLERANCE);
            }
        }
    )*};
}

runs! {
    padding_and_prompts_are_ignored_as_in_pytorch: "decoder";
    a_model_with_a_cache_trains_on_empty_past_keys: "decoder_cache";
    a_model_of_the_dynamo_exporter_trains_alike: "decoder_dynamo";
}
