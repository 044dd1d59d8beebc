//! Models that compute in half precision (fp16, bf16), written as ones that compute in `float` on the weights as they are
//! stored.
//!
//! A gradient in half precision underflows without loss scaling, and few of ONNX Runtime's kernels for processors have
//! one; as `float` nothing underflows and every rule holds. Large weights stay as they are in the file, behind a `Cast` each, so
//! that they still exist once; small ones and those of contrib operators, which want constants, become floats.

use super::Error;
use crate::graph::{Attr, DType, Graph, Node, Tensor, ValueId};
use std::collections::{HashMap, HashSet};

/// Weights of as many bytes are widened at once: biases, statistics, scales, numbers.
const SMALL_BYTES: usize = 16 << 10;
/// Attributes that name an element type.
const TYPES: [&str; 5] = ["to", "dtype", "output_dtype", "output_datatype", "precision"];

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::Float16 | DType::Bfloat16)
}

/// Widens all that the graph computes in half precision. Inputs and outputs of that type become `float`, too.
///
/// # Errors
/// [`Error::HalfInside`]: a sub-graph that reads values of half precision.
pub fn widen(graph: &mut Graph) -> Result<(), Error> {
    let halves = halves(graph);
    refuse_inside(graph, &halves)?;
    let mut casts = Vec::new();
    let mut widened: HashMap<ValueId, ValueId> = HashMap::new();
    let mut nodes = std::mem::take(&mut graph.nodes);
    for node in &mut nodes {
        for (name, attribute) in &mut node.attributes {
            widen_attribute(name, attribute);
        }
        let wants_constants = !node.domain.is_empty();
        if node.op == "Cast" {
            // It widens the stored weight itself, or what is widened already.
            continue;
        }
        for input in node.inputs.iter_mut().flatten().filter(|id| halves.contains(id)) {
            *input = *widened.entry(*input).or_insert_with(|| floats(graph, *input, wants_constants, &mut casts));
        }
    }
    casts.extend(nodes);
    graph.nodes = casts;
    let computed = |index: usize| !graph.initializers.contains_key(&ValueId(index as u32));
    for (_, value) in graph.values.iter_mut().enumerate().filter(|(index, _)| computed(*index)) {
        if let Some(ty) = value.ty.as_mut().filter(|ty| is_half(ty.dtype)) {
            ty.dtype = DType::Float;
        }
    }
    Ok(())
}

/// Initializers of half precision.
fn halves(graph: &Graph) -> HashSet<ValueId> {
    graph.initializers.iter().filter(|(_, tensor)| is_half(tensor.dtype)).map(|(id, _)| *id).collect()
}

fn refuse_inside(graph: &Graph, halves: &HashSet<ValueId>) -> Result<(), Error> {
    let half = |id: ValueId| halves.contains(&id) || graph.ty(id).is_some_and(|ty| is_half(ty.dtype));
    let inside = |node: &&Node| node.attributes.values().flat_map(Attr::captures).any(|id| half(*id));
    match graph.nodes.iter().find(inside) {
        Some(node) => Err(Error::HalfInside { node: node.name.clone(), op: node.op.clone() }),
        None => Ok(()),
    }
}

fn widen_attribute(name: &str, attribute: &mut Attr) {
    match attribute {
        Attr::Int(number) if TYPES.contains(&name) && names_half(*number) => *number = DType::Float.onnx().into(),
        Attr::Tensor(tensor) => {
            if let Some(floats) = as_floats(tensor) {
                *tensor = floats;
            }
        }
        _ => {}
    }
}

fn names_half(number: i64) -> bool {
    i32::try_from(number).ok().and_then(DType::from_onnx).is_some_and(is_half)
}

fn as_floats(tensor: &Tensor) -> Option<Tensor> {
    is_half(tensor.dtype).then(|| Some(Tensor::from_f32(&tensor.shape, &tensor.to_f32()?)))?
}

/// The value to read in a stored weight's place.
fn floats(graph: &mut Graph, id: ValueId, constant: bool, casts: &mut Vec<Node>) -> ValueId {
    let tensor = &graph.initializers[&id];
    if (constant || tensor.data.len() <= SMALL_BYTES)
        && let Some(floats) = as_floats(tensor)
    {
        graph.values[id.index()].ty = Some(floats.ty());
        graph.initializers.insert(id, floats);
        return id;
    }
    let name = graph.value_name(id).to_string();
    let output = graph.add_value(&format!("{name}/float"), None);
    casts.push(Node {
        name: format!("{name}/Cast"),
        op: "Cast".into(),
        inputs: vec![Some(id)],
        outputs: vec![Some(output)],
        attributes: [("to".into(), Attr::Int(DType::Float.onnx().into()))].into(),
        ..Node::default()
    });
    output
}
