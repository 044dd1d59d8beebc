//! A language model's loss in slices: the output layer and the cross-entropy of some tokens at a time, forward and gradient together, so
//! that `[tokens, vocabulary]` never exists (as in Liger's fused linear cross-entropy and Cut Cross-Entropy, arXiv 2411.09009).
//!
//! The part between the last narrow value and the logits treats each token alone. It becomes the step of a loop over slices of the tokens,
//! which hands the loss on as a sum and gives the narrow value's gradient. What else of it learns has its gradients summed up, too.

use super::names::{LABELS, LOSS};
use crate::data::IGNORED;
use crate::grad;
use crate::graph::{Attr, Builder, DType, Dim, Graph, Node, Steps, Tensor, TensorType, Val, ValueId};
use crate::task::Loss;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// Bytes of the logits of one slice.
const SLICE_BYTES: u64 = 8 << 20;
/// The fewest tokens of a slice: a product over fewer rows reads its weight for little.
const ROWS_MIN: u64 = 32;
/// Vocabularies below this many tokens have logits that are no larger than other values.
const WIDTH_MIN: u64 = 1024;
/// Numbers of a learned value whose gradient is summed up from slice to slice, at most.
const SUMMED_MAX: u64 = 4 << 20;
/// Nodes between the narrow value and the logits, at most.
const NODES_MAX: usize = 32;
/// The name of a slice's open dimension.
const ROWS: &str = "edgetune.slice";

/// A graph with its loss.
#[derive(Debug)]
pub struct WithLoss {
    /// Its first output is the loss.
    pub graph: Graph,
    /// Where gradients come from: values with theirs. Empty: the loss, whose gradient is 1.
    pub gradients: Vec<(ValueId, ValueId)>,
}

/// The rows of a slice for a vocabulary of that many tokens.
pub fn rows_of(width: u64) -> u64 {
    (SLICE_BYTES / (4 * width.max(1))).max(ROWS_MIN)
}

/// Appends the loss in slices of at most `rows` tokens to a typed tail; `None` where it is another loss, or the logits are not made of each
/// token alone. `learned` are the tail's parameters, `labels` the type of the labels.
pub fn with_loss(tail: &Graph, loss: &Loss, learned: &[ValueId], labels: TensorType, rows: u64) -> Option<WithLoss> {
    let part = Part::find(tail, loss)?;
    let depends = tail.descendants(learned.iter().copied());
    let summed: Vec<ValueId> = part.captured.iter().copied().filter(|id| depends.contains(id)).collect();
    let size =
        |id: &ValueId| tail.ty(*id).and_then(TensorType::fixed_shape).map_or(u64::MAX, |shape| shape.iter().product());
    if summed.iter().any(|id| size(id) > SUMMED_MAX) {
        return None;
    }
    let mut graph = tail.clone();
    graph.name = "step".into();
    graph.outputs.clear();
    let builder = Builder::new(graph, "edgetune.step/");
    let labels = builder.input(LABELS, labels).reshape_to(&[-1]);
    let ignored = builder.constant(Tensor::from_i64(&[], &[IGNORED]));
    let counted = labels.equal(ignored).select(builder.scalar(DType::Float, 0.0), builder.scalar(DType::Float, 1.0));
    let total = builder.op("Max", &[counted.sum_all(), builder.scalar(DType::Float, 1.0)], &[]);
    let sliced = Sliced::new(&builder, builder.val(part.source), labels, (part.width, rows));
    let mut states = vec![builder.scalar(DType::Float, 0.0)];
    states.extend(summed.iter().map(|id| {
        let zero = Tensor { shape: vec![1], ..Tensor::float_scalar(DType::Float, 0.0) };
        builder.op("ConstantOfShape", &[builder.val(*id).shape()], &[("value", Attr::Tensor(zero))])
    }));
    let mut whole = vec![total];
    whole.extend(part.captured.iter().map(|id| builder.val(*id)));
    let failed = RefCell::new(false);
    let over = Steps { states: &states, sequences: &[sliced.values, sliced.labels], whole: &whole, backwards: false };
    let given = builder.scan(over, |sums, elements, whole| {
        part.step(tail, &summed, (sums, elements, whole)).unwrap_or_else(|| {
            failed.replace(true);
            (sums.to_vec(), vec![elements[0]])
        })
    });
    if failed.into_inner() {
        return None;
    }
    builder.output(LOSS, given[0] / total);
    let gradient = sliced.joined(&builder, given[states.len()], builder.val(part.source));
    let mut gradients = vec![(part.source, gradient.id())];
    gradients.extend(summed.iter().zip(&given[1..]).map(|(id, sum)| (*id, sum.id())));
    Some(WithLoss { graph: builder.finish(), gradients })
}

