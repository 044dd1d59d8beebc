//! Segments: whole layers that the gradient computes again instead of keeping their inside (Chen, Xu, Zhang and Guestrin 2016,
//! "Training deep nets with sublinear memory cost").
//!
//! The forward part is cut where little crosses: between layers that is the residual stream. What crosses is kept, and what lies between
//! two cuts is made again from it when the gradient arrives there. Chosen are the cuts at which what is kept and the largest inside are
//! least together. The last segment is not made again: its gradient follows at once.

use crate::graph::{Attr, DType, Dim, Graph, Node, Tensor, TensorType, ValueId};
use crate::order::gathered;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What the names of nodes begin with that make a segment again.
pub const SEGMENT: &str = "edgetune.segment/";

/// What an open dimension is taken for where sizes are compared.
const OPEN: u64 = 64;
/// Values with fewer numbers in their fixed dimensions, and at most two open ones, are kept: means, deviations, sizes.
const NARROW: u64 = 64;
/// Bounds on a segment's inside that are tried, each this much larger than the one before.
const GROWTH: f64 = 1.3;
/// What is saved has to be more than this share of what would be kept, or nothing is computed again.
const SAVED_MIN: f64 = 0.2;

/// Lets nodes whose name begins with `backward` read what segments of the forward part make again. `gradients` are those of forward
/// values. The values are the same, since they are made by the same nodes. A graph in which nothing can be saved stays as it is.
pub fn segments(graph: &mut Graph, backward: &str, gradients: &HashMap<ValueId, ValueId>) {
    let forward = Forward::new(graph, backward, gradients);
    let cuts = forward.cuts(graph);
    if cuts.is_empty() {
        return;
    }
    let kept: HashSet<ValueId> = cuts.iter().flat_map(|cut| forward.crossing[cut].iter().copied()).collect();
    let mut written = graph.clone();
    let mut start = None;
    for cut in cuts {
        Segment::new(&forward, &kept, start, cut).write(&mut written, backward, gradients);
        start = Some(cut);
    }
    // A gradient that comes from beyond its segment would be a circle: nothing is made again then.
    if written.sort().is_ok() {
        *graph = written;
    }
}

/// The forward part as a row of nodes.
struct Forward {
    /// All nodes of the graph, as they were.
    nodes: Vec<Node>,
    /// Indices of its nodes that depend on what is fed, in order; a position below is an index into this.
    row: Vec<usize>,
    /// The node of every value.
    producers: HashMap<ValueId, usize>,
    /// The position at which a value is written.
    at: HashMap<ValueId, usize>,
    /// Values that the gradient reads.
    read: HashSet<ValueId>,
    /// For positions that may be cuts: the wide values that are read behind them.
    crossing: BTreeMap<usize, Vec<ValueId>>,
    /// The value at such a position whose gradient tells that the segment's time has come.
    gates: HashMap<usize, ValueId>,
    /// Bytes up to each position of what the gradient reads.
    read_bytes: Vec<u64>,
}

impl Forward {
    fn new(graph: &Graph, backward: &str, gradients: &HashMap<ValueId, ValueId>) -> Self {
        let is_backward = |node: &Node| node.name.starts_with(backward);
        let fed = graph.descendants(graph.inputs.iter().copied());
        let in_row = |node: &Node| !is_backward(node) && node.writes().any(|id| fed.contains(&id));
        let row: Vec<usize> = (0..graph.nodes.len()).filter(|index| in_row(&graph.nodes[*index])).collect();
        let read: HashSet<ValueId> =
            graph.nodes.iter().filter(|node| is_backward(node) && !sizes(node)).flat_map(Node::reads).collect();
        let mut at = HashMap::new();
        let mut readers: HashMap<ValueId, (usize, usize)> = HashMap::new();
        for (position, index) in row.iter().enumerate() {
            let node = &graph.nodes[*index];
            at.extend(node.writes().map(|id| (id, position)));
            for id in node.reads().filter(|_| !sizes(node)) {
                readers.entry(id).or_insert((position, position)).1 = position;
            }
        }
        let bytes =
            |node: &Node| node.writes().filter(|id| read.contains(id)).map(|id| wide_bytes(graph, id)).sum::<u64>();
        let read_bytes = row
            .iter()
            .scan(0, |sum, index| {
                *sum += bytes(&graph.nodes[*index]);
                Some(*sum)
            })
            .collect();
        let (nodes, producers) = (graph.nodes.clone(), graph.producers());
        let mut forward =
            Self { nodes, row, producers, at, read, crossing: BTreeMap::new(), gates: HashMap::new(), read_bytes };
        forward.find_cuts(graph, &readers, gradients);
        forward
    }

