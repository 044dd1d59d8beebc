//! Model file → graph.

use super::external::{ExternalFiles, map};
use super::names::{Unique, node_name, plain_domain};
use super::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto, decode};
use super::{Error, forms, function, ml, node, tensor};
use crate::graph::{DType, Dim, Graph, TensorType, ValueId};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::Path;

/// The oldest file format that is read, that of operator set 7. Initializers are among its inputs.
pub const IR_VERSION_MIN: i64 = 3;
/// The `ai.onnx` operator sets that are read; `forms.rs` has what is rewritten.
pub const OPSETS: RangeInclusive<i64> = 7..=28;
/// A model as read.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its graph, sorted, without functions and `Constant` nodes.
    pub graph: Graph,
    /// The file's format version.
    pub ir_version: i64,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// What that program tells about the model besides: `metadata_props`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a model file through a memory map; weights, also those in external-data files, stay in the maps.
///
/// # Errors
/// Every variant of [`Error`] but those about writing, with the path.
pub fn read(path: &Path) -> Result<Model, Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    map(path).and_then(|bytes| read_bytes(bytes, Some(folder))).map_err(|fault| fault.at(path))
}

/// Reads a model from bytes, which the graph's weights then share. External data is looked for in `folder`.
///
/// # Errors
/// As [`read`], without a path.
pub fn read_bytes(bytes: Bytes, folder: Option<&Path>) -> Result<Model, Error> {
    let mut model = decode(bytes)?;
    let ir_version = model.ir_version.ok_or(Error::Missing { field: "ir_version" })?;
    if model.graph.is_none() {
        return Err(Error::Missing { field: "graph" });
    }
    if ir_version < IR_VERSION_MIN {
        return Err(Error::IrVersion { found: ir_version, least: IR_VERSION_MIN });
    }
    let producer = [&model.producer_name, &model.producer_version].map(|text| text.as_deref().unwrap_or_default());
    let producer = producer.join(" ").trim().to_string();
    let metadata = std::mem::take(&mut model.metadata_props).into_iter();
    let metadata = metadata.filter_map(|entry| Some((entry.key?, entry.value?))).collect();
    opset(&model)?;
    function::inline(&mut model)?;
    let opset = opset(&model)?;
    let proto = model.graph.unwrap_or_default();
    let mut graph = Graph::new(proto.name.as_deref().unwrap_or_default(), opset);
    let domain = |import: &OperatorSetIdProto| plain_domain(import.domain.as_deref()).to_string();
    let imports = model.opset_import.iter().map(|import| (domain(import), import.version.unwrap_or(1)));
    graph.domains = imports.filter(|(domain, _)| !domain.is_empty()).collect();
    fill(&mut graph, &proto, &mut ExternalFiles::new(folder))?;
    forms::rewrite(&mut graph)?;
    ml::rewrite(&mut graph);
    drop_idle_domains(&mut graph, &proto);
    Ok(Model { graph, ir_version, producer, metadata })
}

fn opset(model: &ModelProto) -> Result<i64, Error> {
    let imports = model.opset_import.iter().filter(|import| plain_domain(import.domain.as_deref()).is_empty());
    let found = imports.filter_map(|import| import.version).max();
    let found = found.ok_or(Error::Missing { field: "opset_import of ai.onnx" })?;
    if !OPSETS.contains(&found) {
        return Err(Error::Opset { found, first: *OPSETS.start(), last: *OPSETS.end() });
    }
    Ok(found)
}

/// Keeps of the imported domains those that nodes use: those of inlined functions are not worth requiring.
fn drop_idle_domains(graph: &mut Graph, proto: &GraphProto) {
    let mut used = HashSet::new();
    for node in &proto.node {
        node::each_domain(node, &mut |domain| {
            used.insert(domain.to_string());
        });
    }
    graph.domains.retain(|domain, _| used.contains(domain));
}

/// Adds values first and nodes then, because a file need not have its nodes in order.
fn fill(graph: &mut Graph, proto: &GraphProto, files: &mut ExternalFiles) -> Result<(), Error> {
    add_constants(graph, proto, files)?;
    add_inputs(graph, proto)?;
    let nodes = add_written(graph, proto, files)?;
    for (proto, name) in nodes {
        let node = node::read(proto, name, graph, files)?;
        graph.nodes.push(node);
    }
    for (index, info) in proto.output.iter().enumerate() {
        let name = given_name(&info.name, "output", index)?;
        let id = graph.find(name).ok_or_else(|| Error::OutputUnwritten { value: name.into() })?;
        graph.outputs.push(id);
    }
    if graph.outputs.is_empty() {
        return Err(Error::NoOutputs);
    }
    graph.sort().map_err(|node| Error::Cycle { node })
}

