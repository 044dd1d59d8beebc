//! Models whose file fixes the batch, as `torch.onnx.export(model, (x,), "m.onnx")` writes them: freed, so that they take any number
//! of samples.
//!
//! Each value's sizes are known, so the batch is followed from the inputs through every node: where it stands among the sizes of
//! what the node gives, and which sizes that the file holds as numbers (of a `Reshape`, an `Expand`, a recurrent layer's first state)
//! are the batch. Those are rewritten. What is not understood on the way leaves the model as it is, with the node's name.

mod carry;
mod numbers;
mod sizes;

use crate::graph::{Dim, Graph, Node, TensorType, ValueId};
use carry::Carry;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The name of the dimension that is freed.
const BATCH: &str = "batch";

/// Why a model stays as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baked {
    /// The batch of the example that the model was exported with.
    pub batch: u64,
    /// The node that a batch of another size cannot pass; empty where it is an output.
    pub node: String,
    /// What is in the way, a clause behind the node's name.
    pub problem: String,
}

impl fmt::Display for Baked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node.is_empty() {
            true => f.write_str(&self.problem),
            false => write!(f, "node {} {}", self.node, self.problem),
        }
    }
}

/// The batch that the file fixes: the first size of all inputs. `None` where one of them is open or another, or where a vector
/// may be something else.
pub fn baked_batch(graph: &Graph) -> Option<u64> {
    let shapes = graph.inputs.iter().map(|id| graph.ty(*id)?.shape.as_deref());
    let first = |shape: Option<&[Dim]>| match shape {
        Some([Dim::Fixed(1)]) => Some(1),
        Some([Dim::Fixed(size), _, ..]) => Some(*size),
        _ => None,
    };
    let mut batches = shapes.map(first);
    let batch = batches.next()??;
    batches.all(|other| other == Some(batch)).then_some(batch)
}

/// A size that follows from the batch: its value and axis, and what it is called.
pub type Freed = (ValueId, usize, Dim);

/// Frees the batch of a graph whose values are all typed, for a batch that [`baked_batch`] gives. Types of what nodes give are to be
/// inferred anew afterwards; inference loses the batch at a `Reshape` to −1, so that [`name_freed`] is to tell it then.
///
/// # Errors
/// What is in the way; the graph is then not to be used.
pub fn free_batch(graph: &mut Graph, batch: u64) -> Result<Vec<Freed>, Baked> {
    let mut choices = Choices::default();
    let mut first = None;
    for _ in 0..ATTEMPTS {
        let mut tried = graph.clone();
        match attempt(&mut tried, batch, &mut choices) {
            Ok(freed) => {
                *graph = tried;
                return Ok(freed);
            }
            Err(baked) => {
                let baked = first.get_or_insert(baked);
                if !choices.next() {
                    return Err(baked.clone());
                }
            }
        }
    }
    Err(first.expect("an attempt has failed"))
}

/// Puts the batch's name where inference has lost it: several rows a sample are called so, `6*batch`.
pub fn name_freed(graph: &mut Graph, freed: Vec<Freed>) {
    for (id, axis, dim) in freed {
        let shape = graph.values[id.index()].ty.as_mut().and_then(|ty| ty.shape.as_mut());
        if let Some(known) = shape.and_then(|shape| shape.get_mut(axis)).filter(|known| known.fixed().is_none()) {
            *known = dim;
        }
    }
}

/// How often a batch of 1, which may stand in several places, is followed anew.
const ATTEMPTS: usize = 32;

/// Which of several possible places were taken for the batch, in the order of the nodes; every way that reaches the outputs is right,
/// for each step keeps a sample's numbers together.
#[derive(Debug, Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    made: usize,
}

impl Choices {
    /// The place to take of so many.
    fn next_of(&mut self, count: usize) -> usize {
        if self.made == self.taken.len() {
            self.taken.push((0, count));
        }
        self.made += 1;
        self.taken[self.made - 1].0
    }

    /// The next way: the last choice before the failure is made otherwise. `false` if there is none.
    fn next(&mut self) -> bool {
        self.taken.truncate(self.made);
        self.made = 0;
        while let Some((place, count)) = self.taken.last_mut() {
            *place += 1;
            if *place < *count {
                return true;
            }
            self.taken.pop();
        }
        false
    }
}

