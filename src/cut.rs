//! Stage 2: what learns, and the cut below it.
//!
//! Takes a typed graph; says which weights a selection such as `last:2` names, and splits the graph into the frozen body
//! (whose outputs, the *features*, are computed once per sample) and the tail that holds everything that learns. Never
//! reads a file, never runs anything.

use crate::graph::{Attr, DType, Dim, Graph, Node, Tensor, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a user asks to train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// `head`: the classifier alone.
    Head,
    /// `last:N`: the N last layers that hold weights.
    Last(usize),
    /// A pattern with `*` and `?` over node and initializer names.
    Names(String),
}

impl Selection {
    /// Reads `head`, `last:N` or a name pattern.
    ///
    /// # Errors
    /// [`Error::Spec`] for `last:` without a positive number, or nothing at all.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let spec = || Error::Spec { text: text.into() };
        match text.split_once(':') {
            _ if text == "head" => Ok(Selection::Head),
            Some(("last", count)) => match count.parse() {
                Ok(count) if count > 0 => Ok(Selection::Last(count)),
                _ => Err(spec()),
            },
            _ if text.is_empty() => Err(spec()),
            _ => Ok(Selection::Names(text.into())),
        }
    }
}

/// Why a selection or a cut is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a selection.
    #[error("--train `{text}`: expected `head`, `last:N` with N ≥ 1, or a name pattern such as '*layer.5*'")]
    Spec {
        /// What was given.
        text: String,
    },
    /// A pattern that names nothing.
    #[error("--train `{pattern}`: no node or initializer with weights has such a name; `edgetune inspect` lists them")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// Nothing in the model can learn.
    #[error(
        "{made_by} makes output `{output}`, and below it the model holds no layer with weights that a gradient could \
         change; {remedy}"
    )]
    NoLayers {
        /// The output's name.
        output: String,
        /// The node that holds what was learned elsewhere, or else the last one.
        made_by: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A value crosses the cut that is not one row a sample.
    #[error(
        "value `{value}` ({ty}) crosses the cut, but its first dimension is not the batch, so it cannot be kept per \
         sample; train more layers (--train last:N with a larger N) or fewer, so that the cut lies elsewhere"
    )]
    NotPerSample {
        /// The value's name.
        value: String,
        /// Its type.
        ty: String,
    },
}

/// A node that holds learnable weights, with the bias that an exporter wrote as a node of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Index of the node in [`Graph::nodes`].
    pub node: usize,
    /// The learnable initializers: weight, bias, scale.
    pub weights: Vec<ValueId>,
}

/// The layers that hold weights and that `output` depends on, in topological order.
pub fn layers(graph: &Graph, output: ValueId) -> Vec<Layer> {
    let needed = graph.ancestors([output]);
    let producers = graph.producers();
    let mut layers: Vec<Layer> = Vec::new();
    let mut layer_of_node: HashMap<usize, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if !node.writes().any(|id| needed.contains(&id)) {
            continue;
        }
        // `MatMul` + `Add` of a vector is one linear layer.
        let below = node.inputs.iter().flatten().find_map(|id| layer_of_node.get(producers.get(id)?).copied());
        let single = below.is_some_and(|layer: usize| gives_one(graph, &graph.nodes[layers[layer].node]));
        let mut weights = learnable(graph, &producers, node);
        if node.domain.is_empty() && ELEMENTWISE.contains(&node.op.as_str()) {
            // A lone number is a setting of the model (a scale, an ε), unless it is the bias of a single output.
            weights.retain(|id| graph.initializers[id].len() > 1 || (node.op == "Add" && single));
            weights.retain(|id| is_vector(graph, *id) || !whole_numbers(&graph.initializers[id]));
        }
        if weights.is_empty() {
            continue;
        }
        match below {
            Some(layer) if node.op == "Add" && is_vector(graph, weights[0]) => layers[layer].weights.extend(weights),
            _ => {
                layer_of_node.insert(index, layers.len());
                layers.push(Layer { node: index, weights });
            }
        }
    }
    layers
}

/// Operators that combine a weight with each element; beside layers they serve as scale and bias, and much else.
const ELEMENTWISE: [&str; 4] = ["Add", "Mul", "Sub", "Div"];

/// Whether a `MatMul` has a weight of one column.
fn gives_one(graph: &Graph, node: &Node) -> bool {
    let weight = node.inputs.get(1).copied().flatten().and_then(|id| graph.initializers.get(&id));
    node.op == "MatMul" && weight.is_some_and(|tensor| tensor.shape.last() == Some(&1))
}

