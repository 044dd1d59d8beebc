//! Graph → model bytes.

use super::declared::declared;
use super::proto::{
    DATA_LOCATION_EXTERNAL, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};
use super::weights::EMBEDDED_BYTES_MAX;
use super::{Weights, node, tensor};
use crate::graph::{Graph, Tensor};
use prost::Message;
use std::collections::BTreeMap;

/// The graph as the bytes of an ONNX model. Only inputs and outputs are declared with their types; an output of unknown
/// type is declared without one, which ONNX Runtime fills in.
///
/// With [`Weights::Embedded`] the result must stay below protobuf's 2 GiB to be readable; larger models need a weights
/// file.
pub fn encode(graph: &Graph, weights: &Weights) -> Vec<u8> {
    encode_described(graph, weights, &BTreeMap::new())
}

/// As [`encode`], with what the file is to tell of the model besides: `metadata_props`.
pub fn encode_described(graph: &Graph, weights: &Weights, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let import = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    let domains = graph.domains.iter().map(|(domain, version)| import(domain, *version));
    let model = ModelProto {
        ir_version: Some(ir_version(graph.opset)),
        producer_name: Some("edgetune".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(GraphProto {
            name: Some(if graph.name.is_empty() { "graph".into() } else { graph.name.clone() }),
            node: graph.nodes.iter().map(|node| node::write(graph, node)).collect(),
            initializer: initializers(graph, weights),
            input: graph.inputs.iter().map(|id| declared(graph, *id)).collect(),
            output: graph.outputs.iter().map(|id| declared(graph, *id)).collect(),
            ..GraphProto::default()
        }),
        metadata_props: metadata.iter().map(|(key, value)| entry(key, value.clone())).collect(),
        opset_import: std::iter::once(import("", graph.opset)).chain(domains).collect(),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// The oldest file format that belongs to the operator set, so that old runtimes read the file (table "Released
/// Versions" of ONNX's `docs/Versioning.md`). From 10 on a newer one adds nothing that is written here, and runtimes
/// that know the operator set refuse it: PyTorch's exporter stays at 10 for the same reason.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        _ => 10,
    }
}

fn initializers(graph: &Graph, weights: &Weights) -> Vec<TensorProto> {
    let named = || graph.initializers.iter().map(|(id, tensor)| (graph.value_name(*id), tensor));
    let Weights::External(file) = weights else {
        return named().map(|(name, tensor)| tensor::embedded(name, tensor)).collect();
    };
    // A tensor that was exchanged for one of another size since the file was written is not in the file.
    let place = |name: &str, tensor: &Tensor| {
        file.tensors.get(name).filter(|place| place.end - place.start == tensor.data.len() as u64).map(|at| at.start)
    };
    // Where in memory the bytes lie that the file has, so that a part of them under another name and type is found.
    let mut known: Vec<(usize, usize, u64)> = named()
        .filter_map(|(name, tensor)| Some((tensor.data.as_ptr().addr(), tensor.data.len(), place(name, tensor)?)))
        .collect();
    known.sort_unstable();
    let part = |tensor: &Tensor| {
        let (address, length) = (tensor.data.as_ptr().addr(), tensor.data.len());
        let below = known.partition_point(|(start, ..)| *start <= address);
        let (start, whole, place) = *known.get(below.checked_sub(1)?)?;
        let large = length >= EMBEDDED_BYTES_MAX;
        (large && address + length <= start + whole).then(|| place + (address - start) as u64)
    };
    named()
        .map(|(name, tensor)| match place(name, tensor).or_else(|| part(tensor)) {
            Some(start) => external(name, tensor, &file.file, start),
            None => tensor::embedded(name, tensor),
        })
        .collect()
}

/// A tensor whose bytes begin at `start` of a file.
fn external(name: &str, tensor: &Tensor, file: &str, start: u64) -> TensorProto {
    TensorProto {
        data_location: Some(DATA_LOCATION_EXTERNAL),
        external_data: vec![
            entry("location", file.into()),
            entry("offset", start.to_string()),
            entry("length", tensor.data.len().to_string()),
        ],
        ..tensor::header(name, tensor)
    }
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.into()), value: Some(value) }
}
