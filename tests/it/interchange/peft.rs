//! PEFT's folders, out and in: with PEFT itself where it is there, and the damaged and the unsupported without.

use super::arrays::{close, load, save};
use super::onnx_runtime::adapter_of;
use super::python::{self, python};
use crate::adapter::{LORA, answer, base, moved, samples};
use crate::cli::Place;
use edgetune::adapter::{Kind, Method, Request};
use edgetune::cut::Selection;
use edgetune::graph::Tensor;
use edgetune::train::artifact::Adapter;
use edgetune::train::peft::{self, Saved};
use edgetune::train::prepare::{Base, Bundle, prepare};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use std::path::Path;

/// The models of the goldens whose PyTorch side `both_ways.py` builds again, and the names of their heads there.
const MODELS: [(&str, &str); 4] = [
    ("encoder_torchscript.onnx", "encoder"),
    ("encoder_dynamo.onnx", "encoder"),
    ("mobilenet_bn.onnx", "mobilenet"),
    ("mobilenet_folded.onnx", "mobilenet"),
];

fn output(base: &Base) -> edgetune::graph::ValueId {
    edgetune::adapter::output(&base.graph, None).unwrap()
}

/// What was saved, as an adapter of the base.
fn imported(saved: &Saved, base: &Base) -> Adapter {
    let fitted = peft::fit(saved, base, output(base), &[]).unwrap_or_else(|error| panic!("{error}"));
    let like = prepared(base, LORA, &saved.folder);
    let made =
        Adapter { method: Some(saved.method), tensors: fitted.tensors, seed: 0, ..adapter_of(&like, &moved(&like)) };
    Adapter::from_bytes(Path::new("imported.edelta"), &made.encoded().unwrap()).unwrap()
}

/// The method on all layers, and the head as a whole.
fn prepared(base: &Base, method: Method, scratch: &Path) -> Bundle {
    let request = Request { method: Some(method), selections: &[Selection::Head], ..Request::default() };
    prepare(base, &request, scratch).unwrap()
}

/// Out and in again gives every value back, under the same names.
#[test]
fn what_is_exported_is_imported_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    for (model, _) in MODELS {
        for kind in [Kind::Lora, Kind::RsLora] {
            let base = base(model);
            let bundle = prepared(&base, Method { kind, ..LORA }, scratch.path());
            let adapter = adapter_of(&bundle, &moved(&bundle));
            match peft::write(scratch.path(), &adapter) {
                Ok(()) => {}
                // Numbered nodes and initializers: PEFT would have no module of that name.
                Err(error) if model.contains("dynamo") => {
                    assert!(error.to_string().contains("no name of a PyTorch module"), "{error}");
                    continue;
                }
                Err(error) => panic!("{model}: {error}"),
            }
            let again = imported(&peft::read(scratch.path()).unwrap(), &base);
            assert_eq!(again.method, adapter.method);
            assert_eq!(again.tensors, adapter.tensors, "{model} {kind}");
        }
    }
}

/// PEFT loads what was exported and answers the same; what PEFT has saved answers the same here.
#[test]
fn peft_and_edgetune_answer_the_same() {
    let modules = ["peft", "torch", "torchvision", "onnx", "onnxruntime"];
    let Some(python) = python("peft_and_edgetune_answer_the_same", &modules) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (encoder, mobilenet) = (["query", "layers.1.output"], ["features.0.0", "features.3.conv.0.0"]);
    // The exporter has transposed the encoder's `value`, and left no name on it.
    let settings = |targets: &[&str], whole: &[&str]| {
        json!({
            "lora": { "r": 3, "lora_alpha": 5, "target_modules": targets, "modules_to_save": whole },
            "rslora": { "r": 4, "lora_alpha": 2, "target_modules": targets, "use_rslora": true },
        })
    };
    let cases = [
        ("encoder_torchscript.onnx", "encoder", settings(&encoder, &["classifier", "layers.1.value"])),
        ("mobilenet_bn.onnx", "mobilenet", settings(&mobilenet, &["classifier"])),
    ];
    let mut exported = Vec::new();
    for (model, name, settings) in &cases {
        let base = base(model);
        let (place, bundle) = (folder.path().join(name), prepared(&base, LORA, folder.path()));
        let adapter = adapter_of(&bundle, &moved(&bundle));
        peft::write(&place.join("exported"), &adapter).unwrap();
        std::fs::write(place.join("settings.json"), settings.to_string()).unwrap();
        let samples = samples(&base.graph);
        save(&place.join("inputs.npz"), &samples);
        let expected = answer(&bundle, &adapter.values_for(&bundle), &samples);
        exported.push((base, place, samples, expected));
    }
    python::run(python, "both_ways.py", folder.path());
    for (base, place, samples, expected) in exported {
        let of = |name: &str| load(&place.join(name)).remove("output").unwrap();
        close(&of("exported.npz"), &expected, "exported");
        assert!(of("base.npz").iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-2), "nothing is changed by it");
        for name in ["lora", "rslora"] {
            let adapter = imported(&peft::read(&place.join(name)).unwrap(), &base);
            let (bundle, values) = adapter.bundle(&base, folder.path()).unwrap();
            close(&answer(&bundle, &values, &samples), &of(&format!("{name}.npz")), name);
        }
    }
}

