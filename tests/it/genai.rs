//! Decoders as onnxruntime-genai's model builder writes them, float32 and int4: queries, keys and values as one product, attention with a past
//! that the file leaves open in its size. `tests/goldens/README.md` has the format.

use crate::cli::{Place, project};
use crate::engine::runtime;
use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;
use edgetune::engine::Options;
use edgetune::train::generate::{Generator, Sampling};
use edgetune::train::prepare::Base;
use std::path::Path;

/// Largest relative difference from PyTorch's loss in any of the ten steps.
const TOLERANCE: f64 = 1e-4;
/// By the builder's default int4 products quantise what they multiply with to eight bits, which the decoder of dequantised weights does not.
const TOLERANCE_BOTH_QUANTISED: f64 = 1e-2;
const MODELS: [&str; 6] = ["llama_fp32", "llama_int4", "qwen2_fp32", "qwen2_int4", "qwen3_fp32", "qwen3_int4"];

#[test]
fn the_losses_of_ten_steps_are_pytorchs() {
    for model in MODELS {
        let tolerance = if model == "llama_int4" { TOLERANCE_BOTH_QUANTISED } else { TOLERANCE };
        follows_pytorch(&Goldens::read("genai"), model, "deep", tolerance);
    }
}

/// The likeliest tokens behind a prompt, each read once.
fn generated(model: &Path, prompt: &[u32], count: usize) -> Vec<u32> {
    let scratch = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(&Base::read(model).unwrap(), None, scratch.path(), &Options::default()).unwrap();
    assert!(generator.has_cache(), "{}", model.display());
    let greedy = Sampling { temperature: 0.0, top_k: None, top_p: None, seed: 0 };
    generator.generate(prompt, count, &greedy, &|_| false, &mut |_| true).unwrap().tokens
}

fn tokens(of: &serde_json::Value) -> Vec<u32> {
    of.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn the_likeliest_tokens_are_pytorchs_and_each_is_read_once() {
    runtime();
    let text = std::fs::read(project("tests/goldens/genai/greedy.json")).expect("the goldens are in the project");
    let golden: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let prompt = tokens(&golden["prompt"]);
    for model in MODELS {
        let path = project("tests/goldens/genai").join(model).with_extension("onnx");
        let expected = tokens(&golden["generated"][model]);
        assert_eq!(generated(&path, &prompt, expected.len()), expected, "{model}");
    }
}

/// As users do: LoRA by the names that PEFT knows, then the answer with what was learned, and the model with it.
#[test]
fn lora_is_put_on_the_product_that_is_there_and_merged() {
    let place = Place::new();
    let (base, data) =
        (project("tests/goldens/genai/qwen3_int4.onnx"), "3 % ' ) + - / 1 3 5\n# % ' ) + - / 1 3\n".repeat(20));
    place.write("text.txt", data);
    let train = |targets: &str| {
        let base = base.display();
        let options = "--adapter lora --max-length 16 --epochs 2 --lr 0.01 --out a.edelta";
        place.run(&format!("train {base} --data text.txt {options} --targets {targets}"))
    };
    train("q_proj,v_proj").fails(&["in this file queries, keys and values are one layer: name `qkv_proj`"]);
    train("qkv_proj,o_proj").done();
    place.write("prompt.txt", "3 %\n");
    let base = base.display();
    let learned = place.run(&format!("predict {base} --adapter a.edelta --max-new-tokens 8 prompt.txt --json")).json();
    place.run(&format!("export --model {base} --adapter a.edelta --to onnx --out merged.onnx")).done();
    // "3" and "%", as tokenizer.json numbers them.
    assert_eq!(generated(&place.path("merged.onnx"), &[18, 4], 8), tokens(&learned[0]["tokens"]));
}
