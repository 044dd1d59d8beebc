//! Splitting a graph below what learns, with as little as possible handed over.

use super::Error;
use crate::graph::{Attr, DType, Dim, Graph, Node, Tensor, ValueId};
use crate::order::gathered;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A graph split in two. Value names are those of the whole graph; the features carry the same names on both sides.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Everything below: model inputs → features. Holds nothing that learns.
    pub body: Graph,
    /// Everything above: features and parameters → output. The parameters are its last inputs.
    pub tail: Graph,
    /// The names of the values handed over, one row a sample each.
    pub features: Vec<String>,
}

/// Splits `graph` so that the tail holds all nodes between `trainable` and `output`. In the tail the trainable values
/// are inputs, after the features.
///
/// # Errors
/// [`Error::NotPerSample`] if a value would cross that is neither one row a sample nor cheap to compute again.
pub fn split(graph: &Graph, trainable: &[ValueId], output: ValueId) -> Result<Cut, Error> {
    let batch = batch_names(graph);
    let other = other_names(graph, &batch);
    let numbered = of_places(graph, &other);
    let told: HashSet<ValueId> = of_contents(graph).difference(&numbered).copied().collect();
    let learns = graph.descendants(trainable.iter().copied());
    let mut whole = graph.clone();
    whole.outputs = vec![output];
    let needed = whole.ancestors([output]);
    let producers = whole.producers();
    let mut features: BTreeSet<ValueId> = BTreeSet::new();
    let mut pending: Vec<ValueId> = Vec::new();
    for node in &whole.nodes {
        if node.writes().any(|id| needed.contains(&id) && learns.contains(&id)) {
            pending.extend(node.reads().filter(|id| !learns.contains(id)));
        }
    }
    let mut seen: HashSet<ValueId> = HashSet::new();
    // Sizes are those of a feature where one has them; only else does a value cross for its shape alone.
    let mut sized: Vec<ValueId> = Vec::new();
    loop {
        let Some(id) = pending.pop() else {
            let named = dim_names(&whole, &features);
            sized.retain(|id| !sizes_known(&whole, *id, &named));
            if sized.is_empty() {
                break;
            }
            pending.append(&mut sized);
            continue;
        };
        if !seen.insert(id) || whole.initializers.contains_key(&id) {
            continue;
        }
        if told.contains(&id) && per_sample(&whole, id, &batch, &other) {
            features.insert(id);
            continue;
        }
        // Not one row a sample (a shape, a position, a constant expression): computed again in the tail.
        match producers.get(&id).map(|index| &whole.nodes[*index]) {
            Some(node) if node.op == "Shape" && node.domain.is_empty() => sized.extend(node.reads()),
            Some(node) => pending.extend(node.reads()),
            None => return Err(not_per_sample(&whole, id)),
        }
    }
    if !learns.contains(&output) {
        features.insert(output);
    }
    let features = without_derived(&whole, by_their_causes(&whole, features, &batch));
    shapes_from_features(&mut whole, &features, &learns);
    let inputs: Vec<ValueId> = features.iter().chain(trainable).copied().collect();
    let mut tail = whole.extract("tail", &inputs, &[output]);
    // Gradient nodes are written for opset 17; from 13 to 17 the operators of a tail mean the same.
    tail.opset = tail.opset.max(17);
    let body_features: Vec<ValueId> = features.iter().filter(|id| !graph.inputs.contains(id)).copied().collect();
    let body = graph.extract("body", &graph.inputs, &body_features);
    let features = features.iter().map(|id| graph.value_name(*id).to_string()).collect();
    Ok(Cut { body, tail, features })
}

/// Nodes that the tail may compute again to spare a feature (those on integers, such as shapes, apart), and how many of
/// them may be expensive.
const DERIVED_NODES_MAX: usize = 12;
const DERIVED_PRODUCTS_MAX: usize = 1;
const DERIVED_WALK_MAX: usize = 100;

/// Open sizes of a sample, such as its length, for comparing what crosses.
const OPEN: u64 = 64;

