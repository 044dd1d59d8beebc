//! The module that a node was written for, which torch's default exporter tells in the node's metadata alone.
//!
//! The entry `pkg.torch.onnx.name_scopes` is a list as Python prints it: the paths of the modules around the node, from the whole
//! model inwards, and last the node's own name (`torch/onnx/_internal/exporter/_core.py`, `_get_node_namespace`):
//! `['', 'model', 'model.layers.0', 'model.layers.0.mlp', 'linear_3']`.

use super::proto::{NodeEntryProto, NodeProto};
use crate::graph::Node;

const SCOPES: &[u8] = b"pkg.torch.onnx.name_scopes";

/// The innermost module's path; empty where the file tells none.
pub fn read(node: &NodeProto) -> String {
    let value = node.metadata_props.iter().find(|entry| is_scopes(entry)).and_then(|entry| entry.value.as_deref());
    value.and_then(|value| std::str::from_utf8(value).ok()).and_then(innermost).unwrap_or_default()
}

/// The entry from which [`read`] gives the node's module again; none where it has none.
pub fn write(node: &Node) -> Option<NodeEntryProto> {
    let plain = !node.module.is_empty() && !node.module.contains(['\'', '\\']);
    // Of the node's own name nothing is read.
    let scopes = plain.then(|| format!("['', '{}', '{}']", node.module, node.op.to_lowercase()));
    scopes.map(|scopes| NodeEntryProto { key: Some(SCOPES.into()), value: Some(scopes.into_bytes().into()) })
}

/// Takes all other metadata from a node.
pub fn keep_alone(node: &mut NodeProto) {
    node.metadata_props.retain(is_scopes);
}

fn is_scopes(entry: &NodeEntryProto) -> bool {
    entry.key.as_deref() == Some(SCOPES)
}

/// The last entry but one of a list of quoted texts, without the number (`@1`) that tells a module's second call from its first.
fn innermost(scopes: &str) -> Option<String> {
    let listed = scopes.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut entries = listed.rsplit(", ").map(|entry| entry.trim_matches(['\'', '"']));
    let path = entries.nth(1)?;
    Some(path.split('.').map(|part| part.split_once('@').map_or(part, |(part, _)| part)).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_module_is_the_last_entry_but_one() {
        for (scopes, module) in [
            (
                "['', 'model', 'model.layers.0.self_attn', 'model.layers.0.self_attn.q_proj', 'linear']",
                "model.layers.0.self_attn.q_proj",
            ),
            ("['', 'fc', 'linear']", "fc"),
            ("['', 'linear']", ""),
            ("['', 'layer', 'layer@1.fc', 'linear_1']", "layer.fc"),
            ("[\"\", \"fc\", \"linear\"]", "fc"),
        ] {
            assert_eq!(innermost(scopes).as_deref(), Some(module), "{scopes}");
        }
        for scopes in ["", "[]", "['linear']", "fc"] {
            assert_eq!(innermost(scopes), None, "{scopes}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = |module: &str| {
            let node = Node { module: module.into(), op: "MatMul".into(), ..Node::default() };
            read(&NodeProto { metadata_props: write(&node).into_iter().collect(), ..NodeProto::default() })
        };
        assert_eq!(written("model.layers.0.fc"), "model.layers.0.fc");
        assert_eq!(written(""), "");
    }
}