/// A grid of positions or a mask, as detectors add to what they decode: nobody learned that.
fn whole_numbers(tensor: &Tensor) -> bool {
    tensor.to_f32().is_some_and(|values| values.iter().all(|value| value.fract() == 0.0))
}

/// A bias: one dimension that is not 1.
pub fn is_vector(graph: &Graph, id: ValueId) -> bool {
    graph.initializers.get(&id).is_some_and(|tensor| tensor.shape.iter().filter(|size| **size > 1).count() <= 1)
}

/// The initializers that a node learns with: floats in a weight's place.
fn learnable(graph: &Graph, producers: &HashMap<ValueId, usize>, node: &Node) -> Vec<ValueId> {
    let places: &[usize] = match node.op.as_str() {
        "Gemm"
        | "Conv"
        | "ConvTranspose"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "BatchNormalization"
        | "RMSNormalization"
        | "Attention" => &[1, 2],
        "MatMul" | "FusedMatMul" | "Add" | "Mul" | "Sub" | "Div" => &[0, 1],
        "PRelu" | "SimplifiedLayerNormalization" | "BiasGelu" | "FastGelu" => &[1],
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => &[2, 3, 4],
        "MultiHeadAttention" => &[3],
        "EmbedLayerNormalization" => &[2, 3, 4, 5, 6],
        // A class token is expanded to the batch.
        "Gather" | "Expand" => &[0],
        // Named by selections, so that the refusal of their gradient is met and not a silent gap.
        "LSTM" | "GRU" | "RNN" => &[1, 2, 3],
        _ => &[],
    };
    places
        .iter()
        .filter_map(|place| node.inputs.get(*place).copied().flatten())
        .filter_map(|id| constant_source(graph, producers, id))
        .filter(|id| graph.initializers[id].dtype.is_float())
        .collect()
}

/// The initializer behind a value, through nodes that only view or convert it.
pub fn constant_source(graph: &Graph, producers: &HashMap<ValueId, usize>, mut id: ValueId) -> Option<ValueId> {
    while !graph.initializers.contains_key(&id) {
        let node = &graph.nodes[*producers.get(&id)?];
        if !matches!(node.op.as_str(), "Cast" | "Identity" | "Transpose" | "Reshape" | "Unsqueeze" | "Squeeze") {
            return None;
        }
        id = node.inputs.first().copied().flatten()?;
    }
    Some(id)
}

/// The initializers that the selections name, each once, in the graph's order. `head` gives the classifier's weights
/// where the model has one.
///
/// # Errors
/// A pattern that matches nothing; a model without weights.
pub fn select(
    graph: &Graph,
    output: ValueId,
    selections: &[Selection],
    head: &[ValueId],
) -> Result<Vec<ValueId>, Error> {
    let layers = layers(graph, output);
    if layers.is_empty() {
        return Err(no_layers(graph, output));
    }
    let mut chosen: BTreeSet<ValueId> = head.iter().copied().collect();
    for selection in selections {
        match selection {
            Selection::Head if head.is_empty() => chosen.extend(&layers[layers.len() - 1].weights),
            Selection::Head => {}
            Selection::Last(count) => {
                chosen.extend(layers.iter().rev().take(*count).flat_map(|layer| layer.weights.iter().copied()));
            }
            Selection::Names(pattern) => chosen.extend(matching(graph, &layers, pattern)?),
        }
    }
    let order = layers.iter().flat_map(|layer| layer.weights.iter().copied());
    let mut seen = HashSet::new();
    Ok(order.filter(|id| chosen.contains(id) && seen.insert(*id)).collect())
}

/// Classical models keep what they learned in attributes of `ai.onnx.ml` nodes, which nothing can be fed into.
fn no_layers(graph: &Graph, output: ValueId) -> Error {
    let needed = graph.ancestors([output]);
    let mut below = graph.nodes.iter().filter(|node| node.writes().any(|id| needed.contains(&id)));
    let classical = |node: &&Node| {
        node.domain == "ai.onnx.ml" && ["Linear", "SVM", "Tree"].iter().any(|kind| node.op.starts_with(kind))
    };
    let named = |node: &Node| format!("node `{}` ({})", node.name, node.op);
    let (made_by, remedy) = match below.clone().find(classical) {
        Some(node) => (
            named(node),
            "its weights are attributes: export the model with weights as tensors (from scikit-learn an MLPClassifier or \
             MLPRegressor instead), or append a head with --classes N to one of its float inputs with --output",
        ),
        None => (
            below.next_back().map_or("nothing".into(), named),
            "choose another output with --output, or append a head with --classes N and --head append",
        ),
    };
    Error::NoLayers { output: graph.value_name(output).into(), made_by, remedy }
}