/// Exchanges features for the model's inputs where these are smaller integers and a few nodes lead from them, none of which mixes what it
/// reads: a causal mask `[batch, 1, seq, seq]` follows from the mask `[batch, seq]`, an embedding from its token. The cheap cause
/// crosses, not the expensive effect.
fn by_their_causes(graph: &Graph, features: BTreeSet<ValueId>, batch: &HashSet<String>) -> BTreeSet<ValueId> {
    let producers = graph.producers();
    let mut crossing = BTreeSet::new();
    let inputs: BTreeSet<ValueId> = gathered(graph.inputs.iter().copied());
    let mixing: HashSet<ValueId> =
        graph.nodes.iter().filter(|node| mixes(graph, node)).flat_map(Node::writes).collect();
    let mixed = graph.descendants(mixing);
    let causes = |id: ValueId| -> Option<BTreeSet<ValueId>> {
        let sources = way(graph, &producers, &inputs, id).filter(|_| !mixed.contains(&id))?;
        let is_integer = |id: &ValueId| graph.ty(*id).is_some_and(|ty| !ty.dtype.is_float());
        let is_row = |id: &ValueId| is_integer(id) && per_sample(graph, *id, batch, &HashSet::new());
        let bytes: u64 = sources.iter().map(|id| bytes(graph, *id)).fold(0, u64::saturating_add);
        (!sources.is_empty() && sources.iter().all(is_row) && bytes < self::bytes(graph, id)).then_some(sources)
    };
    for id in features {
        match causes(id) {
            Some(sources) => crossing.extend(sources),
            None => {
                crossing.insert(id);
            }
        }
    }
    crossing
}

