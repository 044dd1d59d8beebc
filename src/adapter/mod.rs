//! Stage 3: what learns is put into the graph and named.
//!
//! Takes a typed graph and what the user asked for; gives the graph with its classifier replaced or appended where the
//! classes demand it, and the list of parameters with their first values. Parameters are fp32 while they learn and fp16
//! at rest ([`fp16`]). Never runs anything.

pub mod fp16;
mod head;

pub use head::{AppendedHead, HeadChoice};

use crate::cut::{self, Selection};
use crate::graph::{Attr, DType, Graph, Node, Tensor, ValueId};

/// A tensor that learns. Its values live outside the graph; in the tail it is an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The value in the graph.
    pub id: ValueId,
    /// The initializer's name; names are what a delta is applied by.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
    /// What it holds before the first step.
    pub initial: Vec<f32>,
    /// Whether it belongs to a head that the base did not have and so starts from nothing.
    pub fresh: bool,
}

/// A graph ready to be cut.
#[derive(Debug, Clone)]
pub struct Adapted {
    /// The base with its head changed where needed.
    pub graph: Graph,
    /// Logits, regression values or an embedding: what the loss is computed on.
    pub output: ValueId,
    /// What learns, in the graph's order.
    pub parameters: Vec<Parameter>,
    /// The head that was appended, if the base had no classifier.
    pub head: Option<AppendedHead>,
    /// What was done to the head, for the report.
    pub head_note: String,
}

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Which of several outputs to train on; `None` takes the default.
    pub output: Option<&'a str>,
    /// `--train`, one or more.
    pub selections: &'a [Selection],
    /// The number of classes or regression values of the data; `None` keeps the model's own.
    pub width: Option<u64>,
    /// Whether to replace the model's classifier or append one.
    pub head: HeadChoice,
}

/// Why an adapter cannot be put into a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A selection that does not fit.
    #[error(transparent)]
    Cut(#[from] cut::Error),
    /// `--output` names nothing.
    #[error("--output `{name}`: the model's outputs are {known}")]
    Output {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The output cannot end in a classifier.
    #[error("output `{output}` ({ty}): {reason}")]
    Head {
        /// The output's name.
        output: String,
        /// Its type.
        ty: String,
        /// What does not fit, and the remedy.
        reason: String,
    },
    /// A delta does not fit the model.
    #[error("the delta's tensor `{name}` {reason}; is this the base that it was trained on?")]
    Delta {
        /// The tensor's name.
        name: String,
        /// What does not fit.
        reason: String,
    },
}

/// The value that a loss is computed on: the named output or the one that looks most like a result, before a final
/// softmax or sigmoid.
///
/// # Errors
/// [`Error::Output`] if the model has no such output.
pub fn output(graph: &Graph, name: Option<&str>) -> Result<ValueId, Error> {
    Ok(head::logits(graph, head::choose_output(graph, name)?))
}

/// Picks the output, replaces or appends the head, and lists the parameters.
///
/// # Errors
/// An output or selection that the model does not have; a head that cannot be changed to the wanted width.
pub fn install(mut graph: Graph, request: &Request<'_>) -> Result<Adapted, Error> {
    let output = output(&graph, request.output)?;
    let placed = head::place(&mut graph, output, request.width, request.head)?;
    let fresh: &[ValueId] = if placed.fresh { &placed.weights } else { &[] };
    let mut selections = request.selections.to_vec();
    if selections.is_empty() {
        selections.push(Selection::Head);
    }
    let mut chosen = cut::select(&graph, placed.output, &selections, fresh)?;
    if selections.contains(&Selection::Head) && !placed.weights.is_empty() {
        let missing: Vec<ValueId> = placed.weights.iter().filter(|id| !chosen.contains(id)).copied().collect();
        chosen.extend(missing);
    }
    Ok(adapted(graph, placed.output, &chosen, fresh, placed.appended, placed.note))
}

/// What a delta says of one of its tensors, enough to rebuild the tail that it was learned in.
#[derive(Debug, Clone)]
pub struct Learned<'a> {
    /// The initializer's name.
    pub name: &'a str,
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
}

