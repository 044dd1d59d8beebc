//! Inlining of local functions (`ModelProto.functions`), which torch's dynamo exporter writes: a call is replaced by the
//! function's nodes, in sub-graphs too, until none is left.

use super::Error;
use super::names::{each_bound, rename_node, subgraphs_mut};
use super::proto::{AttributeProto, FunctionProto, ModelProto, NodeProto};
use super::read::plain_domain;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Calls and sub-graphs inside each other; a deeper nesting is a hostile file.
const DEPTH_MAX: usize = 64;
/// Nodes that inlining may add; a few functions that call each other twice would otherwise give 2ⁿ.
const NODES_MAX: usize = 1 << 20;
/// Encoded bytes that inlining may add, for bodies of few but large nodes.
const BYTES_MAX: usize = 1 << 30;

/// Domain, name and overload: what a call is matched by.
type Key = (String, String, String);

struct Inliner {
    functions: HashMap<Key, Rc<FunctionProto>>,
    /// Names of values anywhere in the model: a value of a body gets a name that is not among them.
    taken: HashSet<String>,
    opsets: HashMap<String, i64>,
    nodes_left: usize,
    bytes_left: usize,
}

/// Replaces all calls of local functions in the model's graph and takes the functions out of the model. Operator sets
/// that only functions import are added to the model's.
///
/// # Errors
/// [`Error::Function`]: recursion, too many arguments, another operator set than the model's, growth without bounds.
pub fn inline(model: &mut ModelProto) -> Result<(), Error> {
    let Some(graph) = model.graph.as_mut().filter(|_| !model.functions.is_empty()) else {
        return Ok(());
    };
    let mut taken = HashSet::new();
    each_bound(graph, &mut |name| {
        taken.insert(name.to_string());
    });
    let functions = model.functions.drain(..).map(|function| (key_of_function(&function), Rc::new(function)));
    let opset = |import: &super::proto::OperatorSetIdProto| {
        (plain_domain(import.domain.as_deref()).to_string(), import.version.unwrap_or_default())
    };
    let mut inliner = Inliner {
        functions: functions.collect(),
        taken,
        opsets: model.opset_import.iter().map(opset).collect(),
        nodes_left: NODES_MAX,
        bytes_left: BYTES_MAX,
    };
    graph.node = inliner.expand(std::mem::take(&mut graph.node), &mut Vec::new(), 0)?;
    model.opset_import = inliner
        .opsets
        .into_iter()
        .map(|(domain, version)| super::proto::OperatorSetIdProto { domain: Some(domain), version: Some(version) })
        .collect();
    Ok(())
}

fn key_of_function(function: &FunctionProto) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (plain_domain(function.domain.as_deref()).into(), text(&function.name), text(&function.overload))
}

fn key_of_call(node: &NodeProto) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (plain_domain(node.domain.as_deref()).into(), text(&node.op_type), text(&node.overload))
}

fn wrong(key: &Key, problem: impl Into<String>) -> Error {
    Error::Function { function: format!("{}::{}", key.0, key.1), problem: problem.into() }
}

impl Inliner {
    /// `active`: the functions whose bodies these nodes are part of, outermost first.
    fn expand(&mut self, nodes: Vec<NodeProto>, active: &mut Vec<Key>, depth: usize) -> Result<Vec<NodeProto>, Error> {
        let mut expanded = Vec::with_capacity(nodes.len());
        for (index, mut node) in nodes.into_iter().enumerate() {
            let key = key_of_call(&node);
            let function = self.functions.get(&key).cloned();
            if depth >= DEPTH_MAX {
                return Err(wrong(&key, format!("calls and sub-graphs are nested more than {DEPTH_MAX} deep")));
            }
            let Some(function) = function else {
                for inner in subgraphs_mut(&mut node) {
                    inner.node = self.expand(std::mem::take(&mut inner.node), active, depth + 1)?;
                }
                expanded.push(node);
                continue;
            };
            if active.contains(&key) {
                return Err(wrong(&key, "calls itself"));
            }
            self.adopt_opsets(&function, &key)?;
            let body = self.instantiate(&function, &node, &key, index)?;
            active.push(key);
            expanded.extend(self.expand(body, active, depth + 1)?);
            active.pop();
        }
        Ok(expanded)
    }

