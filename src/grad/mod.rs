//! Stage 4: the tail's gradient, written as ordinary ONNX nodes.
//!
//! Takes a typed graph, one scalar output and the values to differentiate for; gives the same graph with the
//! gradient's nodes appended. The walk visits in reverse, skips what no wanted value needs, sums broadcasts back to the
//! input's shape, accumulates reuse, and adds the node's name to errors. The mathematics is in [`rules`]. Never runs
//! anything, reads no clock and no file, and never sees the batch size as a number.

mod at;
mod faster;
mod recompute;
pub mod rules;
mod segments;
mod shapes;
mod unbroadcast;

pub use at::At;
pub use faster::with_faster_nodes;
pub use recompute::{AGAIN, recompute};
pub use segments::{SEGMENT, segments};
pub use shapes::one_shape_each;

use crate::graph::{Builder, DType, Graph, Node, Val, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// What a rule gives: for each input of the node its gradient, or `None` where none flows.
pub type Grads<'b> = Result<Vec<Option<Val<'b>>>, String>;

/// A rule: from a node in its place to the gradients of its inputs.
pub type RuleFn = for<'a, 'b> fn(&At<'a, 'b>) -> Grads<'b>;

/// Whether and how a gradient passes an operator.
#[derive(Clone, Copy)]
pub enum Action {
    /// The rule gives the gradients.
    Flows(RuleFn),
    /// The output does not depend smoothly on any input: the gradient is zero and the walk goes no further.
    Stops,
    /// There is no gradient; the text says what to do instead.
    Refuses(&'static str),
}

/// One row of the table: an operator and what happens to a gradient that reaches it.
#[derive(Clone)]
pub struct Rule {
    /// The operator as ONNX spells it.
    pub op: &'static str,
    /// The operator set's domain; empty for `ai.onnx`.
    pub domain: &'static str,
    /// The opsets of `domain` that the rule is right for.
    pub opsets: RangeInclusive<i64>,
    /// What happens.
    pub action: Action,
    /// Whether the inputs broadcast: the rule's gradients then have the output's shape, and the walk sums each back to its
    /// input's.
    pub broadcasts: bool,
    /// Whether the first output, though of an integer type, stands for a real number that a gradient passes: a step of
    /// quantised arithmetic. Further outputs (a scale, a zero point) count as constants.
    pub quantises: bool,
    /// Tells what a node has that the rule knows no gradient for, and the remedy; most rules know one for every node.
    pub refusal: Option<fn(&Node) -> Option<String>>,
    /// What a user should know about it; shown by `edgetune ops`.
    pub note: &'static str,
}

impl Rule {
    /// A row for an operator of `ai.onnx` whose gradients have the inputs' shapes already.
    pub const fn new(op: &'static str, opsets: RangeInclusive<i64>, action: Action) -> Self {
        Self { op, domain: "", opsets, action, broadcasts: false, quantises: false, refusal: None, note: "" }
    }

    /// Adds what a user should know.
    pub const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Adds what tells the nodes without a gradient.
    pub const fn unless(mut self, refusal: fn(&Node) -> Option<String>) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// Puts the row into another domain than `ai.onnx`.
    pub const fn in_domain(mut self, domain: &'static str) -> Self {
        self.domain = domain;
        self
    }
}

/// Why a gradient could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operator has no rule, or its rule refuses.
    #[error("node `{node}` ({op}, opset {opset}): no gradient; {remedy}")]
    Refused {
        /// The node's name.
        node: String,
        /// Its operator, with the domain unless it is `ai.onnx`.
        op: String,
        /// The version of its operator set.
        opset: i64,
        /// What to do instead.
        remedy: String,
    },
    /// A rule needs something that the graph does not say.
    #[error("node `{node}` ({op}, opset {opset}): {reason}")]
    Rule {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// The version of its operator set.
        opset: i64,
        /// What is missing, and the remedy.
        reason: String,
    },
    /// No path leads from the loss to a parameter.
    #[error("`{value}` does not influence the loss: nothing would be learned; leave it out of setting `train`")]
    Unreached {
        /// The parameter's name.
        value: String,
    },
}

/// Rules of the application's own.
static ADDED: OnceLock<Vec<Rule>> = OnceLock::new();

/// Adds rules for operators that the table does not have, or has another rule for: these come first. They hold for the whole
/// process, so an application adds all of its rules once, before it opens a model. `examples/add_an_operator.rs` does so.
///
/// # Errors
/// Gives the rules back where others were added before.
pub fn add_rules(rules: Vec<Rule>) -> Result<(), Vec<Rule>> {
    ADDED.set(rules)
}

/// The rule for an operator, if there is one.
pub fn find(op: &str, domain: &str, opset: i64) -> Option<&'static Rule> {
    let fits = |rule: &&Rule| rule.op == op && rule.domain == domain && rule.opsets.contains(&opset);
    let rules = rules::all();
    let start = rules.partition_point(|rule| (rule.op, rule.domain) < (op, domain));
    let of_table = || rules[start..].iter().take_while(|rule| rule.op == op && rule.domain == domain).find(fits);
    ADDED.get().and_then(|added| added.iter().find(fits)).or_else(of_table)
}