/// A folder with the base, data for it, a delta of LoRA and that exported for PEFT.
fn place() -> Place {
    let place = Place::with_model("encoder_torchscript");
    let mut random = fastrand::Rng::with_seed(4);
    let mut whole = |shape: &[u64], range: std::ops::Range<i64>| {
        let count = shape.iter().product::<u64>();
        Tensor::from_vec(shape, (0..count).map(|_| random.i64(range.clone())).collect::<Vec<i64>>())
    };
    let ids = whole(&[24, 6], 0..50);
    let mask = Tensor::from_vec(&[24, 6], vec![1i64; 24 * 6]);
    let arrays = [("input_ids", ids), ("attention_mask", mask), ("y", whole(&[24], 0..4))];
    save(&place.path("data.npz"), &arrays.map(|(name, tensor)| (name.to_string(), tensor)));
    let options = "--adapter lora --rank 2 --targets query --epochs 2 --val-fraction 0 --out a.edelta";
    place.run(&format!("train base.onnx --data data.npz {options}")).done();
    place.run("export --adapter a.edelta --to safetensors --out peft").done();
    place
}

#[test]
fn an_imported_adapter_is_a_delta_like_any_other() {
    let place = place();
    place.run("import peft --model base.onnx --out b.edelta --classes 4").done();
    let eval = |name: &str| place.run(&format!("eval base.onnx --adapter {name} --data data.npz --json")).json();
    assert_eq!(eval("b.edelta"), eval("a.edelta"));
    for name in ["a", "b"] {
        place.run(&format!("delta apply base.onnx {name}.edelta --out {name}.onnx")).done();
    }
    // What is said of the inputs may differ: PEFT does not tell that arrays were fed.
    let merged = |name: &str| Base::read(&place.path(name)).unwrap().graph;
    let (a, b) = (merged("a.onnx"), merged("b.onnx"));
    assert_eq!(a.nodes, b.nodes);
    assert_eq!(a.initializers, b.initializers);
    let shown = place.run("delta show b.edelta --json").json();
    assert_eq!((&shown["task"], &shown["method"]["rank"]), (&json!("Classification"), &json!(2)), "{shown}");
    assert_eq!(shown["labels"].as_array().unwrap().len(), 4, "{shown}");
    let wrong = "import peft --model base.onnx --out x.edelta --classes 3";
    place.run(wrong).fails(&["--classes", "3 names", "4 columns"]);
    assert!(!place.path("x.edelta").exists());
}

/// The folder's two files with something changed in them.
fn changed(place: &Place, config: impl Fn(&mut Value), tensors: impl Fn(&mut Vec<u8>)) {
    let mut values: Value = serde_json::from_slice(&place.read("peft/adapter_config.json")).unwrap();
    config(&mut values);
    place.write("changed/adapter_config.json", values.to_string());
    let mut bytes = place.read("peft/adapter_model.safetensors");
    tensors(&mut bytes);
    place.write("changed/adapter_model.safetensors", bytes);
}

const IMPORT: &str = "import changed --model base.onnx --out x.edelta";

#[test]
fn settings_that_a_delta_cannot_have_are_refused() {
    let place = place();
    for (field, value, words) in [
        ("peft_type", json!("IA3"), ["peft_type is IA3", "merge_and_unload"]),
        ("use_dora", json!(true), ["use_dora", "merge_and_unload"]),
        ("alpha_pattern", json!({ "layers.0.query": 3 }), ["alpha_pattern", "merge_and_unload"]),
        ("alora_invocation_tokens", json!([1, 2]), ["alora_invocation_tokens", "merge_and_unload"]),
        ("something_of_next_year", json!("on"), ["something_of_next_year", "merge_and_unload"]),
        ("init_lora_weights", json!("pissa"), ["init_lora_weights", "path_initial_model_for_weight_conversion"]),
        ("r", json!(0), ["r is 0", "above 0"]),
        ("r", json!(3), ["lora_A.weight", "rank 3"]),
        ("r", Value::Null, ["no configuration of LoRA", "merge_and_unload"]),
        ("lora_alpha", json!(-1), ["lora_alpha -1", "above 0"]),
        ("lora_alpha", json!("many"), ["no configuration of LoRA", "merge_and_unload"]),
    ] {
        changed(&place, |config| config[field] = value.clone(), |_| {});
        place.run(IMPORT).fails(&words);
        assert!(!place.path("x.edelta").exists(), "{field}");
    }
    changed(&place, |config| config["lora_dropout"] = json!(0.5), |_| {});
    place.run(IMPORT).done();
}