    /// The positions at which fewer bytes cross than before and behind them, and a gradient arrives.
    fn find_cuts(
        &mut self,
        graph: &Graph,
        readers: &HashMap<ValueId, (usize, usize)>,
        gradients: &HashMap<ValueId, ValueId>,
    ) {
        let mut live: BTreeSet<ValueId> = BTreeSet::new();
        let mut ending: HashMap<usize, Vec<ValueId>> = HashMap::new();
        let mut before: Option<(usize, u64, Vec<ValueId>)> = None;
        let mut falls = true;
        for (position, index) in self.row.iter().enumerate() {
            for id in graph.nodes[*index].writes().filter(|id| wide_bytes(graph, *id) > 0) {
                if let Some((_, last)) = readers.get(&id) {
                    live.insert(id);
                    ending.entry(*last).or_default().push(id);
                }
            }
            ending.remove(&position).into_iter().flatten().for_each(|id| {
                live.remove(&id);
            });
            let bytes = live.iter().map(|id| wide_bytes(graph, *id)).sum();
            if let Some((position, known, values)) = before.take() {
                let is_least = falls && bytes >= known;
                falls = if bytes == known { falls && !is_least } else { bytes < known };
                if is_least {
                    let told = |id: &&ValueId| gradients.contains_key(id) && readers[id].0 > position;
                    if let Some(gate) = values.iter().filter(told).max_by_key(|id| self.at[id]) {
                        self.gates.insert(position, *gate);
                        self.crossing.insert(position, values);
                    }
                }
            }
            before = Some((position, bytes, live.iter().copied().collect()));
        }
    }

    /// The cuts at which what is kept and the largest inside are least together; none where that saves too little.
    fn cuts(&self, graph: &Graph) -> Vec<usize> {
        let whole = self.read_bytes.last().copied().unwrap_or(0);
        let places: Vec<usize> = self.crossing.keys().copied().collect();
        let mut best: (u64, Vec<usize>) = (whole - (whole as f64 * SAVED_MIN) as u64, Vec::new());
        let mut bound = whole as f64;
        while let Some((kept, largest, cuts)) = self.cuts_within(graph, &places, bound as u64) {
            if kept + largest < best.0 {
                best = (kept + largest, cuts);
            }
            bound = (bound / GROWTH).min(largest as f64 - 1.0);
            if bound < 1.0 {
                break;
            }
        }
        best.1
    }

    /// The cuts that keep least where no inside has more than `bound` bytes: what is kept, the largest inside, the cuts.
    fn cuts_within(&self, graph: &Graph, places: &[usize], bound: u64) -> Option<(u64, u64, Vec<usize>)> {
        // For each place: the least that is kept up to it, the place before, the largest inside so far.
        let mut ways: Vec<Option<(u64, Option<usize>, u64)>> = Vec::with_capacity(places.len());
        for (index, place) in places.iter().enumerate() {
            let mut way: Option<(u64, Option<usize>, u64)> = None;
            for before in std::iter::once(None).chain((0..index).map(Some)) {
                let Some((kept, _, largest)) = before.map_or(Some((0, None, 0)), |before| ways[before]) else {
                    continue;
                };
                let (new, inside) = self.between(graph, before.map(|before| places[before]), *place);
                if inside <= bound && way.is_none_or(|(least, ..)| kept + new < least) {
                    way = Some((kept + new, before, largest.max(inside)));
                }
            }
            ways.push(way);
        }
        let whole = self.read_bytes.last().copied().unwrap_or(0);
        let behind = |index: usize| whole - self.read_bytes[places[index]];
        let ends = (0..places.len()).filter(|index| behind(*index) <= bound);
        let end = ends.filter_map(|index| Some((ways[index]?, index))).min_by_key(|((kept, ..), _)| *kept);
        let ((kept, _, largest), mut index) = end?;
        let largest = largest.max(behind(index));
        let mut cuts = vec![places[index]];
        while let Some(before) = ways[index].and_then(|(_, before, _)| before) {
            cuts.insert(0, places[before]);
            index = before;
        }
        Some((kept, largest, cuts))
    }