/// Whether a node is a layer's product, convolution or recurrence. A product over one number, such as that of positions and frequencies,
/// is a table.
fn mixes(graph: &Graph, node: &Node) -> bool {
    let inner = node.inputs.first().copied().flatten().and_then(|id| graph.ty(id)?.shape.as_ref()?.last()?.fixed());
    let is_table = node.op == "MatMul" && inner == Some(1);
    let is_plain = node.domain.is_empty() && !is_table;
    !node.domain.is_empty()
        || (is_plain
            && ["Conv", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"].iter().any(|op| node.op.starts_with(op)))
}

/// Bytes of a sample, where each open size counts as [`OPEN`].
fn bytes(graph: &Graph, id: ValueId) -> u64 {
    let Some(ty) = graph.ty(id) else { return u64::MAX };
    let size = |dim: &Dim| dim.fixed().unwrap_or(OPEN);
    let sizes = ty.shape.as_deref().map(|shape| shape.iter().skip(1).map(size));
    sizes.map_or(u64::MAX, |sizes| sizes.fold(ty.dtype.bits() as u64, u64::saturating_mul) / 8)
}

/// Leaves out features that a few nodes compute from others that are no larger: a layer with factors beside it reads the
/// same value that the factors read, so its own product needs no place in the cache.
fn without_derived(graph: &Graph, features: BTreeSet<ValueId>) -> Vec<ValueId> {
    let producers = graph.producers();
    let mut kept = features.clone();
    // From the top: what is left out there may have been all that a lower one was kept for.
    let mut order: Vec<(usize, ValueId)> = features.iter().filter_map(|id| Some((*producers.get(id)?, *id))).collect();
    order.sort_unstable();
    for (_, id) in order.into_iter().rev() {
        kept.remove(&id);
        if !derived(graph, &producers, &kept, id) {
            kept.insert(id);
        }
    }
    kept.into_iter().collect()
}

/// The names that the dimensions of some values have.
fn dim_names(graph: &Graph, values: &BTreeSet<ValueId>) -> HashSet<String> {
    let name = |dim: &Dim| if let Dim::Named(name) = dim { Some(name.clone()) } else { None };
    values.iter().filter_map(|id| graph.ty(*id)?.shape.as_ref()).flatten().filter_map(name).collect()
}

/// Whether each size of a value is fixed or has one of the names.
fn sizes_known(graph: &Graph, id: ValueId, names: &HashSet<String>) -> bool {
    let known = |dim: &Dim| match dim {
        Dim::Fixed(_) => true,
        Dim::Named(name) => names.contains(name),
        Dim::Unknown => false,
    };
    graph.ty(id).and_then(|ty| ty.shape.as_ref()).is_some_and(|shape| shape.iter().all(known))
}

fn derived(graph: &Graph, producers: &HashMap<ValueId, usize>, kept: &BTreeSet<ValueId>, id: ValueId) -> bool {
    let sources = way(graph, producers, kept, id);
    let smallest = sources.iter().flatten().map(|id| elements(graph, *id)).min();
    smallest.is_some_and(|smallest| smallest <= elements(graph, id))
}

/// Which of some values a value is computed from, where a few nodes do that which may be computed again.
fn way(
    graph: &Graph,
    producers: &HashMap<ValueId, usize>,
    kept: &BTreeSet<ValueId>,
    id: ValueId,
) -> Option<BTreeSet<ValueId>> {
    let named = dim_names(graph, kept);
    let (mut nodes, mut sources) = (BTreeSet::new(), BTreeSet::new());
    let mut pending = vec![id];
    while let Some(value) = pending.pop() {
        if kept.contains(&value) {
            sources.insert(value);
            continue;
        }
        if graph.initializers.contains_key(&value) {
            continue;
        }
        let index = producers.get(&value)?;
        let node = &graph.nodes[*index];
        if node.op == "Shape" && node.reads().all(|id| sizes_known(graph, id, &named)) {
            continue;
        }
        if nodes.insert(*index) && nodes.len() <= DERIVED_WALK_MAX {
            pending.extend(node.reads());
        }
    }
    let plain = |index: &usize| {
        let node = &graph.nodes[*index];
        (node.domain.is_empty() || node.op == "MatMulNBits") && !node.op.starts_with("Conv")
    };
    let product = |index: &&usize| matches!(graph.nodes[**index].op.as_str(), "MatMul" | "Gemm" | "MatMulNBits");
    let floats =
        |index: &&usize| graph.nodes[**index].writes().all(|id| graph.ty(id).is_none_or(|ty| ty.dtype.is_float()));
    let is_short = nodes.len() <= DERIVED_WALK_MAX
        && nodes.iter().filter(floats).count() <= DERIVED_NODES_MAX
        && nodes.iter().all(plain)
        && nodes.iter().filter(product).count() <= DERIVED_PRODUCTS_MAX;
    is_short.then_some(sources)
}

/// Elements of a sample, where a named size counts as one, or the largest number where a size is not known at all.
fn elements(graph: &Graph, id: ValueId) -> u64 {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Named(_) => Some(1),
        Dim::Unknown => None,
    };
    let shape = graph.ty(id).and_then(|ty| ty.shape.as_deref());
    shape.and_then(|shape| shape.iter().skip(1).map(size).product::<Option<u64>>()).unwrap_or(u64::MAX)
}

fn not_per_sample(graph: &Graph, id: ValueId) -> Error {
    let ty = graph.ty(id).map_or("type unknown".into(), ToString::to_string);
    Error::NotPerSample { value: graph.value_name(id).into(), ty }
}

/// The names that the model's inputs give to their first dimension.
pub fn batch_names(graph: &Graph) -> HashSet<String> {
    let first = |id: &ValueId| graph.ty(*id)?.shape.as_ref()?.first().cloned();
    graph
        .inputs
        .iter()
        .filter_map(first)
        .filter_map(|dim| if let Dim::Named(name) = dim { Some(name) } else { None })
        .collect()
}

/// The names that the model's inputs give to other dimensions than their first, such as a sequence.
fn other_names(graph: &Graph, batch: &HashSet<String>) -> HashSet<String> {
    let dims =
        graph.inputs.iter().filter_map(|id| graph.ty(*id)?.shape.as_deref()).flat_map(|shape| shape.iter().skip(1));
    let names = dims.filter_map(|dim| if let Dim::Named(name) = dim { Some(name.clone()) } else { None });
    names.filter(|name| !batch.contains(name)).collect()
}

/// The values that depend on what samples hold, and not on their sizes alone: tables of positions, and what frozen layers make of
/// them, are the same for all samples of a size.
fn of_contents(graph: &Graph) -> HashSet<ValueId> {
    let mut told: HashSet<ValueId> = graph.inputs.iter().copied().collect();
    for node in &graph.nodes {
        let sizes = node.domain.is_empty() && matches!(node.op.as_str(), "Shape" | "Size");
        if !sizes && node.reads().any(|id| told.contains(&id)) {
            told.extend(node.writes());
        }
    }
    told
}

/// Integers that may hold each sample's place in the batch, as PyTorch's default exporter writes `x[range(batch), last]`: the body's batches are not
/// the tail's, so what is picked by place is picked anew. A `Range` over a named dimension other than the batch counts no samples; what is
/// picked by places holds none.
fn of_places(graph: &Graph, other: &HashSet<String>) -> HashSet<ValueId> {
    let mut numbered: HashSet<ValueId> = HashSet::new();
    for node in graph.nodes.iter().filter(|node| node.domain.is_empty()) {
        let first = node.writes().next().and_then(|id| graph.ty(id)?.shape.as_ref()?.first().cloned());
        let counts = match first {
            Some(Dim::Fixed(_)) => false,
            Some(Dim::Named(name)) => !other.contains(&name),
            Some(Dim::Unknown) | None => true,
        };
        let holds = |place: usize, id: &Option<ValueId>| {
            let picks = place > 0 && node.op.starts_with("Gather");
            !picks && id.is_some_and(|id| numbered.contains(&id))
        };
        let is_size = matches!(node.op.as_str(), "Shape" | "Size");
        if (node.op == "Range" && counts)
            || (!is_size && node.inputs.iter().enumerate().any(|(place, id)| holds(place, id)))
        {
            let integer =
                |id: &ValueId| graph.ty(*id).is_some_and(|ty| matches!(ty.dtype, DType::Int64 | DType::Int32));
            numbered.extend(node.writes().filter(integer));
        }
    }
    numbered
}

/// Whether a dimension is several times the batch, as exporters write it: `4*batch`.
fn is_fold(name: &str, batch: &HashSet<String>) -> bool {
    let mut factors = name.split('*').map(str::trim);
    name.contains('*') && factors.any(|factor| batch.contains(factor))
}

/// Whether the value has one row a sample: its first dimension is the batch. Where inference has lost the batch's name,
/// a float tensor of two or more dimensions whose first is not fixed is taken for it (and checked when it is computed),
/// unless that is a dimension of another name: a row for each position (`[seq, 64]`) is no row a sample, nor is one for each
/// head of attention of each sample (`[4*batch, seq, seq]`).
fn per_sample(graph: &Graph, id: ValueId, batch: &HashSet<String>, other: &HashSet<String>) -> bool {
    let Some(ty) = graph.ty(id) else { return false };
    match ty.shape.as_deref() {
        Some([Dim::Named(name), ..]) if batch.contains(name) => true,
        Some([Dim::Named(name), ..]) if other.contains(name) || is_fold(name, batch) => false,
        Some([Dim::Named(_) | Dim::Unknown, _, ..]) => ty.dtype.is_float(),
        _ => false,
    }
}

/// Rewrites every `Shape` of a frozen value that the tail would compute again into the shape of a feature, dimension by
/// dimension, so that the value itself need not cross the cut.
fn shapes_from_features(graph: &mut Graph, features: &[ValueId], learns: &HashSet<ValueId>) {
    let mut sources: BTreeMap<String, (ValueId, i64)> = BTreeMap::new();
    for id in features {
        for (axis, dim) in graph.ty(*id).and_then(|ty| ty.shape.as_deref()).unwrap_or_default().iter().enumerate() {
            if let Dim::Named(name) = dim {
                sources.entry(name.clone()).or_insert((*id, axis as i64));
            }
        }
    }
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        let input = node.inputs.first().copied().flatten();
        let dims = input.and_then(|id| graph.ty(id)).and_then(|ty| ty.shape.clone());
        match (input, dims) {
            (Some(id), Some(dims))
                if node.op == "Shape"
                    && node.domain.is_empty()
                    && !learns.contains(&id)
                    && !features.contains(&id)
                    && dims.iter().all(|dim| match dim {
                        Dim::Fixed(_) => true,
                        Dim::Named(name) => sources.contains_key(name),
                        Dim::Unknown => false,
                    }) =>
            {
                let rank = dims.len() as i64;
                let bound = |value: i64| (if value < 0 { value + rank } else { value }).clamp(0, rank) as usize;
                let (start, end) = (bound(node.int("start", 0)), bound(node.int("end", rank)));
                write_shape(graph, &mut nodes, &node, dims.get(start..end).unwrap_or_default(), &sources);
            }
            _ => nodes.push(node),
        }
    }
    graph.nodes = nodes;
}

