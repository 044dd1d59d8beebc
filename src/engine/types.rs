//! The types of all values of a graph, as ONNX Runtime infers them.
//!
//! Every value becomes an output without a type, a session without optimisation is created, and the types are read back:
//! symbolic dimensions keep their names and contrib operators are covered. Large weights are replaced by graph inputs of
//! their type first, so that neither their bytes nor a copy of them is needed.

use super::session::{Optimisation, Options, commit_bytes, encode, tensor_type};
use super::{Error, Result};
use crate::graph::{Dim, Graph, Node, TensorType, ValueId};
use std::collections::HashMap;

/// Initializers with more elements are replaced. Shapes, axes, scales and indices, whose numbers inference needs, are
/// far smaller.
const LARGEST_CONSTANT: usize = 1024;

/// Fills in the type of every tensor value. What ONNX Runtime does not know (a dimension, or a rank) stays as declared;
/// values that are no tensors keep no type.
///
/// # Errors
/// [`Error::Infer`] with ONNX Runtime's words if it refuses the graph, [`Error::NotLoaded`] before [`super::load`].
pub fn infer_types(graph: &mut Graph) -> Result<()> {
    for (id, tensor) in &graph.initializers {
        graph.values[id.index()].ty.get_or_insert_with(|| tensor.ty());
    }
    let skeleton = skeleton(graph);
    let found = output_types(&skeleton)?;
    let scalars = scalars(&skeleton, &found)?;
    for id in skeleton.outputs {
        let value = &mut graph.values[id.index()];
        value.ty = found.get(&value.name).map(|ty| {
            let mut ty = ty.clone();
            if scalars.contains(&id) {
                ty.shape = Some(vec![]);
            }
            merge(ty, value.ty.take())
        });
    }
    Ok(())
}

/// The graph with large weights as inputs, no declared types but those of inputs, and every node's outputs as outputs.
fn skeleton(graph: &Graph) -> Graph {
    let mut skeleton = graph.clone();
    let large = |id: &ValueId| skeleton.initializers[id].len() > LARGEST_CONSTANT && !skeleton.inputs.contains(id);
    let large: Vec<ValueId> = graph.initializers.keys().copied().filter(large).collect();
    for id in large {
        skeleton.initializers.remove(&id);
        skeleton.inputs.push(id);
    }
    skeleton.outputs = skeleton.nodes.iter().flat_map(Node::writes).collect();
    for id in &skeleton.outputs {
        skeleton.values[id.index()].ty = None;
    }
    skeleton
}

/// The types of a graph's outputs by name; those that are no tensors are left out.
fn output_types(graph: &Graph) -> Result<HashMap<String, TensorType>> {
    let options = Options { optimisation: Optimisation::Off, threads: 1, arena: false, ..Options::default() };
    let session = commit_bytes(&encode(graph)?, None, &options).map_err(|error| match error {
        Error::Load { version, message, .. } => Error::Infer { graph: graph.name.clone(), version, message },
        other => other,
    })?;
    let typed = session.outputs().iter().filter_map(|o| Some((o.name().to_string(), tensor_type(o.dtype())?)));
    Ok(typed.collect())
}

/// The scalars among the outputs that were found without a shape. ONNX Runtime reports scalars and unknown ranks alike, but
/// the length of a scalar's shape is known to be 0.
fn scalars(skeleton: &Graph, found: &HashMap<String, TensorType>) -> Result<Vec<ValueId>> {
    let unknown = |id: &ValueId| found.get(skeleton.value_name(*id)).is_some_and(|ty| ty.shape.is_none());
    let asked: Vec<ValueId> = skeleton.outputs.iter().copied().filter(unknown).collect();
    if asked.is_empty() {
        return Ok(asked);
    }
    let mut graph = skeleton.clone();
    graph.outputs.clear();
    for id in &asked {
        let name = format!("{}/shape", graph.value_name(*id));
        let shape = graph.add_value(&name, None);
        let (inputs, outputs) = (vec![Some(*id)], vec![Some(shape)]);
        graph.nodes.push(Node { name, op: "Shape".into(), inputs, outputs, ..Node::default() });
        graph.outputs.push(shape);
    }
    graph.prune();
    let lengths = output_types(&graph)?;
    let is_scalar = |shape: &ValueId| {
        lengths.get(graph.value_name(*shape)).and_then(TensorType::fixed_shape).is_some_and(|length| length == [0])
    };
    Ok(asked.iter().zip(&graph.outputs).filter(|(_, shape)| is_scalar(shape)).map(|(id, _)| *id).collect())
}

/// What was found, completed by what was declared where nothing was found.
fn merge(mut found: TensorType, declared: Option<TensorType>) -> TensorType {
    let declared = declared.filter(|ty| ty.dtype == found.dtype).and_then(|ty| ty.shape);
    match (&mut found.shape, declared) {
        (None, declared) => found.shape = declared,
        (Some(found), Some(declared)) if found.len() == declared.len() => {
            for (dim, declared) in found.iter_mut().zip(declared) {
                if *dim == Dim::Unknown {
                    *dim = declared;
                }
            }
        }
        _ => {}
    }
    found
}
