//! The types of all values of a graph, as ONNX Runtime infers them.
//!
//! Every value becomes an output without a type, a session without optimisation is created, and the types are read back:
//! symbolic dimensions keep their names and contrib operators are covered. Large weights are replaced by graph inputs of
//! their type first, so that neither their bytes nor a copy of them is needed.

use super::kept_types::{self, Key, Types};
use super::session::{Optimisation, Options, commit_bytes, encode, tensor_type};
use super::{Error, Result, runtime};
use crate::graph::{Attr, DType, Dim, Graph, Node, TensorType, ValueId};
use crate::order::gathered;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;

/// Initializers with more elements are replaced. Shapes, axes, scales and indices, whose numbers inference needs, are
/// far smaller.
const LARGEST_CONSTANT: usize = 1024;

/// Batch sizes that are tried where inference by names loses a size, such as that of a `Reshape` to a computed shape. Far
/// apart, so that no division rounds them to the same; small, because constants of that size may be made.
const BATCHES: [u64; 2] = [7, 101];
/// The same for other named sizes of inputs, such as a sequence: the first of them and by how much the next ones are larger. Below the
/// positions that small models have.
const SIZES: [(u64, u64); 2] = [(13, 6), (43, 11)];

/// Operators of `ai.onnx.ml` that give a float for each number they take; ONNX Runtime infers no shape for them.
const ELEMENTWISE: [&str; 4] = ["Binarizer", "Imputer", "Normalizer", "Scaler"];

/// Fills in the type of every tensor value. What ONNX Runtime does not know (a dimension, or a rank) stays as declared;
/// values that are no tensors keep no type. Types that were inferred before come from the folder that the library was loaded
/// with ([`LibraryChoice::types_folder`](super::LibraryChoice::types_folder)).
///
/// # Errors
/// [`Error::Infer`] with ONNX Runtime's words if it refuses the graph, [`Error::NotLoaded`] before [`super::load`].
pub fn infer_types(graph: &mut Graph) -> Result<()> {
    infer_types_in(graph, runtime::types_folder()?).map(|_| ())
}

/// As [`infer_types`], with the folder in which inferred types are kept, if any. Gives whether they were found there.
///
/// # Errors
/// As [`infer_types`]. A folder that cannot be read or written is none.
pub fn infer_types_in(graph: &mut Graph, folder: Option<&Path>) -> Result<bool> {
    for (id, tensor) in &graph.initializers {
        graph.values[id.index()].ty.get_or_insert_with(|| tensor.ty());
    }
    let skeleton = skeleton(graph);
    let model = encode(&skeleton)?;
    let place = folder.map(|folder| Ok::<_, Error>((folder, Key::for_model(&model)?))).transpose()?;
    let known = place.as_ref().and_then(|(folder, key)| kept_types::read(folder, key));
    let was_known = known.is_some();
    let types = match known {
        Some(types) => types,
        None => {
            let types = inferred(&skeleton, &model)?;
            tracing::debug!(graph = %skeleton.name, nodes = skeleton.nodes.len(), "inferred the types");
            runtime::give_small_blocks_back();
            if let Some((folder, key)) = &place
                && let Err(error) = kept_types::write(folder, key, &types)
            {
                tracing::debug!(folder = %folder.display(), %error, "inferred types could not be kept");
            }
            types
        }
    };
    for id in skeleton.outputs {
        let value = &mut graph.values[id.index()];
        value.ty = types.get(&value.name).map(|ty| merge(ty.clone(), value.ty.take()));
    }
    type_scores(graph);
    Ok(was_known)
}

/// ONNX Runtime infers no shape for what a tree ensemble gives: one column for each class or target.
fn type_scores(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (output, columns) = match node.op.as_str() {
            "TreeEnsembleClassifier" | "SVMClassifier" => (1, node.class_labels().map(|count| count as u64)),
            "TreeEnsembleRegressor" => (0, u64::try_from(node.int("n_targets", 1)).ok()),
            _ => continue,
        };
        let of = |values: &[Option<ValueId>], at: usize| values.get(at).copied().flatten();
        let rows = of(&node.inputs, 0).and_then(|id| graph.ty(id)?.shape.as_ref()?.first().cloned());
        if let (Some(scores), Some(columns), Some(rows)) = (of(&node.outputs, output), columns, rows) {
            let ty = graph.values[scores.index()].ty.get_or_insert(TensorType { dtype: DType::Float, shape: None });
            ty.shape.get_or_insert(vec![rows, Dim::Fixed(columns)]);
        }
    }
}

/// The types of a skeleton's outputs by name.
fn inferred(skeleton: &Graph, model: &[u8]) -> Result<Types> {
    let mut found = output_types(&skeleton.name, model, Optimisation::Off)?;
    close(skeleton, model, &mut found);
    for id in scalars(skeleton, &found)? {
        if let Some(ty) = found.get_mut(skeleton.value_name(id)) {
            ty.shape = Some(vec![]);
        }
    }
    Ok(found)
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
    for node in skeleton.nodes.iter_mut().filter(|node| node.domain == "ai.onnx.ml") {
        if ELEMENTWISE.contains(&node.op.as_str()) {
            let to = Attr::Int(DType::Float.onnx().into());
            (node.op, node.domain, node.attributes) = ("Cast".into(), String::new(), [("to".into(), to)].into());
        }
    }
    skeleton
}