fn add_constants(graph: &mut Graph, proto: &GraphProto, files: &mut ExternalFiles) -> Result<(), Error> {
    if let Some(sparse) = proto.sparse_initializer.first() {
        let name = sparse.values.as_ref().and_then(|values| values.name.clone()).unwrap_or_default();
        return Err(Error::Tensor {
            tensor: name,
            problem: "is sparse".into(),
            remedy: "export the model with dense weights",
        });
    }
    for (index, constant) in proto.initializer.iter().enumerate() {
        let name = given_name(&constant.name, "initializer", index)?;
        let tensor = tensor::read(constant, name, files)?;
        let id = define(graph, name, Some(tensor.ty()), "as an initializer")?;
        graph.initializers.insert(id, tensor);
    }
    Ok(())
}

/// Graph inputs. Old writers list initializers among them as defaults to be overridden: those stay constants.
fn add_inputs(graph: &mut Graph, proto: &GraphProto) -> Result<(), Error> {
    for (index, info) in proto.input.iter().enumerate() {
        let name = given_name(&info.name, "input", index)?;
        if graph.find(name).is_some_and(|id| graph.initializers.contains_key(&id)) {
            continue;
        }
        let ty = value_type(info).ok_or_else(|| Error::InputType { value: name.into() })?;
        let id = define(graph, name, Some(ty), "as an input")?;
        graph.inputs.push(id);
    }
    Ok(())
}

/// The values that nodes write. `Constant` nodes end here as initializers; gives the others with their names.
fn add_written<'p>(
    graph: &mut Graph,
    proto: &'p GraphProto,
    files: &mut ExternalFiles,
) -> Result<Vec<(&'p NodeProto, String)>, Error> {
    let infos = proto.value_info.iter().chain(&proto.output);
    let types: HashMap<&str, TensorType> =
        infos.filter_map(|info| Some((info.name.as_deref()?, value_type(info)?))).collect();
    let mut names = Unique::default();
    let mut kept = Vec::with_capacity(proto.node.len());
    for (index, node) in proto.node.iter().enumerate() {
        let name = names.take(node_name(node, index));
        let by = format!("by node `{name}`");
        if node.op_type.as_deref() == Some("Constant")
            && plain_domain(node.domain.as_deref()).is_empty()
            && let [output] = node.output.as_slice()
            && let Some(tensor) = node::constant(node, &name, files)?
        {
            let id = define(graph, output, Some(tensor.ty()), &by)?;
            graph.initializers.insert(id, tensor);
            continue;
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            define(graph, output, types.get(output.as_str()).cloned(), &by)?;
        }
        kept.push((node, name));
    }
    Ok(kept)
}

fn define(graph: &mut Graph, name: &str, ty: Option<TensorType>, second: &str) -> Result<ValueId, Error> {
    if graph.find(name).is_some() {
        return Err(Error::Duplicate { value: name.into(), second: second.into() });
    }
    Ok(graph.add_value(name, ty))
}

fn given_name<'p>(name: &'p Option<String>, role: &'static str, index: usize) -> Result<&'p str, Error> {
    name.as_deref().filter(|name| !name.is_empty()).ok_or(Error::Unnamed { role, index })
}

/// The declared type; `None` where there is none, or not that of a tensor with a supported element type.
fn value_type(info: &ValueInfoProto) -> Option<TensorType> {
    let tensor = info.r#type.as_ref()?.tensor_type.as_ref()?;
    let dtype = DType::from_onnx(tensor.elem_type?)?;
    let shape = tensor.shape.as_ref().map(|shape| {
        let dims = shape.dim.iter().map(|dim| match (dim.dim_value, dim.dim_param.as_deref()) {
            (Some(size), _) => u64::try_from(size).map_or(Dim::Unknown, Dim::Fixed),
            (None, Some(name)) if !name.is_empty() => Dim::Named(name.into()),
            _ => Dim::Unknown,
        });
        dims.collect()
    });
    Some(TensorType { dtype, shape })
}
