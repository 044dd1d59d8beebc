//! Language models: the next token's loss against PyTorch, without and with a cache of keys and values.

use crate::cli::project;
use crate::engine::runtime;
use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;
use edgetune::engine::Options;
use edgetune::train::generate::{Generator, Sampling};
use edgetune::train::prepare::Base;

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

/// The prompt and what PyTorch goes on with, token by token.
fn greedy() -> (Vec<u32>, Vec<u32>) {
    let text = std::fs::read(project("tests/goldens/language/greedy.json")).expect("the goldens are in the project");
    let golden: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let tokens = |name: &str| golden[name].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    (tokens("prompt"), tokens("generated"))
}

#[test]
fn the_likeliest_tokens_are_pytorchs_with_and_without_a_cache() {
    runtime();
    let (prompt, expected) = greedy();
    for (model, cache) in [("decoder", false), ("decoder_cache", true), ("decoder_dynamo", false)] {
        let scratch = tempfile::tempdir().unwrap();
        let base = Base::read(&project("tests/goldens/language").join(model).with_extension("onnx")).unwrap();
        let mut generator = Generator::new(&base, None, scratch.path(), &Options::default()).unwrap();
        assert_eq!(generator.has_cache(), cache, "{model}");
        let greedy = Sampling { temperature: 0.0, top_k: None, top_p: None, seed: 0 };
        let mut told = Vec::new();
        let mut tell = |token| {
            told.push(token);
            true
        };
        let found = generator.generate(&prompt, expected.len(), &greedy, &|_| false, &mut tell).unwrap().tokens;
        assert_eq!(found, expected, "{model}");
        assert_eq!(told, expected, "{model}");
        let ended =
            generator.generate(&prompt, 24, &greedy, &|token| token == expected[5], &mut |_| true).unwrap().tokens;
        assert_eq!(ended, expected[..5], "{model}: the end is not part of the text");
        let stopped =
            generator.generate(&prompt, 24, &greedy, &|_| false, &mut |token| token != expected[2]).unwrap().tokens;
        assert_eq!(stopped, expected[..3], "{model}");
    }
}