fn attempt(graph: &mut Graph, batch: u64, choices: &mut Choices) -> Result<Vec<Freed>, Baked> {
    let nodes = std::mem::take(&mut graph.nodes);
    let inputs = graph.inputs.clone();
    let reached = descendants(&nodes, &inputs);
    let carries = inputs.iter().map(|id| (*id, ROWS)).collect();
    let room = Vec::with_capacity(nodes.len());
    let (sized, flat, pairs) = (HashSet::new(), HashMap::new(), HashMap::new());
    let mut walk = Walk { graph, batch, carries, choices, sized, flat, pairs, size: None, nodes: room };
    for node in nodes {
        let name = format!("`{}` ({})", node.name, node.op);
        walk.visit(node).map_err(|problem| Baked { batch, node: name, problem })?;
    }
    let Walk { carries, mut nodes, pairs, flat, .. } = walk;
    // What numbered the samples is read by nobody now.
    let read: HashSet<ValueId> = nodes.iter().flat_map(Node::reads).collect();
    let numbers = |id: &ValueId| (pairs.contains_key(id) || flat.contains_key(id)) && !read.contains(id);
    nodes.retain(|node| !node.writes().any(|id| numbers(&id)));
    graph.nodes = nodes;
    for id in graph.outputs.iter().filter(|id| reached.contains(id)) {
        if carries.get(id) != Some(&ROWS) {
            let problem = format!("output `{}` has no row a sample", graph.value_name(*id));
            return Err(Baked { batch, node: String::new(), problem });
        }
    }
    for id in inputs {
        if let Some(TensorType { shape: Some(shape), .. }) = &mut graph.values[id.index()].ty {
            shape[0] = Dim::Named(BATCH.into());
        }
    }
    let written: Vec<ValueId> = graph.nodes.iter().flat_map(Node::writes).collect();
    for id in written {
        graph.values[id.index()].ty = None;
    }
    let named = |(id, carry): (ValueId, Carry)| {
        let name = match carry.outer * carry.inner {
            1 => BATCH.to_string(),
            several => format!("{several}*{BATCH}"),
        };
        (id, carry.axis, Dim::Named(name))
    };
    Ok(carries.into_iter().map(named).collect())
}

/// A row for each sample.
const ROWS: Carry = Carry { axis: 0, outer: 1, inner: 1 };

/// All values that depend on the roots.
fn descendants(nodes: &[Node], roots: &[ValueId]) -> HashSet<ValueId> {
    let mut reached: HashSet<ValueId> = roots.iter().copied().collect();
    for node in nodes {
        if node.reads().any(|id| reached.contains(&id)) {
            reached.extend(node.writes());
        }
    }
    reached
}

/// A graph on the way.
struct Walk<'g> {
    graph: &'g mut Graph,
    batch: u64,
    /// Where the batch stands, of values that have a row a sample.
    carries: HashMap<ValueId, Carry>,
    choices: &'g mut Choices,
    /// Numbers that are computed from the sizes of such values: at run time they are right by themselves.
    sized: HashSet<ValueId>,
    /// Places among the rows of all samples, one sample's after the other: the places within a sample, and a sample's length.
    flat: HashMap<ValueId, (ValueId, u64)>,
    /// Pairs of a sample's number and a place within it: the places.
    pairs: HashMap<ValueId, ValueId>,
    /// The batch's size at run time, a vector of one number.
    size: Option<ValueId>,
    nodes: Vec<Node>,
}