    /// Bytes that a segment's end keeps anew, and bytes inside of it that the gradient reads.
    fn between(&self, graph: &Graph, start: Option<usize>, end: usize) -> (u64, u64) {
        let new = self.crossing[&end].iter().filter(|id| start.is_none_or(|start| self.at[id] > start));
        let (mut kept, mut kept_and_read) = (0, 0);
        for id in new {
            let bytes = wide_bytes(graph, *id);
            kept += bytes;
            kept_and_read += if self.read.contains(id) { bytes } else { 0 };
        }
        let inside = self.read_bytes[end] - start.map_or(0, |start| self.read_bytes[start]);
        (kept, inside.saturating_sub(kept_and_read))
    }
}

/// One segment while it is written again.
struct Segment<'f> {
    forward: &'f Forward,
    kept: &'f HashSet<ValueId>,
    start: Option<usize>,
    end: usize,
    /// Values made again by those that they stand for.
    made: HashMap<ValueId, ValueId>,
    /// Nodes that depend on weights alone, which come first, and all others.
    constant: Vec<Node>,
    nodes: Vec<Node>,
    /// A vector of one zero that is there when the gradient is.
    zero: Option<ValueId>,
}

impl<'f> Segment<'f> {
    fn new(forward: &'f Forward, kept: &'f HashSet<ValueId>, start: Option<usize>, end: usize) -> Self {
        let (made, constant, nodes) = (HashMap::new(), Vec::new(), Vec::new());
        Self { forward, kept, start, end, made, constant, nodes, zero: None }
    }

    /// Writes what the gradient reads of the segment's inside again, before the first node that reads it.
    fn write(&mut self, graph: &mut Graph, backward: &str, gradients: &HashMap<ValueId, ValueId>) {
        let first = self.start.map_or(0, |start| start + 1);
        let forward = self.forward;
        let written = (first..=self.end).flat_map(|position| forward.nodes[forward.row[position]].writes());
        let inside: BTreeSet<ValueId> =
            gathered(written.filter(|id| forward.read.contains(id) && self.is_again(graph, *id)));
        let gradient = gradients[&forward.gates[&self.end]];
        for id in &inside {
            self.again(graph, gradient, *id);
        }
        let reads = |node: &Node| {
            node.name.starts_with(backward) && !sizes(node) && node.reads().any(|id| inside.contains(&id))
        };
        let Some(place) = graph.nodes.iter().position(reads) else { return };
        for node in graph.nodes.iter_mut().filter(|node| reads(node)) {
            let captures = node.attributes.values_mut().flat_map(Attr::captures_mut);
            for id in node.inputs.iter_mut().flatten().chain(captures).filter(|id| inside.contains(id)) {
                *id = self.made[id];
            }
        }
        graph.nodes.splice(place..place, self.constant.drain(..).chain(self.nodes.drain(..)));
    }

    /// Whether a value is made again: it is wide, it does not cross a cut, and its node can be repeated.
    fn is_again(&self, graph: &Graph, id: ValueId) -> bool {
        let can = self.forward.producers.get(&id).is_some_and(|index| {
            let node = &self.forward.nodes[*index];
            node.attributes.values().all(|attribute| attribute.captures().is_empty())
        });
        can && !self.kept.contains(&id) && wide_bytes(graph, id) > 0
    }

