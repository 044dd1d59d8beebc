//! Names of nodes and domains, and names in sub-graphs and function bodies: which are bound inside, which are free, renaming all of
//! them at once.

use super::proto::{GraphProto, NodeProto};
use std::collections::{HashMap, HashSet};

/// `ai.onnx` has two spellings; the empty one is used.
pub fn plain_domain(domain: Option<&str>) -> &str {
    domain.filter(|domain| *domain != "ai.onnx").unwrap_or_default()
}

/// The file's name for a node, or `Op_index`.
pub fn node_name(node: &NodeProto, index: usize) -> String {
    let given = node.name.as_deref().filter(|name| !name.is_empty()).map(String::from);
    given.unwrap_or_else(|| format!("{}_{index}", node.op_type.as_deref().unwrap_or_default()))
}

/// Hands out names, each once: one that is taken gets a number appended.
#[derive(Default)]
pub struct Unique {
    /// The last number tried for each name, so that a thousand equal names do not try a million.
    taken: HashMap<String, usize>,
}

impl Unique {
    /// Takes a name as it is.
    pub fn reserve(&mut self, name: &str) {
        self.taken.entry(name.into()).or_default();
    }

    /// `name`, or `name_1`, `name_2` … where it is taken.
    pub fn take(&mut self, name: String) -> String {
        let mut unique = name.clone();
        while self.taken.contains_key(&unique) {
            let number = self.taken.entry(name.clone()).or_default();
            *number += 1;
            unique = format!("{name}_{number}");
        }
        self.taken.insert(unique.clone(), 0);
        unique
    }
}

/// The sub-graphs of a node's attributes.
pub fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().filter_map(|attribute| attribute.g.as_deref())
}

/// The sub-graphs of a node's attributes, to be changed.
pub fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_deref_mut())
}

/// The names that a graph itself defines: inputs, initializers and what its nodes write; not those of its sub-graphs.
pub fn bound(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let inputs = graph.input.iter().filter_map(|value| value.name.as_deref());
    let constants = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref());
    let written = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    inputs.chain(constants).chain(written).filter(|name| !name.is_empty())
}

/// Calls `each` with every name that a graph or one of its sub-graphs defines.
pub fn each_bound<'g>(graph: &'g GraphProto, each: &mut impl FnMut(&'g str)) {
    bound(graph).for_each(&mut *each);
    for inner in graph.node.iter().flat_map(subgraphs) {
        each_bound(inner, each);
    }
}

/// The names that a sub-graph takes from around it, its own sub-graphs included, in the order of first use.
pub fn free(graph: &GraphProto) -> Vec<&str> {
    let mut found = Vec::new();
    collect_free(graph, &mut Vec::new(), &mut found, &mut HashSet::new());
    found
}

fn collect_free<'g>(
    graph: &'g GraphProto,
    scopes: &mut Vec<HashSet<&'g str>>,
    found: &mut Vec<&'g str>,
    known: &mut HashSet<&'g str>,
) {
    scopes.push(bound(graph).collect());
    let mut refer = |name: &'g str, scopes: &[HashSet<&str>]| {
        if !name.is_empty() && !scopes.iter().any(|scope| scope.contains(name)) && known.insert(name) {
            found.push(name);
        }
    };
    for node in &graph.node {
        node.input.iter().for_each(|name| refer(name, scopes));
    }
    for name in graph.output.iter().filter_map(|value| value.name.as_deref()) {
        refer(name, scopes);
    }
    for inner in graph.node.iter().flat_map(subgraphs) {
        collect_free(inner, scopes, found, known);
    }
    scopes.pop();
}

/// Replaces every value name in a node and its sub-graphs. Omitted (empty) names stay.
pub fn rename_node(node: &mut NodeProto, new: &mut impl FnMut(&str) -> String) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        rename(name, new);
    }
    for inner in subgraphs_mut(node) {
        rename_graph(inner, new);
    }
}

/// Replaces every value name in a graph and its sub-graphs. Types of inner values are dropped: nobody needs them.
pub fn rename_graph(graph: &mut GraphProto, new: &mut impl FnMut(&str) -> String) {
    graph.value_info.clear();
    let ends = graph.input.iter_mut().chain(&mut graph.output).filter_map(|value| value.name.as_mut());
    for name in ends.chain(graph.initializer.iter_mut().filter_map(|tensor| tensor.name.as_mut())) {
        rename(name, new);
    }
    for node in &mut graph.node {
        rename_node(node, new);
    }
}

fn rename(name: &mut String, new: &mut impl FnMut(&str) -> String) {
    if !name.is_empty() {
        *name = new(name);
    }
}