/// The step of a loop over slices, of the size that it has for the bound labels of a graph; `None` for any other node.
pub fn of_a_loss(graph: &Graph, node: &Node) -> Option<Graph> {
    let Some(Attr::Body { graph: body, .. }) = node.attributes.get("body") else { return None };
    let tokens: u64 = graph.ty(graph.find(LABELS)?)?.fixed_shape()?.iter().product();
    let is_open = |dim: &Dim| *dim == Dim::Named(ROWS.into());
    let shapes = || body.values.iter().filter_map(|value| value.ty.as_ref()?.shape.as_ref());
    let width =
        shapes().filter(|shape| shape.first().is_some_and(is_open)).filter_map(|shape| shape.get(1)?.fixed()).max()?;
    let slices = tokens.div_ceil(rows_of(width)).max(1);
    let mut sized = body.as_ref().clone();
    let dims = sized.values.iter_mut().filter_map(|value| value.ty.as_mut()?.shape.as_mut()).flatten();
    dims.filter(|dim| is_open(dim)).for_each(|dim| *dim = Dim::Fixed(tokens.div_ceil(slices)));
    Some(sized)
}

/// The tokens' values and labels in slices of equal length.
struct Sliced<'b> {
    /// `[slices, rows, width]`
    values: Val<'b>,
    /// `[slices, rows]`
    labels: Val<'b>,
    /// The number of tokens, a vector of one.
    count: Val<'b>,
    width: i64,
}