    /// The value made again, with the nodes that it takes.
    fn again(&mut self, graph: &mut Graph, gradient: ValueId, id: ValueId) -> ValueId {
        if let Some(made) = self.made.get(&id) {
            return *made;
        }
        let position = self.forward.at.get(&id).copied();
        let is_constant = position.is_none() && self.forward.producers.contains_key(&id);
        if (position.is_some() || is_constant) && self.is_again_here(graph, id, position) {
            let mut node = self.forward.nodes[self.forward.producers[&id]].clone();
            for input in node.inputs.iter_mut().flatten() {
                *input = self.again(graph, gradient, *input);
            }
            for output in node.outputs.iter_mut().flatten() {
                let made =
                    graph.add_value(&format!("{SEGMENT}{}", graph.value_name(*output)), graph.ty(*output).cloned());
                self.made.insert(*output, made);
                *output = made;
            }
            node.name = format!("{SEGMENT}{}", node.name);
            if is_constant {
                self.constant.push(node)
            } else {
                self.nodes.push(node)
            }
            return self.made[&id];
        }
        let is_weight = graph.initializers.contains_key(&id);
        if is_weight || is_constant || wide_bytes(graph, id) == 0 {
            return id;
        }
        let gated = self.gated(graph, gradient, id);
        self.made.insert(id, gated);
        gated
    }

    /// Whether a value is made again in this segment; what depends on weights alone is, in each.
    fn is_again_here(&self, graph: &Graph, id: ValueId, position: Option<usize>) -> bool {
        let inside = position.is_none_or(|at| at <= self.end && self.start.is_none_or(|start| at > start));
        inside && self.is_again(graph, id)
    }

    /// The value, but not before the gradient is there: viewed in its own shape, to which a zero is added that is made of the gradient.
    /// ONNX Runtime would make the segment again at once else, and keep it.
    fn gated(&mut self, graph: &mut Graph, gradient: ValueId, id: ValueId) -> ValueId {
        let zero = match self.zero {
            Some(zero) => zero,
            None => {
                let none = graph.add_initializer(&format!("{SEGMENT}none"), Tensor::from_i64(&[1], &[0]));
                let size = self.node(graph, "Size", vec![gradient], Some(TensorType::new(DType::Int64, Vec::new())));
                let one = Some(TensorType::new(DType::Int64, vec![Dim::Fixed(1)]));
                let zero = self.node(graph, "Mul", vec![size, none], one);
                *self.zero.insert(zero)
            }
        };
        let ty = graph.ty(id).cloned();
        let rank = ty.as_ref().and_then(TensorType::rank);
        let sizes = rank.map(|rank| TensorType::new(DType::Int64, vec![Dim::Fixed(rank as u64)]));
        let shape = self.node(graph, "Shape", vec![id], sizes.clone());
        let shape = self.node(graph, "Add", vec![shape, zero], sizes);
        self.node(graph, "Reshape", vec![id, shape], ty)
    }

    fn node(&mut self, graph: &mut Graph, op: &str, inputs: Vec<ValueId>, ty: Option<TensorType>) -> ValueId {
        let output = graph.add_value(&format!("{SEGMENT}{op}"), ty);
        let name = graph.value_name(output).to_string();
        let inputs = inputs.into_iter().map(Some).collect();
        self.nodes.push(Node { name, op: op.into(), inputs, outputs: vec![Some(output)], ..Node::default() });
        output
    }
}

/// Whether a node reads sizes alone.
fn sizes(node: &Node) -> bool {
    node.domain.is_empty() && matches!(node.op.as_str(), "Shape" | "Size")
}

/// Bytes of a value, as far as its type tells; 0 for what is kept anyway, since it is narrow.
fn wide_bytes(graph: &Graph, id: ValueId) -> u64 {
    let Some(ty) = graph.ty(id) else { return 0 };
    let Some(shape) = ty.shape.as_deref() else { return 0 };
    let fixed: u64 = shape.iter().filter_map(Dim::fixed).product();
    let open = shape.iter().filter(|dim| dim.fixed().is_none()).count();
    if fixed < NARROW && open <= 2 {
        return 0;
    }
    let elements = fixed.saturating_mul(OPEN.saturating_pow(open as u32));
    elements.saturating_mul(ty.dtype.bits() as u64) / 8
}
