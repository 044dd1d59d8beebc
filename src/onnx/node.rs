//! `NodeProto` ⇄ [`Node`]: attributes and sub-graphs.

use super::Error;
use super::declared::declared;
use super::external::ExternalFiles;
use super::names::{self, plain_domain};
use super::proto::{AttributeProto, GraphProto, NodeProto, attribute_type as kind};
use super::scope;
use super::tensor;
use crate::graph::{Attr, Graph, Node, Tensor, ValueId};
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Sub-graphs inside sub-graphs; prost decodes 100 messages deep, three of which are one level.
const DEPTH_MAX: usize = 16;

/// The node with its values looked up in `graph`, where all values and imported domains have been added before.
pub fn read(proto: &NodeProto, name: String, graph: &Graph, files: &mut ExternalFiles) -> Result<Node, Error> {
    let mut foreign = None;
    each_domain(proto, &mut |domain| {
        if !domain.is_empty() && !graph.domains.contains_key(domain) {
            foreign = Some(domain.to_string());
        }
    });
    if let Some(domain) = foreign {
        return Err(Error::Domain { node: name, domain });
    }
    let find = |value: &str| {
        graph.find(value).ok_or_else(|| Error::Unwritten { node: name.clone(), value: value.to_string() })
    };
    let optional = |values: &[String]| -> Result<Vec<Option<ValueId>>, Error> {
        values.iter().map(|value| (!value.is_empty()).then(|| find(value)).transpose()).collect()
    };
    let mut node = Node {
        op: proto.op_type.clone().unwrap_or_default(),
        domain: plain_domain(proto.domain.as_deref()).into(),
        inputs: optional(&proto.input)?,
        outputs: optional(&proto.output)?,
        ..Node::default()
    };
    for attribute in &proto.attribute {
        let key = attribute.name.clone().unwrap_or_default();
        let wrong = |problem: String| Error::Attribute {
            node: name.clone(),
            op: node.op.clone(),
            attribute: key.clone(),
            problem,
        };
        let mut value = read_attribute(attribute, &name, &wrong, files)?;
        if let (Attr::Graph { captures, .. }, Some(inner)) = (&mut value, attribute.g.as_deref()) {
            *captures = names::free(inner).into_iter().map(find).collect::<Result<_, _>>()?;
        }
        node.attributes.insert(key, value);
    }
    node.name = name;
    node.module = scope::read(proto);
    Ok(node)
}

/// One attribute; a sub-graph's captures are left to the caller.
fn read_attribute(
    proto: &AttributeProto,
    node: &str,
    wrong: &impl Fn(String) -> Error,
    files: &mut ExternalFiles,
) -> Result<Attr, Error> {
    if let Some(referred) = proto.ref_attr_name.as_deref().filter(|name| !name.is_empty()) {
        return Err(wrong(format!("refers to `{referred}` of a function, but is in none")));
    }
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).map_err(|_| wrong("is not UTF-8 text".into()));
    let absent = || wrong("has no value".into());
    Ok(match attribute_kind(proto) {
        kind::FLOAT => Attr::Float(proto.f.unwrap_or_default()),
        kind::INT => Attr::Int(proto.i.unwrap_or_default()),
        kind::STRING => Attr::Str(text(&proto.s.clone().unwrap_or_default())?),
        kind::FLOATS => Attr::Floats(proto.floats.clone()),
        kind::INTS => Attr::Ints(proto.ints.clone()),
        kind::STRINGS => Attr::Strs(proto.strings.iter().map(text).collect::<Result<_, _>>()?),
        kind::TENSOR => {
            let label = format!("{node}/{}", proto.name.as_deref().unwrap_or_default());
            Attr::Tensor(tensor::read(proto.t.as_deref().ok_or_else(absent)?, &label, files)?)
        }
        kind::GRAPH => {
            let mut inner = proto.g.as_deref().ok_or_else(absent)?.clone();
            normalise(&mut inner, 1, wrong, files)?;
            Attr::Graph { encoded: inner.encode_to_vec().into(), captures: Vec::new() }
        }
        other => return Err(wrong(format!("attribute type {other} is not supported"))),
    })
}