impl Walk<'_> {
    fn visit(&mut self, mut node: Node) -> Result<(), String> {
        let carried = node.reads().any(|id| self.carries.contains_key(&id));
        let sized = node.reads().any(|id| self.sized.contains(&id));
        if carried || sized {
            self.follow(&mut node, carried)?;
        }
        self.nodes.push(node);
        Ok(())
    }

    fn follow(&mut self, node: &mut Node, carried: bool) -> Result<(), String> {
        match node.op.as_str() {
            "Shape" | "Size" => {
                self.sized.extend(node.writes());
                return Ok(());
            }
            "Expand" => return self.expand(node),
            "ConstantOfShape" if !carried => {
                let sizes = self.gives(node)?;
                self.exchange_sizes(node, 0, &sizes, |_, size| size);
                return Ok(());
            }
            op if !carried && (SIZE_ARITHMETIC.contains(&op) || carry::ELEMENTWISE.contains(&op)) => {
                self.sized.extend(node.writes());
                return Ok(());
            }
            _ if !carried => return Err("is made for the sizes of a batch".into()),
            "Add" if self.places_of_all(node) => return Ok(()),
            "Concat" if self.pairs_of_all(node) => return Ok(()),
            _ => {}
        }
        // Both hold the numbers of the samples in the file's own batch, so that only who picks by them may read them. One zero that is
        // added is no harm.
        let numbered = |id: ValueId| {
            (self.pairs.contains_key(&id) && node.op != "GatherND")
                || (self.batch > 1 && self.flat.contains_key(&id) && node.op != "Gather")
        };
        if node.reads().any(numbered) {
            return Err(carry::MIXES.into());
        }
        let carry = self.carry_of(node)?;
        for id in node.writes() {
            self.carries.insert(id, carry);
        }
        self.recurrent_outputs(node, carry);
        Ok(())
    }

    /// One of several places that the batch may have.
    fn choice(&mut self, places: &[Carry]) -> Option<Carry> {
        match places {
            [] => None,
            [one] => Some(*one),
            several => Some(several[self.choices.next_of(several.len())]),
        }
    }

    /// The sizes of a value.
    fn shape(&self, id: ValueId) -> Result<Vec<u64>, String> {
        let unknown = || format!("has `{}`, whose sizes are not known", self.graph.value_name(id));
        self.graph.ty(id).and_then(TensorType::fixed_shape).ok_or_else(unknown)
    }

    /// The sizes of a node's first output.
    fn gives(&self, node: &Node) -> Result<Vec<u64>, String> {
        self.shape(node.writes().next().ok_or("gives nothing")?)
    }

    /// A constant's integers.
    fn integers(&self, node: &Node, input: usize) -> Option<Vec<i64>> {
        let id = node.inputs.get(input).copied().flatten()?;
        self.graph.initializers.get(&id)?.to_i64()
    }
}

