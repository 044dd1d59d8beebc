//! Methods beside the layers against Hugging Face's PEFT: the same base, the same first values of `A`, the same names of what
//! learns, the same losses. `tests/goldens/README.md` tells where PEFT's arithmetic is not ours.

use crate::engine::runtime;
use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;
use edgetune::adapter::{self, Kind, Method, Places, Request};
use edgetune::cut;
use edgetune::train::peft::{Saved, fit};
use edgetune::train::prepare::Base;
use std::path::Path;

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

/// What PEFT puts factors on and edgetune does not is told for what it is, and not as a layer that is missing.
#[test]
fn factors_on_tables_and_grouped_convolutions_are_refused_in_words_that_fit() {
    runtime();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let table = [
        ("model.model.embed_tokens.lora_embedding_A", vec![2, 20]),
        ("model.model.embed_tokens.lora_embedding_B", vec![8, 2]),
    ];
    let grouped = grouped();
    let base = Base::read(&folder.join("training/mobilenet_bn.onnx")).unwrap();
    let convolution = [
        (format!("{grouped}.lora_A.weight"), vec![2, 1, 3, 3]),
        (format!("{grouped}.lora_B.weight"), vec![8, 2, 1, 1]),
    ];
    let refused = |base: &Base, tensors: Vec<(String, Vec<u64>)>| {
        let values = |shape: &[u64]| vec![0.1; shape.iter().product::<u64>() as usize];
        let tensors = tensors.into_iter().map(|(name, shape)| (name, shape.clone(), values(&shape))).collect();
        let method = Method { kind: Kind::Lora, rank: 2, alpha: 4.0 };
        let saved = Saved { folder: "adapter".into(), method, task_type: None, tensors };
        fit(&saved, base, adapter::output(&base.graph, None).unwrap(), &[]).unwrap_err().to_string()
    };
    let problem = refused(&base, convolution.to_vec());
    assert!(
        problem.contains(&format!("`{grouped}`, a convolution of")) && problem.contains("merge_and_unload"),
        "{problem}"
    );
    let llama = Base::read(&folder.join("exporters/llama_names_default.onnx")).unwrap();
    let problem = refused(&llama, table.map(|(name, shape)| (name.to_string(), shape)).to_vec());
    assert!(problem.contains("embed_tokens`, a table of embeddings"), "{problem}");
    // The same where they are asked for here.
    for (base, name, what) in
        [(&base, grouped.as_str(), "a convolution of"), (&llama, "embed_tokens", "a table of embeddings")]
    {
        let method = Some(Method { kind: Kind::Lora, rank: 2, alpha: 4.0 });
        let targets = [name.to_string()];
        let places = Places { targets: &targets, ..Places::default() };
        let request = Request { method, places, ..Request::default() };
        let problem = adapter::install(base.graph.clone(), &request).unwrap_err().to_string();
        assert!(problem.contains(what) && problem.contains("learns as a whole"), "{problem}");
    }
}

/// The module of the first convolution of several groups.
fn grouped() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training/mobilenet_bn.onnx");
    let base = Base::read(&path).unwrap();
    let layers = cut::layers(&base.graph, adapter::output(&base.graph, None).unwrap());
    let at = layers
        .iter()
        .position(|layer| base.graph.nodes[layer.node].int("group", 1) > 1)
        .expect("a depthwise convolution");
    cut::modules(&base.graph, &layers).swap_remove(at)
}