/// The attribute's type; files of old writers leave it to be seen from the field that is set.
fn attribute_kind(proto: &AttributeProto) -> i32 {
    match proto.r#type.unwrap_or_default() {
        0 if proto.f.is_some() => kind::FLOAT,
        0 if proto.i.is_some() => kind::INT,
        0 if proto.s.is_some() => kind::STRING,
        0 if proto.t.is_some() => kind::TENSOR,
        0 if proto.g.is_some() => kind::GRAPH,
        0 if !proto.floats.is_empty() => kind::FLOATS,
        0 if !proto.ints.is_empty() => kind::INTS,
        0 if !proto.strings.is_empty() => kind::STRINGS,
        given => given,
    }
}

/// Brings a sub-graph into the form in which it is kept: tensors embedded as raw data (it must be readable without the
/// model's files), plain domains, no types of inner values, no metadata.
fn normalise(
    graph: &mut GraphProto,
    depth: usize,
    wrong: &impl Fn(String) -> Error,
    files: &mut ExternalFiles,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(wrong(format!("sub-graphs are nested more than {DEPTH_MAX} deep")));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(wrong("the sub-graph has sparse initializers".into()));
    }
    graph.value_info.clear();
    for proto in &mut graph.initializer {
        let name = proto.name.clone().unwrap_or_default();
        *proto = tensor::embedded(&name, &tensor::read(proto, &name, files)?);
    }
    for node in &mut graph.node {
        let domain = plain_domain(node.domain.as_deref()).to_string();
        node.domain = (!domain.is_empty()).then_some(domain);
        node.metadata_props.clear();
        for attribute in &mut node.attribute {
            attribute.r#type = Some(attribute_kind(attribute));
            if let Some(proto) = attribute.t.as_deref_mut() {
                let name = proto.name.clone().unwrap_or_default();
                *proto = tensor::embedded(&name, &tensor::read(proto, &name, files)?);
            }
            if let Some(inner) = attribute.g.as_deref_mut() {
                normalise(inner, depth + 1, wrong, files)?;
            }
        }
    }
    Ok(())
}

/// The operator-set domains that a node and its sub-graphs use.
pub fn each_domain(node: &NodeProto, each: &mut impl FnMut(&str)) {
    each(plain_domain(node.domain.as_deref()));
    for inner in names::subgraphs(node) {
        for node in &inner.node {
            each_domain(node, each);
        }
    }
}

/// The node as a message; names are the graph's.
pub fn write(graph: &Graph, node: &Node) -> NodeProto {
    let names = |values: &[Option<ValueId>]| {
        values.iter().map(|id| id.map(|id| graph.value_name(id).to_string()).unwrap_or_default()).collect()
    };
    NodeProto {
        input: names(&node.inputs),
        output: names(&node.outputs),
        name: Some(node.name.clone()),
        op_type: Some(node.op.clone()),
        domain: (!node.domain.is_empty()).then(|| node.domain.clone()),
        attribute: node.attributes.iter().map(|(name, value)| write_attribute(graph, name, value)).collect(),
        overload: None,
        metadata_props: scope::write(node).into_iter().collect(),
    }
}

fn write_attribute(graph: &Graph, name: &str, value: &Attr) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    let text = |text: &String| Bytes::copy_from_slice(text.as_bytes());
    let kind = match value {
        Attr::Int(value) => {
            proto.i = Some(*value);
            kind::INT
        }
        Attr::Float(value) => {
            proto.f = Some(*value);
            kind::FLOAT
        }
        Attr::Str(value) => {
            proto.s = Some(text(value));
            kind::STRING
        }
        Attr::Tensor(value) => {
            proto.t = Some(Box::new(tensor::embedded("", value)));
            kind::TENSOR
        }
        Attr::Ints(values) => {
            proto.ints = values.clone();
            kind::INTS
        }
        Attr::Floats(values) => {
            proto.floats = values.clone();
            kind::FLOATS
        }
        Attr::Strs(values) => {
            proto.strings = values.iter().map(text).collect();
            kind::STRINGS
        }
        Attr::Graph { encoded, captures } => {
            proto.g = Some(Box::new(subgraph(graph, encoded, captures)));
            kind::GRAPH
        }
        Attr::Body { graph: inner, captures } => {
            proto.g = Some(Box::new(body(graph, inner, captures)));
            kind::GRAPH
        }
    };
    proto.r#type = Some(kind);
    proto
}