#[test]
fn damaged_and_hostile_files_are_refused() {
    let place = place();
    let replaced = |bytes: &mut Vec<u8>, from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    };
    let whole = "adapter_model.safetensors: is no whole safetensors file";
    let file = |words: [&'static str; 2], change: &dyn Fn(&mut Vec<u8>)| {
        changed(&place, |_| {}, change);
        place.run(IMPORT).fails(&words);
    };
    file([whole, "copy or save it again"], &|bytes| bytes.truncate(bytes.len() - 1));
    file([whole, "copy or save it again"], &|bytes| bytes.truncate(100));
    file([whole, "copy or save it again"], &|bytes| bytes.truncate(3));
    file([whole, "copy or save it again"], &|bytes| bytes.clear());
    file([whole, "copy or save it again"], &|bytes| bytes.extend([0; 4]));
    for length in [u64::MAX, 1 << 40, 99_000_000] {
        file([whole, "copy or save it again"], &|bytes| bytes[..8].copy_from_slice(&length.to_le_bytes()));
    }
    file([whole, "copy or save it again"], &|bytes| replaced(bytes, "\"F32\"", "\"F99\""));
    file([whole, "copy or save it again"], &|bytes| replaced(bytes, "[2,32]", "[2,33]"));
    file(["is of type I32", "save it as float32"], &|bytes| replaced(bytes, "\"F32\"", "\"I32\""));
    file(["has shape [32, 2]", "there has [2, 32]"], &|bytes| replaced(bytes, "[2,32]", "[32,2]"));
    file(["does not begin with `base_model.model.`", "save_pretrained"], &|bytes| {
        replaced(bytes, "base_model.model.", "base_model.modem.");
    });
    file(["holds NaN", "fp16"], &|bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        changed(&place, |_| {}, |_| {});
        std::fs::remove_file(place.path("changed").join(name)).unwrap();
        place.run(IMPORT).fails(&[name, "check"]);
    }
    place.write("changed/adapter_model.bin", b"");
    place.run(IMPORT).fails(&["adapter_model.safetensors: is missing", "safe_serialization=True"]);
    place.write("changed/adapter_config.json", b"{");
    place.run(IMPORT).fails(&["adapter_config.json", "no JSON"]);
    assert!(!place.path("x.edelta").exists());
}

/// Names that differ by a wrapper are found; others are listed with what there is, and renamed on demand.
#[test]
fn modules_of_other_names_are_listed_and_renamed() {
    let place = place();
    let renamed = |from: &str, to: &str| {
        let saved = peft::read(&place.path("peft")).unwrap();
        let tensors = saved.tensors.iter().map(|(name, shape, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let name = format!("base_model.model.{}", name.replace(from, to));
            (name, shape.iter().map(|size| *size as usize).collect::<Vec<_>>(), bytes)
        });
        let tensors: Vec<_> = tensors.collect();
        let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        let views = tensors.iter().map(|(name, shape, bytes)| (name, view(shape, bytes)));
        let bytes = serialize(views, None).unwrap();
        changed(&place, |_| {}, |file| *file = bytes.clone());
    };
    let same = |arguments: &str| {
        place.run(&format!("{IMPORT} {arguments}")).done();
        let values = |name: &str| Adapter::read(&place.path(name)).unwrap().tensors;
        assert_eq!(values("x.edelta"), values("a.edelta"));
        std::fs::remove_file(place.path("x.edelta")).unwrap();
    };
    renamed("layers.", "model.encoder.layers.");
    same("");
    renamed("layers.", "");
    same("");
    renamed("query", "q_proj");
    place.run(IMPORT).fails(&["2 of its 2 modules", "`layers.0.q_proj`", "`layers.0.", "--rename", "base.onnx"]);
    same("--rename q_proj=query");
    assert_eq!(place.run(&format!("{IMPORT} --rename q_proj")).code, Some(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever the file is, it is read or refused.
    #[test]
    fn no_file_is_too_strange(flips in prop::collection::vec((0usize..400, any::<u8>()), 1..6), end in 0usize..700) {
        let folder = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0..16u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
        let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        let (a, b) = ("base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight");
        let mut bytes = serialize([(a, view(&[2, 4], &data[..32])), (b, view(&[4, 2], &data[32..]))], None).unwrap();
        bytes.truncate(end.max(8));
        for (place, byte) in flips {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        std::fs::write(folder.path().join("adapter_config.json"), r#"{"peft_type":"LORA","r":2,"lora_alpha":4}"#).unwrap();
        std::fs::write(folder.path().join("adapter_model.safetensors"), bytes).unwrap();
        drop(peft::read(folder.path()));
    }
}