    /// A body's nodes mean what the operator set that the function imports says; the model can have only one of each.
    fn adopt_opsets(&mut self, function: &FunctionProto, key: &Key) -> Result<(), Error> {
        for import in &function.opset_import {
            let domain = plain_domain(import.domain.as_deref());
            let version = import.version.unwrap_or_default();
            let of_functions = self.functions.keys().any(|key| key.0 == domain) && !domain.is_empty();
            match self.opsets.get(domain) {
                None => {
                    self.opsets.insert(domain.into(), version);
                }
                Some(known) if *known != version && !of_functions => {
                    let problem = format!("is written for operator set `{domain}` {version}, the model for {known}");
                    return Err(wrong(key, problem));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The function's nodes with arguments, attributes and new names put in.
    fn instantiate(
        &mut self,
        function: &FunctionProto,
        call: &NodeProto,
        key: &Key,
        index: usize,
    ) -> Result<Vec<NodeProto>, Error> {
        if call.input.len() > function.input.len() || call.output.len() > function.output.len() {
            return Err(wrong(key, "is called with more inputs or outputs than it has"));
        }
        self.charge(function, key)?;
        let named = call.name.as_deref().filter(|name| !name.is_empty());
        let prefix = named.map_or_else(|| format!("{}_{index}", key.1), String::from);
        let argument = |position: usize| call.input.get(position).cloned().unwrap_or_default();
        let mut names: HashMap<String, String> =
            function.input.iter().enumerate().map(|(position, formal)| (formal.clone(), argument(position))).collect();
        let mut nodes = Vec::with_capacity(function.node.len());
        for (formal, actual) in function.output.iter().zip(&call.output).filter(|(_, actual)| !actual.is_empty()) {
            match names.get(formal) {
                None => {
                    names.insert(formal.clone(), actual.clone());
                }
                // An output that is an input of the function, or is listed twice.
                Some(known) => nodes.push(NodeProto {
                    name: Some(format!("{prefix}/{formal}")),
                    op_type: Some("Identity".into()),
                    input: vec![known.clone()],
                    output: vec![actual.clone()],
                    ..NodeProto::default()
                }),
            }
        }
        let attributes = Attributes { given: &call.attribute, defaults: &function.attribute_proto };
        for (index, node) in function.node.iter().enumerate() {
            let mut node = node.clone();
            attributes.put_into(&mut node);
            let own = node.name.as_deref().filter(|name| !name.is_empty()).map(String::from);
            let own = own.unwrap_or_else(|| format!("{}_{index}", node.op_type.as_deref().unwrap_or_default()));
            node.name = Some(format!("{prefix}/{own}"));
            rename_node(&mut node, &mut |name| {
                let known = names.get(name).cloned();
                known.unwrap_or_else(|| {
                    let new = self.fresh(format!("{prefix}/{name}"));
                    names.insert(name.into(), new.clone());
                    new
                })
            });
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn charge(&mut self, function: &FunctionProto, key: &Key) -> Result<(), Error> {
        let left = self.nodes_left.checked_sub(function.node.len() + 1);
        let bytes: usize = function.node.iter().map(NodeProto::encoded_len).sum();
        let (Some(nodes_left), Some(bytes_left)) = (left, self.bytes_left.checked_sub(bytes)) else {
            return Err(wrong(key, "its calls inlined are too large"));
        };
        (self.nodes_left, self.bytes_left) = (nodes_left, bytes_left);
        Ok(())
    }

    fn fresh(&mut self, name: String) -> String {
        let mut unique = name.clone();
        let mut suffix = 1;
        while !self.taken.insert(unique.clone()) {
            unique = format!("{name}_{suffix}");
            suffix += 1;
        }
        unique
    }
}

/// What `ref_attr_name` refers to in one call.
struct Attributes<'c> {
    given: &'c [AttributeProto],
    defaults: &'c [AttributeProto],
}

impl Attributes<'_> {
    /// Replaces references by the call's attributes, else by the function's defaults; one that has neither is left out,
    /// so that the operator's own default holds.
    fn put_into(&self, node: &mut NodeProto) {
        node.attribute = std::mem::take(&mut node.attribute)
            .into_iter()
            .filter_map(|attribute| match attribute.ref_attr_name.as_deref() {
                None | Some("") => Some(attribute),
                Some(referred) => {
                    let is_it = |candidate: &&AttributeProto| candidate.name.as_deref() == Some(referred);
                    let found = self.given.iter().find(is_it).or_else(|| self.defaults.iter().find(is_it));
                    found.map(|found| AttributeProto { name: attribute.name, ..found.clone() })
                }
            })
            .collect();
        for inner in subgraphs_mut(node) {
            for node in &mut inner.node {
                self.put_into(node);
            }
        }
    }
}