/// A kept sub-graph as it fits into `graph` now. Values may have got other names since it was encoded: its free names
/// become those of the captures (in the same order), and a name of its own that the graph has taken since is replaced,
/// because ONNX forbids a sub-graph to shadow a value around it.
pub fn subgraph(graph: &Graph, encoded: &Bytes, captures: &[ValueId]) -> GraphProto {
    // `read_attribute` wrote these bytes, no deeper than prost reads.
    let inner = GraphProto::decode(encoded.clone()).expect("a sub-graph is kept as it was encoded");
    let free = names::free(&inner).into_iter().map(String::from);
    let outer = free.zip(captures).map(|(name, id)| (name, graph.value_name(*id).to_string())).collect();
    fitted(graph, inner, outer)
}

/// A sub-graph that was written here, as it fits into `graph`.
pub fn body(graph: &Graph, inner: &Graph, captures: &[ValueId]) -> GraphProto {
    let outer = inner.values.iter().zip(captures);
    let outer = outer.map(|(value, id)| (value.name.clone(), graph.value_name(*id).to_string())).collect();
    let proto = GraphProto {
        name: Some(inner.name.clone()),
        node: inner.nodes.iter().map(|node| write(inner, node)).collect(),
        initializer: inner
            .initializers
            .iter()
            .map(|(id, value)| tensor::embedded(inner.value_name(*id), value))
            .collect(),
        input: inner.inputs.iter().map(|id| declared(inner, *id)).collect(),
        output: inner.outputs.iter().map(|id| declared(inner, *id)).collect(),
        ..GraphProto::default()
    };
    fitted(graph, proto, outer)
}

/// A sub-graph whose free names become those of `new`, and of whose own names those are replaced that `graph` has, too.
fn fitted(graph: &Graph, mut inner: GraphProto, mut new: HashMap<String, String>) -> GraphProto {
    let mut own = Vec::new();
    names::each_bound(&inner, &mut |name| own.push(name.to_string()));
    let mut taken: HashSet<String> = own.iter().cloned().collect();
    for name in own {
        if graph.find(&name).is_some() && !new.contains_key(&name) {
            let unique = (1..)
                .map(|suffix| format!("{name}_inner{suffix}"))
                .find(|unique| graph.find(unique).is_none() && !taken.contains(unique))
                .unwrap_or_default();
            taken.insert(unique.clone());
            new.insert(name, unique);
        }
    }
    new.retain(|old, new| old != new);
    if !new.is_empty() {
        names::rename_graph(&mut inner, &mut |name| new.get(name).cloned().unwrap_or_else(|| name.into()));
    }
    inner
}

/// The tensor of a `Constant` node; `None` for the kinds that stay nodes (strings).
pub fn constant(proto: &NodeProto, node: &str, files: &mut ExternalFiles) -> Result<Option<Tensor>, Error> {
    let wrong = |attribute: &str, problem: &str| Error::Attribute {
        node: node.into(),
        op: "Constant".into(),
        attribute: attribute.into(),
        problem: problem.into(),
    };
    let [attribute] = proto.attribute.as_slice() else {
        return Err(wrong("value", "a constant has exactly one attribute"));
    };
    let name = attribute.name.as_deref().unwrap_or_default();
    let length = |values: usize| [values as u64];
    let known: BTreeMap<&str, i32> = BTreeMap::from([
        ("value", kind::TENSOR),
        ("value_int", kind::INT),
        ("value_ints", kind::INTS),
        ("value_float", kind::FLOAT),
        ("value_floats", kind::FLOATS),
        ("value_string", kind::STRING),
        ("value_strings", kind::STRINGS),
    ]);
    let value = read_attribute(attribute, node, &|problem| wrong(name, &problem), files)?;
    if known.get(name) != Some(&attribute_kind(attribute)) {
        return Err(wrong(name, "is not a constant's attribute"));
    }
    Ok(match value {
        Attr::Tensor(tensor) => Some(tensor),
        Attr::Int(value) => Some(Tensor::from_i64(&[], &[value])),
        Attr::Ints(values) => Some(Tensor::from_i64(&length(values.len()), &values)),
        Attr::Float(value) => Some(Tensor::from_f32(&[], &[value])),
        Attr::Floats(values) => Some(Tensor::from_f32(&length(values.len()), &values)),
        Attr::Str(_) | Attr::Strs(_) | Attr::Graph { .. } | Attr::Body { .. } => None,
    })
}
