//! Inlining of local functions (`ModelProto.functions`), which torch's dynamo exporter writes: a call is replaced by the
//! function's nodes, in sub-graphs too, until none is left.

use super::Error;
use super::names::{Unique, each_bound, node_name, plain_domain, rename_node, subgraphs_mut};
use super::proto::{AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};
use super::scope;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Calls and sub-graphs inside each other; a deeper nesting is a hostile file.
const DEPTH_MAX: usize = 64;
/// Nodes that inlining may add; a few functions that call each other twice would otherwise give 2ⁿ.
const NODES_MAX: usize = 1 << 17;
/// Bytes of nodes, attributes and names that inlining may add, for bodies of few but large nodes.
const BYTES_MAX: usize = 1 << 26;

/// Domain, name and overload: what a call is matched by.
type Key = (String, String, String);

struct Inliner {
    functions: HashMap<Key, Rc<FunctionProto>>,
    /// Domains that consist of functions; their version numbers say nothing.
    domains: HashSet<String>,
    /// Names of values anywhere in the model: a value of a body gets a name that is not among them.
    names: Unique,
    opsets: HashMap<String, i64>,
    budget: Budget,
}

/// What inlining may still add.
struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Budget {
    /// Whether that many bytes were left; if not, none are left now.
    fn spend(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or_default();
        left.is_some()
    }
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
    let mut names = Unique::default();
    each_bound(graph, &mut |name| names.reserve(name));
    let functions: HashMap<Key, Rc<FunctionProto>> =
        model.functions.drain(..).map(|function| (key_of_function(&function), Rc::new(function))).collect();
    let opset = |import: &OperatorSetIdProto| {
        (plain_domain(import.domain.as_deref()).to_string(), import.version.unwrap_or_default())
    };
    let mut inliner = Inliner {
        domains: functions.keys().map(|key| key.0.clone()).filter(|domain| !domain.is_empty()).collect(),
        functions,
        names,
        opsets: model.opset_import.iter().map(opset).collect(),
        budget: Budget { nodes: NODES_MAX, bytes: BYTES_MAX },
    };
    graph.node = inliner.expand(std::mem::take(&mut graph.node), &mut Vec::new(), 0)?;
    model.opset_import = inliner
        .opsets
        .into_iter()
        .map(|(domain, version)| OperatorSetIdProto { domain: Some(domain), version: Some(version) })
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
            match self.opsets.get(domain) {
                None => {
                    self.opsets.insert(domain.into(), version);
                }
                Some(known) if *known != version && !self.domains.contains(domain) => {
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
        let too_large = || wrong(key, "its calls inlined are too large");
        self.budget.nodes = self.budget.nodes.checked_sub(function.node.len() + 1).ok_or_else(too_large)?;
        let prefix = node_name(call, index);
        let argument = |position: usize| call.input.get(position).cloned().unwrap_or_default();
        let mut names: HashMap<String, String> =
            function.input.iter().enumerate().map(|(position, formal)| (formal.clone(), argument(position))).collect();
        let mut nodes = Vec::with_capacity(function.node.len());
        for (formal, actual) in function.output.iter().zip(&call.output).filter(|(_, actual)| !actual.is_empty()) {
            match names.get(formal) {
                None => drop(names.insert(formal.clone(), actual.clone())),
                // An output that is an input of the function, or is listed twice.
                Some(known) => nodes.push(identity(format!("{prefix}/{formal}"), known, actual)),
            }
        }
        let attributes = Attributes { given: &call.attribute, defaults: &function.attribute_proto };
        for (index, node) in function.node.iter().enumerate() {
            let mut node = node.clone();
            scope::keep_alone(&mut node);
            if !self.budget.spend(node.encoded_len() + prefix.len()) {
                return Err(too_large());
            }
            attributes.put_into(&mut node, &mut self.budget);
            node.name = Some(format!("{prefix}/{}", node_name(&node, index)));
            // What says itself which module it belongs to says so more closely than the call.
            if node.metadata_props.is_empty() {
                node.metadata_props.clone_from(&call.metadata_props);
                scope::keep_alone(&mut node);
            }
            rename_node(&mut node, &mut |name| {
                let new = names.entry(name.into()).or_insert_with(|| self.names.take(format!("{prefix}/{name}")));
                if self.budget.spend(new.len()) { new.clone() } else { String::new() }
            });
            nodes.push(node);
        }
        if self.budget.bytes == 0 { Err(too_large()) } else { Ok(nodes) }
    }
}

fn identity(name: String, from: &str, to: &str) -> NodeProto {
    NodeProto {
        name: Some(name),
        op_type: Some("Identity".into()),
        input: vec![from.into()],
        output: vec![to.into()],
        ..NodeProto::default()
    }
}

/// What `ref_attr_name` refers to in one call.
struct Attributes<'c> {
    given: &'c [AttributeProto],
    defaults: &'c [AttributeProto],
}

impl Attributes<'_> {
    /// Replaces references by the call's attributes, else by the function's defaults; one that has neither is left out,
    /// so that the operator's own default holds. When the budget is spent the rest is left out too.
    fn put_into(&self, node: &mut NodeProto, budget: &mut Budget) {
        let resolve = |attribute: AttributeProto| match attribute.ref_attr_name.as_deref() {
            None | Some("") => Some(attribute),
            Some(referred) => {
                let is_it = |candidate: &&AttributeProto| candidate.name.as_deref() == Some(referred);
                let found = self.given.iter().find(is_it).or_else(|| self.defaults.iter().find(is_it));
                let found = found.filter(|found| budget.spend(found.encoded_len()))?;
                Some(AttributeProto { name: attribute.name, ..found.clone() })
            }
        };
        node.attribute = std::mem::take(&mut node.attribute).into_iter().filter_map(resolve).collect();
        for node in subgraphs_mut(node).flat_map(|inner| &mut inner.node) {
            self.put_into(node, budget);
        }
    }
}
