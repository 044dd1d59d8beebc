//! `export --to onnx-adapter`: ONNX Runtime itself activates the adapter on the model, through its Python wheel and, with the
//! tensors fed by hand, through its C API.

use super::arrays::{close, load, save};
use super::python::{self, python};
use crate::adapter::{LORA, MODELS, answer, answer_of, base, everywhere, moved, samples};
use crate::cli::Place;
use edgetune::adapter::{HeadChoice, Method, Request};
use edgetune::cut::Selection;
use edgetune::data::{Labels, Preprocessing};
use edgetune::delta::EncodingChoice;
use edgetune::graph::{Dim, Tensor};
use edgetune::train::artifact::{About, Adapter, Provenance, encode, payloads};
use edgetune::train::export;
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, Bundle, prepare};
use std::fs::create_dir_all;
use std::path::{Path, PathBuf};

/// A bundle's values as the delta that training would have written.
pub fn adapter_of(bundle: &Bundle, values: &[Vec<f32>]) -> Adapter {
    let labels = Labels::Values(ndarray::Array2::zeros((0, 1)));
    let (loss, preprocessing) = (Loss::MeanSquaredError, Preprocessing::Plain);
    let about = About {
        loss: &loss,
        preprocessing: &preprocessing,
        labels: &labels,
        train: &[],
        validation: None,
        test: None,
        provenance: Provenance::default(),
    };
    let payloads = payloads(values, EncodingChoice::Fp16).unwrap();
    Adapter::from_bytes(Path::new("a.edelta"), &encode(bundle, &payloads, &about).unwrap()).unwrap()
}

/// A folder as `active_adapter.py` takes it, and what is expected of it.
struct Exported {
    folder: PathBuf,
    output: String,
    /// The base's output; an appended head has none there.
    plain: Option<Vec<f32>>,
    active: Vec<f32>,
    adapter: Adapter,
}

impl Exported {
    fn new(folder: PathBuf, base: &Base, bundle: &Bundle, external: bool) -> Self {
        let adapter = adapter_of(bundle, &moved(bundle));
        export::onnx_adapter(&folder, base, &adapter, external).unwrap();
        let samples = samples(&base.graph);
        save(&folder.join("inputs.npz"), &samples);
        let output = bundle.tail_graph().value_name(bundle.tail_graph().outputs[0]).to_string();
        let plain = bundle.head.is_none().then(|| answer_of(&base.graph, &output, &samples));
        let active = answer(bundle, &adapter.values_for(bundle), &samples);
        Self { folder, output, plain, active, adapter }
    }

    fn compare(&self) {
        let what = self.folder.display().to_string();
        let plain = &load(&self.folder.join("plain.npz"))[&self.output];
        match &self.plain {
            Some(expected) => close(plain, expected, &format!("{what}, without the adapter")),
            None => assert!(plain.iter().all(|logit| *logit == 0.0), "{what}: {plain:?}"),
        }
        close(&load(&self.folder.join("active.npz"))[&self.output], &self.active, &what);
        let alike = plain.iter().zip(&self.active).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(!alike, "{what}: nothing is changed by it");
        let parameters = load(&self.folder.join("parameters.npz"));
        assert_eq!(parameters.len(), self.adapter.tensors.len(), "{what}");
        assert!(self.adapter.tensors.iter().all(|(name, _, values)| parameters[name] == *values), "{what}");
    }
}

