//! Families of transformers, trained as deep as a gradient flows, against PyTorch: `tests/goldens/transformers/`.

use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;

/// Largest relative difference from PyTorch's loss in any of the ten steps.
const TOLERANCE: f64 = 1e-3;

macro_rules! models {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                follows_pytorch(&Goldens::read("transformers"), stringify!($name), "deep", TOLERANCE);
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

models! {
    bert bert_ort bert_mha roberta distilbert gpt2 gpt2_ort gpt2_dynamo llama llama_eager llama_ort llama_23 llama_genai qwen2 qwen3 vit swin whisper
}

/// A run that learns nothing would follow any flat line: PyTorch's losses fall, and nearly every weight learns.
#[test]
fn every_golden_is_tested_and_learns() {
    for model in Goldens::read("transformers").models {
        assert!(TESTED.contains(&model.name.as_str()), "no test for {}", model.name);
        let run = model.run("deep");
        let (first, last) = (run.losses[0], run.losses[run.losses.len() - 1]);
        assert!(last < 0.9 * first, "{}: from {first} to {last}", model.name);
        assert!(run.trains.len() > 20, "{}: {} parameters learn", model.name, run.trains.len());
    }
}