/// The version of the operator set that a node belongs to.
fn opset_of(graph: &Graph, node: &Node) -> i64 {
    if node.domain.is_empty() { graph.opset } else { graph.domains.get(&node.domain).copied().unwrap_or(1) }
}

/// What stands between a node and its gradient, for `inspect`: `None` where a gradient flows.
pub fn blocked(graph: &Graph, node: &Node) -> Option<Error> {
    let opset = opset_of(graph, node);
    let rule = find(&node.op, &node.domain, opset);
    let remedy = match rule.map(|rule| rule.action) {
        Some(Action::Flows(_) | Action::Stops) => rule?.refusal?(node)?,
        Some(Action::Refuses(remedy)) => remedy.into(),
        None => {
            "no rule is known for it; cut above it with a smaller setting `train = last:N` (`edgetune ops` lists the rules)".into()
        }
    };
    Some(Error::Refused { node: node.name.clone(), op: qualified(node), opset, remedy })
}

/// The first of the [`obstacles`]: `None` where a gradient arrives. A rule may still find that the graph says too little for
/// it.
pub fn obstacle(graph: &Graph, output: ValueId, wanted: &[ValueId]) -> Option<Error> {
    obstacles(graph, output, wanted).into_iter().next()
}

/// Everything that a gradient from `output` to `wanted` would meet, without writing it: each node that refuses it, from the
/// output down and as if those above let it pass, then each wanted value that it could not reach even so.
pub fn obstacles(graph: &Graph, output: ValueId, wanted: &[ValueId]) -> Vec<Error> {
    let needed = needs_gradient(graph, &[output], wanted);
    let mut reached = HashSet::from([output]);
    let mut found = Vec::new();
    for node in graph.nodes.iter().rev() {
        if !node.writes().any(|id| reached.contains(&id)) || !node.reads().any(|id| needed.contains(&id)) {
            continue;
        }
        found.extend(blocked(graph, node));
        if !stops(graph, node) {
            reached.extend(node.reads().filter(|id| needed.contains(id)));
        }
    }
    let missed = wanted.iter().filter(|id| !reached.contains(id));
    found.extend(missed.map(|id| Error::Unreached { value: graph.value_name(*id).into() }));
    found
}

/// Operators that only move or pick elements, also those that are quantised: what is below them is not an index or a shape.
const MOVING: [&str; 8] = ["Concat", "Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// Operators that round what passes them.
const ROUNDING: [&str; 4] = ["DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "QuantizeLinear"];

/// Whether a gradient from `output` to `wanted` passes a node that rounds: it is then the straight-through estimate of
/// [`rules`], not the slope of a loss that moves in steps.
pub fn estimates(graph: &Graph, output: ValueId, wanted: ValueId) -> bool {
    let needed = needs_gradient(graph, &[output], &[wanted]);
    // At this level activations are rounded to 8 bits.
    let in_integers = |node: &Node| node.op == "MatMulNBits" && node.int("accuracy_level", 0) == 4;
    let rounding = |node: &&Node| ROUNDING.contains(&node.op.as_str()) || in_integers(node);
    graph
        .nodes
        .iter()
        .filter(rounding)
        .any(|node| node.reads().any(|id| needed.contains(&id)) && node.writes().any(|id| needed.contains(&id)))
}

fn quantises(graph: &Graph, node: &Node) -> bool {
    find(&node.op, &node.domain, opset_of(graph, node)).is_some_and(|rule| rule.quantises)
}

fn stops(graph: &Graph, node: &Node) -> bool {
    let rule = find(&node.op, &node.domain, opset_of(graph, node));
    matches!(rule.map(|rule| rule.action), Some(Action::Stops))
}

fn qualified(node: &Node) -> String {
    if node.domain.is_empty() { node.op.clone() } else { format!("{}.{}", node.domain, node.op) }
}

/// Appends the gradient of the scalar `loss` for each of `wanted`; gives the gradients' values in the same order.
/// Each has the shape and element type of the value it belongs to. Values must be typed ([`Graph::ty`]) as far as the
/// walk comes; the graph's opset must be 17 or later.
///
/// # Errors
/// A node without a gradient in the way, or a wanted value that the loss does not depend on.
pub fn differentiate<'b>(builder: &'b Builder, loss: ValueId, wanted: &[ValueId]) -> Result<Vec<Val<'b>>, Error> {
    let seed = builder.scalar(builder.val(loss).dtype(), 1.0);
    differentiate_from(builder, &[(loss, seed)], wanted)
}