/// Every method on every model: without the adapter the base's outputs, with it those of the adapter.
#[test]
fn the_wheel_activates_what_is_exported() {
    let Some(python) = python("the_wheel_activates_what_is_exported", &["onnxruntime", "numpy"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut exported = Vec::new();
    everywhere(&MODELS, &Request { seed: 5, ..Request::default() }, |base, bundle, what| {
        exported.push(Exported::new(folder.path().join(what), base, bundle, what.contains("lora")));
    });
    let method = Some(LORA);
    for (what, request) in [
        ("replaced", Request { method, width: Some(3), ..Request::default() }),
        ("appended", Request { method, width: Some(7), head: HeadChoice::Append, ..Request::default() }),
        ("whole", Request { selections: &[Selection::Last(2)], width: Some(9), ..Request::default() }),
    ] {
        let base = base("encoder_torchscript.onnx");
        let bundle = prepare(&base, &request, folder.path()).unwrap();
        exported.push(Exported::new(folder.path().join(what), &base, &bundle, false));
    }
    python::run(python, "active_adapter.py", folder.path());
    exported.iter().for_each(Exported::compare);
}

/// A head of another width leaves it open; without the adapter it is the base's.
#[test]
fn the_model_is_the_base_where_nothing_is_fed() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base("mobilenet_bn.onnx");
    let request = Request { method: Some(LORA), width: Some(3), ..Request::default() };
    let bundle = prepare(&base, &request, scratch.path()).unwrap();
    let graph = export::with_optional_inputs(&base, &adapter_of(&bundle, &moved(&bundle))).unwrap();
    assert_eq!(graph.ty(graph.outputs[0]).unwrap().shape.as_ref().unwrap()[1], Dim::Unknown);
    let samples = samples(&base.graph);
    let of_base = answer_of(&base.graph, &bundle.output, &samples);
    close(&answer_of(&graph, &bundle.output, &samples), &of_base, "without the adapter");
}

/// One file for adapters of all ranks: with the factors of rank 8 the model that was written for rank 2 gives rank 8's answer.
#[test]
fn a_model_takes_adapters_of_other_ranks() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["mobilenet_bn.onnx", "encoder_dynamo.onnx"] {
        let base = base(name);
        let of_rank = |rank: u32| {
            let method = Method { rank, alpha: 2.0 * rank as f32, ..LORA };
            let request = Request { method: Some(method), ..Request::default() };
            prepare(&base, &request, scratch.path()).unwrap()
        };
        let [small, large] = [of_rank(2), of_rank(8)].map(|bundle| adapter_of(&bundle, &moved(&bundle)));
        let with_large = |written_for: &Adapter| {
            let mut graph = export::with_optional_inputs(&base, written_for).unwrap();
            for (name, shape, values) in &large.tensors {
                let id = graph.find(name).unwrap();
                graph.inputs.retain(|input| *input != id);
                graph.initializers.insert(id, Tensor::from_f32(shape, values));
            }
            answer_of(&graph, graph.value_name(graph.outputs[0]), &samples(&base.graph))
        };
        let (found, expected) = (with_large(&small), with_large(&large));
        let of_base = answer_of(&base.graph, base.graph.value_name(base.graph.outputs[0]), &samples(&base.graph));
        close(&found, &expected, name);
        assert!(
            found.iter().zip(&of_base).any(|(one, other)| (one - other).abs() > 1e-3),
            "{name}: nothing is changed"
        );
    }
}

/// From the command line: two adapters of one recipe use one model.
#[test]
fn adapters_of_one_recipe_share_a_model() {
    let place = Place::with_table(3, "label", |row| if row[0] > row[1] { "a".into() } else { "b".into() });
    for (name, epochs) in [("a", 1), ("b", 4)] {
        let options = format!("--adapter lora --epochs {epochs} --batch 8 --val-fraction 0 --out {name}.edelta");
        place.run(&format!("train base.onnx --data table.csv {options}")).done();
        let export = format!("export --adapter {name}.edelta --to onnx-adapter --out {name}");
        place.run(&format!("{export} --model base.onnx")).done();
        assert_eq!(place.run(&export).code, Some(2), "the model was not named");
    }
    assert_eq!(place.read("a/model.onnx"), place.read("b/model.onnx"));
    assert_ne!(place.read("a/adapter.onnx_adapter"), place.read("b/adapter.onnx_adapter"));
    let (a, b) = (std::fs::read_dir(place.path("a")).unwrap().count(), place.read("a/adapter.onnx_adapter"));
    assert_eq!((a, &b[4..8]), (2, &b"TORT"[..]));
    create_dir_all(place.path("other")).unwrap();
    place.link("tests/goldens/training/mobilenet_bn.onnx", "other/base.onnx");
    let other = "export --adapter a.edelta --model other/base.onnx --to onnx-adapter --out x";
    place.run(other).fails(&["a.edelta", "other/base.onnx"]);
    assert!(!place.path("x").exists());
}