/// Finds sizes that inference by names has lost: it is repeated for two batch sizes, and two of each other named size of the inputs, for
/// which ONNX Runtime also folds what is computed from shapes. What is the same in both depends on none of them, and what is the batch
/// size in both is the batch. Shapes that depend on the data are inferred in neither.
fn close(skeleton: &Graph, model: &[u8], found: &mut Types) {
    let dims = |id: &ValueId| skeleton.ty(*id).and_then(|ty| ty.shape.clone()).unwrap_or_default();
    let name = |dim: &Dim| if let Dim::Named(name) = dim { Some(name.clone()) } else { None };
    let known: HashSet<String> = skeleton.inputs.iter().flat_map(dims).filter_map(|dim| name(&dim)).collect();
    let open = |dim: &Dim| dim.fixed().is_none() && name(dim).is_none_or(|name| !known.contains(&name));
    if found.values().all(|ty| ty.shape.as_ref().is_some_and(|shape| !shape.iter().any(open))) {
        return;
    }
    let batches: BTreeSet<String> = skeleton.inputs.iter().filter_map(|id| name(dims(id).first()?)).collect();
    if batches.is_empty() {
        // All sizes are numbers: what is computed from shapes can be folded.
        let folded = output_types(&skeleton.name, model, Optimisation::Basic).unwrap_or_default();
        found.iter_mut().filter(|(_, ty)| ty.shape.as_ref().is_none_or(|shape| shape.iter().any(open))).for_each(
            |(value, ty)| {
                if let Some(closed) = folded.get(value).filter(|closed| closed.fixed_shape().is_some()) {
                    ty.shape.clone_from(&closed.shape);
                }
            },
        );
        return;
    }
    let [batch] = batches.iter().collect::<Vec<_>>()[..] else { return };
    let mut named: Vec<(String, [u64; 2])> = vec![(batch.clone(), BATCHES)];
    let others: BTreeSet<&String> = gathered(known.iter().filter(|name| *name != batch));
    for (place, other) in others.into_iter().enumerate() {
        named.push((other.clone(), SIZES.map(|(first, apart)| first + apart * place as u64)));
    }
    // A model that refuses such sizes may take such a batch; else it keeps what is known.
    let Some((first, second)) = of_two_sizes(skeleton, &named).or_else(|| {
        named.truncate(1);
        of_two_sizes(skeleton, &named)
    }) else {
        return;
    };
    for (value, ty) in found {
        let shape_of = |types: &Types| types.get(value).and_then(|ty| ty.shape.clone());
        let (Some(first), Some(second)) = (shape_of(&first), shape_of(&second)) else { continue };
        let rank = ty.shape.as_ref().map_or(first.len(), Vec::len);
        if (first.len(), second.len()) != (rank, rank) {
            continue;
        }
        for (axis, dim) in ty.shape.get_or_insert_with(|| vec![Dim::Unknown; rank]).iter_mut().enumerate() {
            let (Some(a), Some(b)) = (first[axis].fixed(), second[axis].fixed()) else { continue };
            let like = named.iter().find(|(_, sizes)| [a, b] == *sizes);
            match like {
                Some((name, _)) if open(dim) => *dim = Dim::Named(name.clone()),
                None if open(dim) && a == b => *dim = Dim::Fixed(a),
                _ => {}
            }
        }
    }
}

/// The types for the first and for the second size of each name; `None` where ONNX Runtime refuses one of them.
fn of_two_sizes(skeleton: &Graph, named: &[(String, [u64; 2])]) -> Option<(Types, Types)> {
    let with = |which: usize| {
        let sized = named.iter().fold(skeleton.clone(), |graph, (name, sizes)| with_size(&graph, name, sizes[which]));
        output_types(&skeleton.name, &encode(&sized).ok()?, Optimisation::Basic).ok()
    };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| with(1));
        let first = with(0);
        first.zip(second.join().expect("no panic in ONNX Runtime's bindings"))
    })
}

/// The graph for one size of a name.
fn with_size(graph: &Graph, name: &str, size: u64) -> Graph {
    let mut graph = graph.clone();
    for id in graph.inputs.clone() {
        let shape = graph.values[id.index()].ty.as_mut().and_then(|ty| ty.shape.as_mut());
        shape
            .into_iter()
            .flatten()
            .filter(|dim| **dim == Dim::Named(name.into()))
            .for_each(|dim| *dim = Dim::Fixed(size));
    }
    graph
}

/// The types of an encoded graph's outputs by name; those that are no tensors are left out.
fn output_types(graph: &str, model: &[u8], optimisation: Optimisation) -> Result<Types> {
    let options = Options { optimisation, threads: 1, arena: false, ..Options::default() };
    let session = commit_bytes(model, None, &options).map_err(|error| match error {
        Error::Load { version, message, .. } => Error::Infer { graph: graph.into(), version, message },
        other => other,
    })?;
    let typed = session.outputs().iter().filter_map(|o| Some((o.name().to_string(), tensor_type(o.dtype())?)));
    Ok(typed.collect())
}

/// The scalars among the outputs that were found without a shape. ONNX Runtime reports scalars and unknown ranks alike, but
/// the length of a scalar's shape is known to be 0.
fn scalars(skeleton: &Graph, found: &Types) -> Result<Vec<ValueId>> {
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
    let lengths = output_types(&graph.name, &encode(&graph)?, Optimisation::Off)?;
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