/// Nodes that compute `shape`'s output from the features' shapes.
fn write_shape(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    shape: &Node,
    dims: &[Dim],
    sources: &BTreeMap<String, (ValueId, i64)>,
) {
    let mut parts = Vec::new();
    for (index, dim) in dims.iter().enumerate() {
        let name = format!("{}/size_{index}", shape.name);
        parts.push(Some(match dim {
            Dim::Fixed(size) => graph.add_initializer(&name, Tensor::from_i64(&[1], &[*size as i64])),
            Dim::Named(source) => {
                let (feature, axis) = sources[source];
                let ty = crate::graph::TensorType::new(DType::Int64, vec![Dim::Fixed(1)]);
                let size = graph.add_value(&name, Some(ty));
                nodes.push(Node {
                    name: name.clone(),
                    op: "Shape".into(),
                    inputs: vec![Some(feature)],
                    outputs: vec![Some(size)],
                    attributes: [("start".into(), Attr::Int(axis)), ("end".into(), Attr::Int(axis + 1))].into(),
                    ..Node::default()
                });
                size
            }
            Dim::Unknown => unreachable!("the caller has looked"),
        }));
    }
    if parts.is_empty() {
        let empty = graph.add_initializer(&format!("{}/scalar", shape.name), Tensor::from_i64(&[0], &[]));
        parts.push(Some(empty));
    }
    nodes.push(Node {
        name: shape.name.clone(),
        op: "Concat".into(),
        inputs: parts,
        outputs: shape.outputs.clone(),
        attributes: [("axis".into(), Attr::Int(0))].into(),
        ..Node::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, TensorType};

    #[test]
    fn a_row_for_each_position_is_computed_again_and_not_handed_over() {
        let named = |names: &[&str]| names.iter().map(|name| Dim::Named((*name).into())).collect::<Vec<_>>();
        let b = Builder::new(Graph::new("rotary", 17), "");
        let x = b.input("x", TensorType::new(DType::Float, named(&["batch", "seq", "hidden"])));
        let sequence = b.op("Shape", &[x], &[("start", Attr::Int(1)), ("end", Attr::Int(2))]);
        let table = b.constant(Tensor::from_f32(&[4, 2], &[0.5; 8]));
        let angles = b.op("Slice", &[table, b.ints(&[0]), sequence, b.ints(&[0])], &[]);
        let weight = b.constant(Tensor::from_f32(&[2], &[1.0, 2.0]));
        let frozen = x.unary("Relu");
        let y = frozen * weight * angles;
        let (angles, weight, frozen, y) = (angles.id(), weight.id(), frozen.id(), y.id());
        let mut graph = b.finish();
        graph.values[angles.index()].ty = Some(TensorType::new(DType::Float, named(&["seq", "size"])));
        graph.values[frozen.index()].ty = Some(TensorType::new(DType::Float, named(&["batch", "seq", "hidden"])));
        let cut = split(&graph, &[weight], y).unwrap();
        let handed = |id: ValueId| cut.features.iter().any(|feature| feature == graph.value_name(id));
        assert!(handed(frozen) && !handed(angles), "{:?}", cut.features);
        assert!(cut.tail.nodes.iter().any(|node| node.op == "Slice"), "the table is cut in the tail");
    }

    /// A row of `[place in the batch, last token]` is right in the body's batch alone.
    #[test]
    fn what_holds_places_in_the_batch_is_computed_again() {
        let named = |names: &[&str]| names.iter().map(|name| Dim::Named((*name).into())).collect::<Vec<_>>();
        let b = Builder::new(Graph::new("last", 17), "");
        let x = b.input("x", TensorType::new(DType::Float, named(&["batch", "seq"])));
        let ids = b.input("ids", TensorType::new(DType::Int64, named(&["batch"])));
        let batch = b.op("Shape", &[x], &[("start", Attr::Int(0)), ("end", Attr::Int(1))]).squeeze(&[0]);
        let number = |value| b.constant(Tensor::from_i64(&[], &[value]));
        let places = b.op("Range", &[number(0), batch, number(1)], &[]);
        let last = ids.binary("Add", number(1));
        let pairs = b.op("Concat", &[places.unsqueeze(&[1]), last.unsqueeze(&[1])], &[("axis", Attr::Int(1))]);
        let weight = b.constant(Tensor::from_f32(&[], &[2.0]));
        let y = b.op("GatherND", &[x * weight, pairs], &[]);
        let typed = [(places, vec![Dim::Unknown]), (last, named(&["batch"])), (pairs, named(&["batch", "two"]))];
        let typed: Vec<(ValueId, Vec<Dim>)> = typed.into_iter().map(|(value, shape)| (value.id(), shape)).collect();
        let (places, pairs, weight, y) = (places.id(), pairs.id(), weight.id(), y.id());
        let mut graph = b.finish();
        for index in 0..graph.values.len() {
            if graph.values[index].ty.is_none() {
                graph.values[index].ty = Some(TensorType::new(DType::Int64, vec![Dim::Unknown, Dim::Unknown]));
            }
        }
        for (id, shape) in typed {
            graph.values[id.index()].ty = Some(TensorType::new(DType::Int64, shape));
        }
        graph.values[y.index()].ty = Some(TensorType::new(DType::Float, named(&["batch"])));
        let cut = split(&graph, &[weight], y).unwrap();
        let handed = |id: ValueId| cut.features.iter().any(|feature| feature == graph.value_name(id));
        assert!(!handed(pairs) && !handed(places), "{:?}", cut.features);
    }

    #[test]
    fn what_depends_on_sizes_alone_and_heads_folded_into_the_batch_are_no_rows() {
        let named = |names: &[&str]| names.iter().map(|name| Dim::Named((*name).into())).collect::<Vec<_>>();
        let b = Builder::new(Graph::new("positions", 17), "");
        let x = b.input("x", TensorType::new(DType::Float, named(&["batch", "seq"])));
        let sequence = b.op("Shape", &[x], &[("start", Attr::Int(1)), ("end", Attr::Int(2))]);
        let table = b.constant(Tensor::from_f32(&[4], &[0.5; 4]));
        let positions = b.op("Slice", &[table, b.ints(&[0]), sequence, b.ints(&[0])], &[]).unary("Exp");
        let folded = x.unary("Relu");
        let weight = b.constant(Tensor::from_f32(&[], &[2.0]));
        let y = folded * weight + positions * weight;
        let (positions, folded, weight, x, y) = (positions.id(), folded.id(), weight.id(), x.id(), y.id());
        let mut graph = b.finish();
        // What inference may say of them: a first size that is open, and several times the batch.
        let open = vec![Dim::Unknown, Dim::Unknown];
        graph.values[positions.index()].ty = Some(TensorType::new(DType::Float, open));
        graph.values[folded.index()].ty = Some(TensorType::new(DType::Float, named(&["4*batch", "seq"])));
        let cut = split(&graph, &[weight], y).unwrap();
        assert_eq!(cut.features, [graph.value_name(x)], "both are computed again from the input");
    }
}
