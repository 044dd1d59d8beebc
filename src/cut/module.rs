//! The path of the module that a layer is in the program that the model was exported from: one rule for all exporters, by which
//! patterns, the setting `adapter.targets` and adapters of other programs find layers.

use super::{Layer, glob, uses, weight_name};
use crate::graph::{Graph, Node, ValueId};
use std::collections::HashSet;

/// The path of each layer's module, which several layers may have: one module is used at several places.
pub fn paths(graph: &Graph, layers: &[Layer]) -> Vec<String> {
    layers.iter().map(|layer| of_layer(graph, layer)).collect()
}

/// The module of each layer; each once, a second layer of a module with a number behind its path.
pub fn modules(graph: &Graph, layers: &[Layer]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut modules = vec![String::new(); layers.len()];
    let product = |layer: &Layer| {
        matches!(graph.nodes[layer.node].op.as_str(), "MatMul" | "Gemm" | "Conv") || layer.packed.is_some()
    };
    // Layers that a method can be put on keep their path where a table of embeddings has the same.
    for products in [true, false] {
        for (module, layer) in modules.iter_mut().zip(layers).filter(|(_, layer)| product(layer) == products) {
            let path = of_layer(graph, layer);
            let mut unique = path.clone();
            let mut number = 2;
            while !taken.insert(unique.clone()) {
                unique = format!("{path}_{number}");
                number += 1;
            }
            *module = unique;
        }
    }
    modules
}

/// Tensors that layers of several modules read, with the paths of those: exporters unite tensors that are equal, and models use one for
/// several layers. What learns such a tensor changes all of them.
pub fn united(graph: &Graph, output: ValueId) -> Vec<(ValueId, Vec<String>)> {
    let layers = uses(graph, output);
    let mut found: Vec<(ValueId, Vec<String>)> = Vec::new();
    for (layer, path) in layers.iter().zip(paths(graph, &layers)) {
        for id in layer.weights.iter().copied().chain(layer.packed.map(|packed| packed.weight)) {
            match found.iter_mut().find(|(known, _)| *known == id) {
                Some((_, paths)) if paths.contains(&path) => {}
                Some((_, paths)) => paths.push(path.clone()),
                None => found.push((id, vec![path.clone()])),
            }
        }
    }
    found.retain(|(_, paths)| paths.len() > 1);
    found
}

/// Whether a pattern names a module: as a whole, by the last parts of its path, or by `*` and `?`.
pub fn names_module(pattern: &str, module: &str) -> bool {
    match pattern.contains(['*', '?']) {
        true => glob(pattern, module),
        false => module.strip_suffix(pattern).is_some_and(|before| before.is_empty() || before.ends_with('.')),
    }
}

fn of_layer(graph: &Graph, layer: &Layer) -> String {
    let node = &graph.nodes[layer.packed.map_or(layer.node, |packed| packed.node)];
    let bias = layer.weights.iter().filter_map(|id| graph.value_name(*id).strip_suffix(".bias")).next_back();
    let weight = layer.packed.map(|packed| packed.weight).or(layer.weights.first().copied());
    module_name(weight.map_or("", |id| weight_name(graph, id)), bias, node)
}

/// The module's path, from what tells most: the name of the weight without `.weight`; the bias's, where an exporter has
/// numbered the weight (`onnx::MatMul_12`, `val_3`); the module in the node's metadata, or the path in its name
/// (`/encoder/layer.0/query/MatMul`); at last the weight's name as it is, or the node's.
///
/// Exporters unite tensors that are equal, and models use one for several layers: where the metadata name a module that the
/// tensor is not part of, they say which.
fn module_name(weight: &str, bias: Option<&str>, node: &Node) -> String {
    let numbered = ["onnx::", "val_", "_val_"].iter().any(|prefix| weight.starts_with(prefix));
    let is_within = |path: &str| {
        let below = path.strip_prefix(node.module.as_str());
        below.is_some_and(|below| node.module.is_empty() || below.is_empty() || below.starts_with('.'))
    };
    // onnxruntime-genai names the product as well.
    let own = weight.strip_suffix(".weight").map(|path| path.strip_suffix(".MatMul").unwrap_or(path));
    let named = if numbered { bias } else { own };
    if let Some(path) = named.filter(|path| is_within(path)) {
        return path.into();
    }
    let path = if node.module.is_empty() { path_of(&node.name) } else { Some(node.module.clone()) };
    match path {
        Some(path) => path,
        None if !numbered => weight.into(),
        None => node.name.trim_matches('/').replace('/', "."),
    }
}