/// Rebuilds the adapted graph from what a delta names, instead of from a selection.
///
/// # Errors
/// A tensor that the model does not have, or in another shape where the shape is not the head's width.
pub fn from_delta(
    mut graph: Graph,
    output: &str,
    appended: Option<&AppendedHead>,
    learned: &[Learned<'_>],
) -> Result<Adapted, Error> {
    let mut output = graph.find(output).ok_or_else(|| Error::Output {
        name: output.into(),
        known: "others; the delta belongs to another model".into(),
    })?;
    if let Some(appended) = appended {
        output = head::append(&mut graph, output, appended.classes)?.0;
    }
    let mut chosen = Vec::new();
    for tensor in learned {
        let delta = |reason: String| Error::Delta { name: tensor.name.into(), reason };
        let id = graph.find(tensor.name).ok_or_else(|| delta("is not in the model".into()))?;
        let known = graph.initializers.get(&id).ok_or_else(|| delta("is not an initializer of the model".into()))?;
        if known.shape != tensor.shape {
            let differing = known.shape.iter().zip(&tensor.shape).filter(|(a, b)| a != b).count();
            if known.shape.len() != tensor.shape.len() || differing != 1 {
                return Err(delta(format!("has shape {:?}, the model's has {:?}", tensor.shape, known.shape)));
            }
            head::resize(&mut graph, id, &tensor.shape);
        }
        chosen.push(id);
    }
    head::forget_widths(&mut graph, output);
    Ok(adapted(graph, output, &chosen, &[], appended.cloned(), String::new()))
}

fn adapted(
    mut graph: Graph,
    output: ValueId,
    chosen: &[ValueId],
    fresh: &[ValueId],
    head: Option<AppendedHead>,
    head_note: String,
) -> Adapted {
    let parameters = chosen.iter().map(|id| parameter(&graph, *id, fresh.contains(id))).collect();
    for id in chosen {
        learn_in_fp32(&mut graph, *id);
    }
    graph.outputs = vec![output];
    Adapted { graph, output, parameters, head, head_note }
}

fn parameter(graph: &Graph, id: ValueId, fresh: bool) -> Parameter {
    let tensor = &graph.initializers[&id];
    Parameter {
        id,
        name: graph.value_name(id).into(),
        shape: tensor.shape.clone(),
        initial: tensor.to_f32().expect("only float tensors are selected"),
        fresh,
    }
}

/// Parameters are fp32. Where the base computes in another float type, a `Cast` behind the parameter keeps its readers
/// as they are.
fn learn_in_fp32(graph: &mut Graph, id: ValueId) {
    let dtype = graph.initializers[&id].dtype;
    if dtype == DType::Float {
        return;
    }
    let mut ty = graph.initializers[&id].ty();
    let name = graph.value_name(id).to_string();
    let cast = graph.add_value(&format!("{name}/cast"), Some(ty.clone()));
    for node in &mut graph.nodes {
        node.inputs.iter_mut().filter(|input| **input == Some(id)).for_each(|input| *input = Some(cast));
    }
    graph.nodes.insert(
        0,
        Node {
            name: format!("{name}/cast"),
            op: "Cast".into(),
            inputs: vec![Some(id)],
            outputs: vec![Some(cast)],
            attributes: [("to".into(), Attr::Int(dtype.onnx().into()))].into(),
            ..Node::default()
        },
    );
    ty.dtype = DType::Float;
    let values = graph.initializers[&id].to_f32().expect("a float tensor");
    let shape = graph.initializers[&id].shape.clone();
    graph.initializers.insert(id, Tensor::from_vec(&shape, values));
    graph.values[id.index()].ty = Some(ty);
}
