//! What a file computes from constants alone, and sizes that only a run tells.
//!
//! Exporters leave arithmetic of sizes in the graph: a `Pad` whose pads are put together by eight nodes, a mask of all true. ONNX
//! Runtime computes them here once, so that who reads the graph sees the numbers, whatever operators made them.

use super::Result;
use super::session::{Optimisation, Options, Session};
use crate::graph::{Attr, DType, Dim, Graph, Node, Tensor, TensorType, ValueId};
use std::collections::HashSet;

/// Numbers of a constant that takes the place of what computes it, at most: pads, places, masks.
const NUMBERS_MAX: usize = 1 << 16;
/// Bytes of the constants that such arithmetic may read: weights stay where they are.
const BYTES_MAX: usize = 1 << 20;

/// Operators whose result has sizes that depend on what they read, or that differ from run to run.
const BY_DATA: [&str; 12] = [
    "Bernoulli",
    "Compress",
    "If",
    "Loop",
    "NonMaxSuppression",
    "NonZero",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Scan",
    "Unique",
];

/// Puts integers and truth values in the place of the nodes that compute them from constants. What ONNX Runtime refuses stays.
///
/// # Errors
/// ONNX Runtime is not loaded.
pub fn fold_constants(graph: &mut Graph) -> Result<()> {
    let mut constant: HashSet<ValueId> =
        graph.initializers.iter().filter(|(_, tensor)| tensor.data.len() <= BYTES_MAX).map(|(id, _)| *id).collect();
    let whole =
        |id: ValueId| graph.ty(id).is_some_and(|ty| matches!(ty.dtype, DType::Int64 | DType::Int32 | DType::Bool));
    let mut folded: Vec<ValueId> = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.domain.is_empty() && !BY_DATA.contains(&node.op.as_str())) {
        let inner = node.attributes.values().any(|attribute| matches!(attribute, Attr::Graph { .. }));
        if node.inputs.is_empty()
            || inner
            || !node.reads().all(|id| constant.contains(&id))
            || !node.writes().all(whole)
        {
            continue;
        }
        constant.extend(node.writes());
        folded.extend(node.writes().filter(|id| !graph.outputs.contains(id)));
    }
    if folded.is_empty() {
        return Ok(());
    }
    let part = graph.extract("constants", &[], &folded);
    let Some(values) = run(&part)? else { return Ok(()) };
    let mut done = HashSet::new();
    for (id, tensor) in folded.into_iter().zip(values) {
        if tensor.len() <= NUMBERS_MAX {
            graph.values[id.index()].ty = Some(tensor.ty());
            graph.initializers.insert(id, tensor);
            done.insert(id);
        }
    }
    graph.nodes.retain(|node| !node.writes().all(|id| done.contains(&id)));
    Ok(())
}

/// The sizes of values that inference does not know, in a graph whose inputs have fixed sizes: what makes them is run over
/// zeros. Only values that no large weight is needed for, and whose sizes do not depend on what is read.
///
/// # Errors
/// ONNX Runtime is not loaded.
pub fn measure_sizes(graph: &mut Graph) -> Result<()> {
    let fixed = |id: &ValueId| graph.ty(*id).is_some_and(|ty| ty.fixed_shape().is_some());
    if !graph.inputs.iter().all(fixed) {
        return Ok(());
    }
    let large = graph.initializers.iter().filter(|(_, tensor)| tensor.data.len() > BYTES_MAX).map(|(id, _)| *id);
    let mut out_of_reach: HashSet<ValueId> = large.collect();
    let mut asked = Vec::new();
    for node in &graph.nodes {
        if BY_DATA.contains(&node.op.as_str()) || node.reads().any(|id| out_of_reach.contains(&id)) {
            out_of_reach.extend(node.writes());
        } else {
            asked.extend(node.writes().filter(|id| !fixed(id)));
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let mut part = graph.extract("sizes", &graph.inputs, &asked);
    part.outputs = part
        .outputs
        .clone()
        .into_iter()
        .map(|id| {
            let name = format!("{}/sizes", part.value_name(id));
            let sizes = part.add_value(&name, None);
            let (inputs, outputs) = (vec![Some(id)], vec![Some(sizes)]);
            part.nodes.push(Node { name, op: "Shape".into(), inputs, outputs, ..Node::default() });
            sizes
        })
        .collect();
    let Some(sizes) = run(&part)? else { return Ok(()) };
    for (id, sizes) in asked.into_iter().zip(sizes) {
        let shape = sizes.to_i64().unwrap_or_default().iter().map(|size| Dim::Fixed(*size as u64)).collect();
        if let Some(ty) = &mut graph.values[id.index()].ty {
            ty.shape = Some(shape);
        }
    }
    Ok(())
}

/// Runs a graph over zeros; `None` where ONNX Runtime refuses it.
fn run(graph: &Graph) -> Result<Option<Vec<Tensor>>> {
    super::runtime::types_folder()?;
    let options = Options { optimisation: Optimisation::Off, threads: 1, arena: false, ..Options::default() };
    let zeros = |ty: &TensorType| {
        let shape = ty.fixed_shape()?;
        let bytes = (shape.iter().product::<u64>() as usize * ty.dtype.bits()).div_ceil(8);
        Some(Tensor { dtype: ty.dtype, shape, data: vec![0u8; bytes].into() })
    };
    let named = |id: &ValueId| Some((graph.value_name(*id), zeros(graph.ty(*id)?)?));
    let Some(fed) = graph.inputs.iter().map(named).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let fed: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let given = Session::from_graph(graph, &options).and_then(|mut session| session.run(&fed));
    if let Err(error) = &given {
        tracing::debug!(graph = %graph.name, %error, "constants could not be computed");
    }
    Ok(given.ok())
}