impl<'b> Sliced<'b> {
    /// As few slices as `rows` tokens each allow, as even as they can be; the last one is filled up with tokens that do not count.
    fn new(builder: &'b Builder, values: Val<'b>, labels: Val<'b>, (width, rows): (u64, u64)) -> Self {
        let ints = |value: i64| builder.ints(&[value]);
        let count = labels.shape();
        let slices = (count + ints(rows as i64 - 1)) / ints(rows as i64);
        let rows = (count + slices - ints(1)) / slices;
        let missing = slices * rows - count;
        let joined = |parts: &[Val<'b>]| builder.op("Concat", parts, &[("axis", Attr::Int(0))]);
        let width = width as i64;
        let zero = builder.scalar(values.dtype(), 0.0);
        let pads = joined(&[builder.ints(&[0, 0]), missing, ints(0)]);
        let values = builder.op("Pad", &[values.reshape_to(&[-1, width]), pads, zero], &[]);
        let ignored = builder.constant(Tensor::from_i64(&[], &[IGNORED]));
        let labels = builder.op("Pad", &[labels, joined(&[ints(0), missing]), ignored], &[]);
        let values = values.reshape(joined(&[ints(-1), rows, ints(width)]));
        Self { values, labels: labels.reshape(joined(&[ints(-1), rows])), count, width }
    }

    /// What each slice has given for its rows, in the shape of `like`.
    fn joined(&self, builder: &'b Builder, given: Val<'b>, like: Val<'b>) -> Val<'b> {
        let flat = given.reshape_to(&[-1, self.width]);
        let (zero, axis) = (builder.ints(&[0]), builder.ints(&[0]));
        builder.op("Slice", &[flat, zero, self.count, axis], &[]).reshape(like.shape())
    }
}

/// The part of a tail that makes logits of each token alone.
struct Part {
    /// The narrow value that it starts from, `[batch, sequence, width]`.
    source: ValueId,
    width: u64,
    /// Its nodes, in order.
    nodes: Vec<Node>,
    /// What it reads besides, of fixed shape.
    captured: Vec<ValueId>,
    logits: ValueId,
}

impl Part {
    fn find(tail: &Graph, loss: &Loss) -> Option<Self> {
        let logits = *tail.outputs.first()?;
        let vocabulary = columns(tail, logits)?;
        if *loss != Loss::NextToken || vocabulary < WIDTH_MIN {
            return None;
        }
        let producers = tail.producers();
        let mut nodes: BTreeMap<usize, Node> = BTreeMap::new();
        let mut captured: Vec<ValueId> = Vec::new();
        // Values of each token that are still to be made, by the nodes that make them: the last one is looked at first.
        let mut open: BTreeMap<Option<usize>, ValueId> = [(producers.get(&logits).copied(), logits)].into();
        while nodes.len() < NODES_MAX {
            let (index, id) = open.pop_last()?;
            let narrow = columns(tail, id).filter(|width| width * 2 <= vocabulary);
            if let (true, Some(width)) = (open.is_empty(), narrow) {
                let nodes = nodes.into_values().collect();
                return Some(Self { source: id, width, nodes, captured, logits });
            }
            let node = &tail.nodes[index?];
            for (place, input) in node.inputs.iter().enumerate() {
                let Some(input) = *input else { continue };
                if columns(tail, input).is_some() && keeps_rows(node, place) {
                    open.insert(producers.get(&input).copied(), input);
                } else if stands_beside(tail, node, place, input) {
                    captured.push(input);
                } else {
                    return None;
                }
            }
            nodes.insert(index?, node.clone());
        }
        None
    }

    /// One slice: the next sums, and the gradient of the slice's values.
    fn step<'i>(
        &self,
        tail: &Graph,
        summed: &[ValueId],
        (sums, elements, whole): (&[Val<'i>], &[Val<'i>], &[Val<'i>]),
    ) -> Option<(Vec<Val<'i>>, Vec<Val<'i>>)> {
        let builder = elements[0].builder();
        let mut ids: HashMap<ValueId, Val<'i>> =
            self.captured.iter().copied().zip(whole[1..].iter().copied()).collect();
        for (id, value) in &ids {
            builder.give_type(*value, tail.ty(*id)?.clone());
        }
        builder.give_type(elements[0], of_rows(tail, self.source)?);
        builder.give_type(elements[1], TensorType::new(DType::Int64, vec![Dim::Named(ROWS.into())]));
        ids.insert(self.source, elements[0]);
        for node in &self.nodes {
            let inputs: Vec<Option<Val<'i>>> =
                node.inputs.iter().map(|id| id.and_then(|id| ids.get(&id).copied())).collect();
            let attributes: Vec<(&str, Attr)> =
                node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            let output = builder.node_of(&node.domain, &node.op, &inputs, 1, &attributes)[0];
            let id = node.writes().next()?;
            builder.give_type(output, of_rows(tail, id)?);
            ids.insert(id, output);
        }
        let logits = ids[&self.logits];
        let (loss, gradient) = cross_entropy(builder, logits, elements[1], whole[0]);
        let wanted: Vec<ValueId> =
            std::iter::once(elements[0]).chain(summed.iter().map(|id| ids[id])).map(Val::id).collect();
        let gradients = grad::differentiate_from(builder, &[(logits.id(), gradient)], &wanted).ok()?;
        let added = sums[1..].iter().zip(&gradients[1..]).map(|(sum, gradient)| *sum + *gradient);
        Some((std::iter::once(sums[0] + loss).chain(added).collect(), vec![gradients[0]]))
    }
}

/// Σ −log softmax(logits)\[label\] over the rows that count, and (softmax(logits) − 1 at the label) / total, the logits' gradient.
fn cross_entropy<'i>(builder: &'i Builder, logits: Val<'i>, labels: Val<'i>, total: Val<'i>) -> (Val<'i>, Val<'i>) {
    let ignores = labels.equal(builder.constant(Tensor::from_i64(&[], &[IGNORED])));
    let (zero, one) = (builder.scalar(DType::Float, 0.0), builder.scalar(DType::Float, 1.0));
    let counts = ignores.select(zero, one).unsqueeze(&[1]);
    // Any token will do where none counts: its weight is 0.
    let tokens = ignores.select(builder.constant(Tensor::from_i64(&[], &[0])), labels).unsqueeze(&[1]);
    let axis = |axis: i64| [("axis", Attr::Int(axis))];
    let log = builder.op("LogSoftmax", &[logits.cast(DType::Float)], &axis(-1));
    let picked = builder.op("GatherElements", &[log, tokens], &axis(1));
    let less = picked.exp() - 1.0;
    let gradient = builder.op("ScatterElements", &[log.exp(), tokens, less], &axis(1)) * (counts / total);
    (-((picked * counts).sum_all()), gradient.cast(logits.dtype()))
}

/// Whether a node treats the rows of that input each alone, and leaves them where they are.
fn keeps_rows(node: &Node, place: usize) -> bool {
    match (node.domain.as_str(), node.op.as_str()) {
        ("", "Add" | "Sub" | "Mul" | "Div") => true,
        ("", "MatMul" | "Cast" | "Identity" | "Tanh" | "Neg") | ("com.microsoft", "MatMulNBits") => place == 0,
        _ => false,
    }
}

/// Whether an input is the same for all rows.
fn stands_beside(tail: &Graph, node: &Node, place: usize, input: ValueId) -> bool {
    let rank = tail.ty(input).and_then(TensorType::fixed_shape).map(|shape| shape.len());
    match (node.domain.as_str(), node.op.as_str()) {
        ("", "Add" | "Sub" | "Mul" | "Div") => rank.is_some_and(|rank| rank <= 1),
        ("", "MatMul") => place == 1 && rank == Some(2),
        ("com.microsoft", "MatMulNBits") => place > 0 && rank.is_some(),
        _ => false,
    }
}

/// The fixed last dimension of a value of each token, `[batch, sequence, columns]`.
fn columns(graph: &Graph, id: ValueId) -> Option<u64> {
    match graph.ty(id)?.shape.as_deref()? {
        [_, _, columns] if graph.ty(id)?.dtype.is_float() => columns.fixed(),
        _ => None,
    }
}

/// The type of a slice of a value of each token.
fn of_rows(graph: &Graph, id: ValueId) -> Option<TensorType> {
    let columns = columns(graph, id)?;
    Some(TensorType::new(graph.ty(id)?.dtype, vec![Dim::Named(ROWS.into()), Dim::Fixed(columns)]))
}