/// The path in a node's name. torch's older exporter repeats a container's path in that of its members:
/// `/features/features.0/features.0.1/Conv`.
fn path_of(node: &str) -> Option<String> {
    let mut parts: Vec<&str> = node.strip_prefix('/')?.split('/').filter(|part| !part.is_empty()).collect();
    parts.pop();
    let mut path: Vec<&str> = Vec::with_capacity(parts.len());
    for part in parts {
        let repeated = |outer: &&str| part.strip_prefix(outer).is_some_and(|inner| inner.starts_with('.'));
        if path.last().is_some_and(repeated) {
            path.pop();
        }
        path.push(part);
    }
    (!path.is_empty()).then(|| path.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(weight: &str, bias: Option<&str>, name: &str, module: &str) -> String {
        module_name(weight, bias, &Node { name: name.into(), module: module.into(), ..Node::default() })
    }

    #[test]
    fn modules_are_named_as_pytorch_names_them() {
        for (weight, node, scope, name) in [
            ("encoder.0.query.weight", "/encoder.0/query/MatMul", "", "encoder.0.query"),
            ("onnx::MatMul_12", "/encoder/layer.0/query/MatMul", "", "encoder.layer.0.query"),
            ("onnx::Conv_12", "/features/features.0/features.0.1/Conv", "", "features.0.1"),
            ("onnx::Conv_12", "/layer1/layer1.0/conv1/Conv", "", "layer1.0.conv1"),
            ("onnx::Conv_12", "/layer1/layer10/conv1/Conv", "", "layer1.layer10.conv1"),
            ("val_3", "node_linear_7", "", "node_linear_7"),
            ("val_3", "node_MatMul_7", "model.layers.0.q_proj", "model.layers.0.q_proj"),
            ("attn.out_proj.weight", "node_linear_7", "attn", "attn.out_proj"),
            ("embed.weight", "node_MatMul_9", "lm_head", "lm_head"),
            ("embedding.weight", "node_MatMul_9", "embed", "embed"),
            (
                "model.layers.0.attn.q_proj.MatMul.weight",
                "/model/layers.0/attn/q_proj/MatMul",
                "",
                "model.layers.0.attn.q_proj",
            ),
            ("model.layers.0.q_proj.MatMul.weight_Q4", "/model/layers.0/q_proj/MatMul_Q4", "", "model.layers.0.q_proj"),
            ("W", "dense", "", "W"),
            ("w/ReadVariableOp:0", "model/dense/MatMul", "", "w/ReadVariableOp:0"),
        ] {
            assert_eq!(module(weight, None, node, scope), name);
        }
        assert_eq!(module("val_3", Some("encoder.0.query"), "node_MatMul_7", ""), "encoder.0.query");
        assert_eq!(module("val_3", Some("encoder.0.key"), "node_MatMul_7", "encoder.0.query"), "encoder.0.query");
    }

    #[test]
    fn a_module_is_named_by_its_last_parts() {
        for (pattern, module) in
            [("q_proj", "layers.0.q_proj"), ("0.q_proj", "layers.0.q_proj"), ("a", "a"), ("*.q_*", "layers.0.q_proj")]
        {
            assert!(names_module(pattern, module), "{pattern} {module}");
        }
        for (pattern, module) in
            [("proj", "layers.0.q_proj"), ("layers", "layers.0.q_proj"), ("", "a"), ("q_*", "layers.0.q_proj")]
        {
            assert!(!names_module(pattern, module), "{pattern} {module}");
        }
    }
}