fn matching(graph: &Graph, layers: &[Layer], pattern: &str) -> Result<Vec<ValueId>, Error> {
    let mut found = Vec::new();
    for layer in layers {
        let whole = glob(pattern, &graph.nodes[layer.node].name);
        found.extend(layer.weights.iter().filter(|id| whole || glob(pattern, graph.value_name(**id))));
    }
    if found.is_empty() { Err(Error::NoMatch { pattern: pattern.into() }) } else { Ok(found) }
}

/// Whether `name` matches `pattern`, where `*` stands for any run of characters and `?` for one.
pub fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

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
    while let Some(id) = pending.pop() {
        if !seen.insert(id) || whole.initializers.contains_key(&id) {
            continue;
        }
        if per_sample(&whole, id, &batch, &other) {
            features.insert(id);
            continue;
        }
        // Not one row a sample (a shape, a position, a constant expression): computed again in the tail.
        match producers.get(&id) {
            Some(index) => pending.extend(whole.nodes[*index].reads()),
            None => return Err(not_per_sample(&whole, id)),
        }
    }
    if !learns.contains(&output) {
        features.insert(output);
    }
    let features = without_derived(&whole, features);
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

fn derived(graph: &Graph, producers: &HashMap<ValueId, usize>, kept: &BTreeSet<ValueId>, id: ValueId) -> bool {
    let named: HashSet<&Dim> = kept.iter().filter_map(|id| graph.ty(*id)?.shape.as_ref()).flatten().collect();
    let known = |dim: &Dim| matches!(dim, Dim::Fixed(_)) || (matches!(dim, Dim::Named(_)) && named.contains(dim));
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
        let Some(index) = producers.get(&value) else { return false };
        let node = &graph.nodes[*index];
        let read = node.inputs.first().copied().flatten().and_then(|id| graph.ty(id)?.shape.as_ref());
        if node.op == "Shape" && read.is_some_and(|shape| shape.iter().all(known)) {
            continue;
        }
        if nodes.insert(*index) && nodes.len() <= DERIVED_WALK_MAX {
            pending.extend(node.reads());
        }
    }
    let plain = |index: &usize| graph.nodes[*index].domain.is_empty() && !graph.nodes[*index].op.starts_with("Conv");
    let product = |index: &&usize| matches!(graph.nodes[**index].op.as_str(), "MatMul" | "Gemm");
    let smallest = sources.iter().map(|id| elements(graph, *id)).min();
    let floats =
        |index: &&usize| graph.nodes[**index].writes().all(|id| graph.ty(id).is_none_or(|ty| ty.dtype.is_float()));
    nodes.len() <= DERIVED_WALK_MAX
        && nodes.iter().filter(floats).count() <= DERIVED_NODES_MAX
        && nodes.iter().all(plain)
        && nodes.iter().filter(product).count() <= DERIVED_PRODUCTS_MAX
        && smallest.is_some_and(|smallest| smallest <= elements(graph, id))
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

/// Whether the value has one row a sample: its first dimension is the batch. Where inference has lost the batch's name,
/// a float tensor of two or more dimensions whose first is not fixed is taken for it (and checked when it is computed),
/// unless that is a dimension of another name: a row for each position (`[seq, 64]`) is no row a sample.
fn per_sample(graph: &Graph, id: ValueId, batch: &HashSet<String>, other: &HashSet<String>) -> bool {
    let Some(ty) = graph.ty(id) else { return false };
    match ty.shape.as_deref() {
        Some([Dim::Named(name), ..]) if batch.contains(name) => true,
        Some([Dim::Named(name), ..]) if other.contains(name) => false,
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

    #[test]
    fn selections_are_read_or_refused() {
        assert_eq!(Selection::parse("head"), Ok(Selection::Head));
        assert_eq!(Selection::parse("last:3"), Ok(Selection::Last(3)));
        assert_eq!(Selection::parse("*layer.5*"), Ok(Selection::Names("*layer.5*".into())));
        for bad in ["", "last:0", "last:", "last:x", "last:-1"] {
            assert!(Selection::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, name) in
            [("*", ""), ("a*c", "abbc"), ("*.5.*", "x.5.y"), ("?b", "ab"), ("a**", "a"), ("/l/x", "/l/x")]
        {
            assert!(glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("a", ""), ("a*c", "abcd"), ("?", "ab"), ("*.5.*", "x.55.y")] {
            assert!(!glob(pattern, name), "{pattern} {name}");
        }
    }
}