/// Operators that compute sizes from sizes, besides the elementwise ones.
const SIZE_ARITHMETIC: [&str; 9] =
    ["Concat", "Gather", "Range", "ReduceProd", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Attr, Builder, DType, Tensor};

    fn fixed(sizes: &[u64]) -> TensorType {
        TensorType::new(DType::Float, sizes.iter().map(|size| Dim::Fixed(*size)).collect())
    }

    /// Heads split off behind the batch in the second place, as `nn.MultiheadAttention` does: `[4, B, 6]` → `[4, 2·B, 3]`.
    fn heads(batch: u64) -> (Graph, ValueId) {
        let b = Builder::new(Graph::new("heads", 17), "");
        let x = b.input("x", fixed(&[batch, 4, 6]));
        let first = b.op("Transpose", &[x], &[("perm", Attr::Ints(vec![1, 0, 2]))]);
        let split = b.op("Reshape", &[first, b.ints(&[4, 2 * batch as i64, 3])], &[]);
        let joined = b.op("Reshape", &[split, b.ints(&[4 * batch as i64, 6])], &[]);
        let back = b.op("Reshape", &[joined, b.ints(&[4, batch as i64, 6])], &[]);
        let y = b.op("Transpose", &[back], &[("perm", Attr::Ints(vec![1, 0, 2]))]);
        let typed = [
            (first, vec![4, batch, 6]),
            (split, vec![4, 2 * batch, 3]),
            (joined, vec![4 * batch, 6]),
            (back, vec![4, batch, 6]),
        ];
        let mut typed: Vec<_> = typed.into_iter().map(|(value, sizes)| (value.id(), sizes)).collect();
        typed.push((y.id(), vec![batch, 4, 6]));
        let y = y.id();
        let mut graph = b.finish();
        graph.outputs = vec![y];
        for (id, sizes) in typed {
            graph.values[id.index()].ty = Some(fixed(&sizes));
        }
        (graph, y)
    }

    #[test]
    fn the_batch_is_followed_through_reshapes() {
        for batch in [1, 3] {
            let (mut graph, _) = heads(batch);
            assert_eq!(baked_batch(&graph), Some(batch));
            free_batch(&mut graph, batch).unwrap();
            let targets: Vec<Vec<i64>> = graph
                .nodes
                .iter()
                .filter(|node| node.op == "Reshape")
                .map(|node| graph.initializers[&node.inputs[1].unwrap()].to_i64().unwrap())
                .collect();
            assert_eq!(targets, [vec![4, -1, 3], vec![-1, 6], vec![4, -1, 6]], "a batch of {batch}");
            assert_eq!(graph.ty(graph.inputs[0]).unwrap().to_string(), "float[batch,4,6]");
        }
    }

    #[test]
    fn what_mixes_samples_is_named() {
        let b = Builder::new(Graph::new("mean", 17), "");
        let x = b.input("x", fixed(&[2, 4]));
        let mean = b.op("ReduceMean", &[x], &[("axes", Attr::Ints(vec![0])), ("keepdims", Attr::Int(1))]);
        let y = (x - mean).id();
        let mean = mean.id();
        let mut graph = b.finish();
        graph.outputs = vec![y];
        graph.values[mean.index()].ty = Some(fixed(&[1, 4]));
        graph.values[y.index()].ty = Some(fixed(&[2, 4]));
        let baked = free_batch(&mut graph, 2).unwrap_err();
        assert!(baked.node.contains("ReduceMean") && baked.problem.contains("mixes"), "{baked:?}");
    }

    #[test]
    fn a_file_without_one_batch_fixes_none() {
        let graph = |shapes: &[&[u64]]| {
            let mut graph = Graph::new("g", 17);
            for sizes in shapes {
                graph.add_input("x", fixed(sizes));
            }
            graph
        };
        assert_eq!(baked_batch(&graph(&[&[1, 3], &[1, 5]])), Some(1));
        assert_eq!(baked_batch(&graph(&[&[2, 3], &[1, 5]])), None);
        assert_eq!(baked_batch(&graph(&[&[4]])), None);
        assert_eq!(baked_batch(&graph(&[&[]])), None);
        assert_eq!(baked_batch(&graph(&[])), None);
    }

    #[test]
    fn a_table_without_samples_is_repeated_for_each() {
        let b = Builder::new(Graph::new("kinds", 17), "");
        let places = b.input("places", TensorType::new(DType::Int64, vec![Dim::Fixed(1), Dim::Fixed(4)]));
        let table = b.constant(Tensor::from_f32(&[1, 6], &[0.5; 6]));
        let y = b.op("GatherElements", &[table, places], &[("axis", Attr::Int(1))]).id();
        let mut graph = b.finish();
        graph.outputs = vec![y];
        graph.values[y.index()].ty = Some(fixed(&[1, 4]));
        free_batch(&mut graph, 1).unwrap();
        let ops: Vec<&str> = graph.nodes.iter().map(|node| node.op.as_str()).collect();
        assert_eq!(ops, ["Shape", "Gather", "Concat", "Expand", "GatherElements"]);
    }

    /// `[1, 6, 3]` filled up to whole windows of 4 by pads that are computed from its own sizes, and a mask that is repeated for as many samples
    /// as `Shape` tells, as torch's older exporter writes Swin.
    #[test]
    fn pads_of_sizes_are_settled_and_a_mask_is_repeated_by_them() {
        let b = Builder::new(Graph::new("windows", 17), "");
        let x = b.input("x", fixed(&[1, 6, 3]));
        let length = x.shape().gather(b.ints(&[1]), 0);
        let rest = b.op("Mod", &[length, b.ints(&[4])], &[]);
        let missing = b.op("Mod", &[b.ints(&[4]) - rest, b.ints(&[4])], &[]);
        let pads = b.op("Concat", &[b.ints(&[0, 0, 0, 0]), missing, b.ints(&[0])], &[("axis", Attr::Int(0))]);
        let padded = b.op("Pad", &[x, pads], &[]);
        let samples = padded.shape().gather(b.ints(&[0]), 0);
        let sizes = b.op("Concat", &[samples, b.ints(&[-1, -1])], &[("axis", Attr::Int(0))]);
        let kept = b.op("Equal", &[sizes, b.ints(&[-1])], &[]);
        let sizes = b.op("Where", &[kept, b.ints(&[1, 1, 1]), sizes], &[]);
        let mask = b.constant(Tensor::from_f32(&[1, 8, 3], &[0.5; 24]));
        let mask = b.op("Expand", &[mask, sizes], &[]);
        let y = padded + mask;
        let typed: Vec<(ValueId, Vec<u64>)> =
            [(padded, vec![1, 8, 3]), (mask, vec![1, 8, 3]), (y, vec![1, 8, 3]), (sizes, vec![3]), (kept, vec![3])]
                .map(|(value, sizes)| (value.id(), sizes))
                .into();
        let one: Vec<ValueId> = [length, rest, missing, samples].map(|value| value.id()).into();
        let y = y.id();
        let mut graph = b.finish();
        graph.outputs = vec![y];
        for (id, sizes) in typed.into_iter().chain(one.into_iter().map(|id| (id, vec![1]))) {
            graph.values[id.index()].ty = Some(fixed(&sizes));
        }
        // b.ints(4) − rest
        for id in graph.nodes.iter().flat_map(Node::writes).collect::<Vec<_>>() {
            if graph.ty(id).is_none_or(|ty| ty.shape.is_none()) {
                graph.values[id.index()].ty = Some(fixed(&[1]));
            }
        }
        free_batch(&mut graph, 1).unwrap();
        let of = |op: &str| graph.nodes.iter().find(|node| node.op == op).unwrap();
        let pads = of("Pad").inputs[1].unwrap();
        assert_eq!(graph.initializers[&pads].to_i64(), Some(vec![0, 0, 0, 0, 2, 0]));
        assert!(!graph.initializers.contains_key(&of("Expand").inputs[1].unwrap()), "as many as there are samples");
    }

    /// Two windows of two pixels of each of two pictures, and a mask that is written out for both: the same for each, or not.
    #[test]
    fn masks_of_a_samples_windows_are_repeated_for_every_sample() {
        let windows = |masks: [f32; 4]| {
            let b = Builder::new(Graph::new("windows", 17), "");
            let x = b.input("x", fixed(&[2, 4]));
            let split = b.op("Reshape", &[x, b.ints(&[4, 2])], &[]);
            let mask: Vec<f32> = masks.iter().flat_map(|value| [*value, 0.0]).collect();
            let masked = split + b.constant(Tensor::from_f32(&[4, 2], &mask));
            let y = b.op("Reshape", &[masked, b.ints(&[2, 4])], &[]);
            let typed = [(split.id(), [4, 2]), (masked.id(), [4, 2]), (y.id(), [2, 4])];
            let y = y.id();
            let mut graph = b.finish();
            graph.outputs = vec![y];
            for (id, sizes) in typed {
                graph.values[id.index()].ty = Some(fixed(&sizes));
            }
            graph
        };
        let mut same = windows([1.0, 2.0, 1.0, 2.0]);
        free_batch(&mut same, 2).unwrap();
        let ops: Vec<&str> = same.nodes.iter().map(|node| node.op.as_str()).collect();
        assert_eq!(ops, ["Reshape", "Shape", "Gather", "Concat", "Expand", "Reshape", "Add", "Reshape"]);
        let of_one = same.nodes.iter().find(|node| node.op == "Expand").and_then(|node| node.inputs[0]).unwrap();
        assert_eq!(same.initializers[&of_one].to_f32(), Some(vec![1.0, 0.0, 2.0, 0.0]));
        let baked = free_batch(&mut windows([1.0, 2.0, 1.0, 3.0]), 2).unwrap_err();
        assert!(baked.node.contains("Add") && baked.problem.contains("rows for each sample"), "{baked:?}");
    }

    #[test]
    fn a_class_token_is_repeated_for_every_sample() {
        let b = Builder::new(Graph::new("token", 17), "");
        let x = b.input("x", fixed(&[1, 4, 6]));
        let token = b.constant(Tensor::from_f32(&[1, 1, 6], &[0.5; 6]));
        let y = b.op("Concat", &[token, x], &[("axis", Attr::Int(1))]).id();
        let mut graph = b.finish();
        graph.outputs = vec![y];
        graph.values[y.index()].ty = Some(fixed(&[1, 5, 6]));
        free_batch(&mut graph, 1).unwrap();
        let ops: Vec<&str> = graph.nodes.iter().map(|node| node.op.as_str()).collect();
        assert_eq!(ops, ["Shape", "Gather", "Concat", "Expand", "Concat"]);
    }
}