/// [`differentiate`] for any outputs, each with the gradient that comes in from above (a cotangent of its shape).
///
/// # Errors
/// As [`differentiate`].
pub fn differentiate_from<'b>(
    builder: &'b Builder,
    cotangents: &[(ValueId, Val<'b>)],
    wanted: &[ValueId],
) -> Result<Vec<Val<'b>>, Error> {
    let gradients = gradients_of_all(builder, cotangents, wanted)?;
    let unreached = |id: &ValueId| Error::Unreached { value: builder.graph().value_name(*id).into() };
    wanted.iter().map(|id| gradients.get(id).copied().ok_or_else(|| unreached(id))).collect()
}

/// [`differentiate_from`], with the gradients of all values on the way; a wanted value that the outputs do not depend on has none.
///
/// # Errors
/// A node without a gradient in the way.
pub fn gradients_of_all<'b>(
    builder: &'b Builder,
    cotangents: &[(ValueId, Val<'b>)],
    wanted: &[ValueId],
) -> Result<HashMap<ValueId, Val<'b>>, Error> {
    let forward = builder.graph().clone();
    let outputs: Vec<ValueId> = cotangents.iter().map(|(value, _)| *value).collect();
    let needed = needs_gradient(&forward, &outputs, wanted);
    let mut gradients: HashMap<ValueId, Val<'b>> = HashMap::new();
    for (value, cotangent) in cotangents {
        accumulate(&mut gradients, *value, *cotangent);
    }
    for node in forward.nodes.iter().rev() {
        let reached = node.writes().any(|id| gradients.contains_key(&id));
        if !reached || !node.reads().any(|id| needed.contains(&id)) {
            continue;
        }
        for (value, gradient) in node_gradients(builder, &forward, node, &gradients, &needed)? {
            accumulate(&mut gradients, value, gradient);
        }
    }
    Ok(gradients)
}

/// The values on a smooth path from a wanted value to an output.
fn needs_gradient(graph: &Graph, outputs: &[ValueId], wanted: &[ValueId]) -> HashSet<ValueId> {
    let mut below: HashSet<ValueId> = wanted.iter().copied().collect();
    for node in &graph.nodes {
        if !stops(graph, node) && node.reads().any(|id| below.contains(&id)) {
            let smooth = |id: &ValueId| graph.ty(*id).is_none_or(|ty| ty.dtype.is_float());
            if quantises(graph, node) || MOVING.contains(&node.op.as_str()) {
                below.extend(node.writes().take(1));
            } else {
                below.extend(node.writes().filter(smooth));
            }
        }
    }
    let above = graph.ancestors(outputs.iter().copied());
    below.intersection(&above).copied().collect()
}

fn accumulate<'b>(gradients: &mut HashMap<ValueId, Val<'b>>, value: ValueId, gradient: Val<'b>) {
    gradients.entry(value).and_modify(|sum| *sum = *sum + gradient).or_insert(gradient);
}

/// Applies the node's rule and brings the result into the shapes of the node's inputs.
fn node_gradients<'b>(
    builder: &'b Builder,
    graph: &Graph,
    node: &Node,
    gradients: &HashMap<ValueId, Val<'b>>,
    needed: &HashSet<ValueId>,
) -> Result<BTreeMap<ValueId, Val<'b>>, Error> {
    if let Some(error) = blocked(graph, node) {
        return Err(error);
    }
    let opset = opset_of(graph, node);
    let failed = |reason: String| Error::Rule { node: node.name.clone(), op: qualified(node), opset, reason };
    let rule = find(&node.op, &node.domain, opset).expect("an unblocked node has a rule");
    let Action::Flows(apply) = rule.action else {
        return Ok(BTreeMap::new());
    };
    let at = At::new(builder, graph, node, gradients, needed, opset);
    let results = apply(&at).map_err(failed)?;
    let mut beyond = results.iter().skip(node.inputs.len());
    assert!(beyond.all(Option::is_none), "rule {} gave more gradients than inputs", rule.op);
    let mut sums: BTreeMap<ValueId, Val<'b>> = BTreeMap::new();
    for (index, gradient) in results.into_iter().enumerate() {
        let (Some(gradient), true) = (gradient, at.needs(index)) else { continue };
        let gradient = if rule.broadcasts { at.sum_to_input(index, gradient, 0) } else { gradient };
        let input = node.inputs[index].expect("a needed input is there");
        sums.entry(input).and_modify(|sum| *sum = *sum + gradient).or_insert(gradient);
    }
    Ok(sums)
}

/// The element types that a gradient can have on any provider.
pub fn differentiable(dtype: DType) -> bool {
    dtype.is_float()
}
