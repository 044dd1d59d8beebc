//! `export --to onnx`: every output of the written file against the base with the adapter beside it.

use super::arrays::close;
use super::onnx_runtime::adapter_of;
use crate::adapter::{LORA, moved};
use crate::cli::project;
use crate::engine::runtime;
use edgetune::adapter::Request;
use edgetune::cut::Selection;
use edgetune::engine::{Options, Session};
use edgetune::graph::{DType, Dim, Graph, Tensor};
use edgetune::train::artifact::Adapter;
use edgetune::train::export;
use edgetune::train::prepare::{Base, prepare};
use std::collections::HashMap;

/// Two samples; of a language model four tokens each, after three that its cache holds.
fn samples(graph: &Graph) -> Vec<(String, Tensor)> {
    let mut random = fastrand::Rng::with_seed(8);
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Named(name) => {
            [("sequence", 4), ("past", 3), ("total", 7)].iter().find(|(n, _)| n == name).map_or(2, |(_, size)| *size)
        }
        Dim::Unknown => 2,
    };
    let mut made = Vec::new();
    for id in &graph.inputs {
        let (name, ty) = (graph.value_name(*id), graph.ty(*id).unwrap());
        let shape: Vec<u64> = ty.shape.as_ref().unwrap().iter().map(size).collect();
        let count = shape.iter().product::<u64>();
        let tensor = match (ty.dtype, name) {
            (DType::Int64, "attention_mask") => Tensor::from_vec(&shape, vec![1i64; count as usize]),
            (DType::Int64, "position_ids") => Tensor::from_vec(&shape, (0..count as i64).map(|n| 3 + n % 4).collect()),
            (DType::Int64, _) => Tensor::from_vec(&shape, (0..count).map(|_| random.i64(0..300)).collect()),
            _ => Tensor::from_vec(&shape, (0..count).map(|_| random.f32() - 0.5).collect()),
        };
        made.push((name.to_string(), tensor));
    }
    made
}

fn outputs(mut session: Session, samples: &[(String, Tensor)]) -> HashMap<String, Vec<f32>> {
    let fed: Vec<(&str, &Tensor)> = samples.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let values = session.run(&fed).unwrap_or_else(|error| panic!("{error}"));
    let names = session.outputs().iter().map(|(name, _)| name.clone());
    names.zip(values).map(|(name, tensor)| (name, tensor.to_f32().unwrap())).collect()
}

/// The base with the adapter beside it, as constants.
fn beside(base: &Base, adapter: &Adapter) -> Graph {
    let mut graph = export::with_optional_inputs(base, adapter).unwrap();
    for (name, shape, values) in &adapter.tensors {
        let id = graph.find(name).unwrap();
        graph.inputs.retain(|input| *input != id);
        graph.initializers.insert(id, Tensor::from_f32(shape, values));
    }
    graph
}

#[test]
fn every_output_is_the_adapters() {
    runtime();
    let folder = tempfile::tempdir().unwrap();
    let head = Request { selections: &[Selection::Head], width: Some(10), ..Request::default() };
    let tail = Request { selections: &[Selection::Last(3)], width: Some(10), ..Request::default() };
    let lora = Request { method: Some(LORA), ..Request::default() };
    let both = Request { method: Some(LORA), width: Some(10), ..Request::default() };
    let decoder = "tests/goldens/language/decoder_cache.onnx";
    let demo = "models/efficientnet_lite0/model.onnx";
    for (model, request, count) in [
        (demo, head, 1),
        (demo, tail, 1),
        (demo, both, 1),
        (decoder, lora.clone(), 5),
        ("tests/goldens/families/yolo.onnx", lora, 1),
    ] {
        let base = Base::read(&project(model)).unwrap();
        let bundle = prepare(&base, &request, folder.path()).unwrap();
        let adapter = adapter_of(&bundle, &moved(&bundle));
        let path = folder.path().join("merged.onnx");
        export::model(&path, &export::merged(&base, &adapter).unwrap(), request.width.is_none()).unwrap();
        let samples = samples(&base.graph);
        let expected = outputs(Session::from_graph(&beside(&base, &adapter), &Options::default()).unwrap(), &samples);
        let found = outputs(Session::from_file(&path, &Options::default()).unwrap(), &samples);
        let of_base = outputs(Session::from_graph(&base.graph, &Options::default()).unwrap(), &samples);
        assert_eq!((expected.len(), found.len()), (count, count), "{model}");
        for (name, expected) in &expected {
            close(&found[name], expected, &format!("{model}, {name}"));
            let of_base = &of_base[name];
            let moved =
                of_base.len() != expected.len() || of_base.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-3);
            assert!(moved, "{model}, {name}: nothing is changed by it");
        }
    }
}
