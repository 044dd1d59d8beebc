//! The step graph: tail + loss + gradients, as one ONNX graph.
//!
//! Features, labels and parameters in; loss, logits and one gradient a parameter out. The optimiser is not in it.

use super::loss::Loss;
pub use super::names::{LABELS, LOSS};
use super::slices::{self, WithLoss};
use crate::adapter::{Parameter, Positions};
use crate::grad;
use crate::graph::{Attr, Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val, ValueId};
use std::collections::HashMap;

/// Name of the input with the answers that are kept to, of the output's shape.
pub const TEACHER: &str = "edgetune.teacher";

/// What the names of the nodes begin with that decide the order of running.
const ORDER: &str = "edgetune.order/";

/// What the names of the gradients' nodes begin with.
pub const BACKWARD: &str = "edgetune.backward/";

/// The name of the output that holds a parameter's gradient.
pub fn gradient_name(parameter: &str) -> String {
    format!("edgetune.gradient/{parameter}")
}

/// Why there is no step graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A gradient is missing.
    #[error(transparent)]
    Grad(#[from] grad::Error),
    /// The user's own loss is of another operator set, and a node is not brought to the later one.
    #[error(
        "node `{node}`: the loss is of operator set {of_loss}, what learns of {of_tail}, and this node differs; export both with the same opset_version"
    )]
    Opsets {
        /// The node's name.
        node: String,
        /// The loss's operator set.
        of_loss: i64,
        /// The tail's.
        of_tail: i64,
    },
    /// The user's own loss is of an output of another shape.
    #[error(
        "output `{name}` ({ty}): {file} takes [batch, {width}]; export the loss for that output, or choose another with setting `output`"
    )]
    OwnOutput {
        /// The output's name.
        name: String,
        /// Its type.
        ty: String,
        /// The loss's file.
        file: String,
        /// The loss's columns.
        width: u64,
    },
    /// The output has another shape.
    #[error(
        "output `{name}` ({ty}): a {loss} loss needs {wanted}; choose another with setting `output`, or another setting `loss`, or append a \
         head with setting `classes = N`"
    )]
    Output {
        /// The output's name.
        name: String,
        /// Its type.
        ty: String,
        /// The loss.
        loss: &'static str,
        /// The wanted shape.
        wanted: String,
    },
}

/// Appends the loss to a typed tail whose inputs are features and parameters. The new nodes are not typed: types are to
/// be inferred before [`with_gradients`]. `teacher`: the weight of answers that are kept to beside the labels, and how many of the first
/// outputs have one.
///
/// # Errors
/// An output of another shape than `[batch, width]`, `[batch, sequence, width]` for the next token or a class a token, or `[batch, width,
/// height, width]` for a class a pixel.
pub fn with_loss(tail: &Graph, (loss, teacher): (&Loss, Option<(f64, u64)>), width: u64) -> Result<Graph, Error> {
    let output = tail.outputs[0];
    let shape = tail.ty(output).and_then(|ty| ty.shape.clone()).unwrap_or_default();
    // What a loss of one's own takes is in its file.
    let width = match loss {
        Loss::File(own) => own.columns().unwrap_or(width),
        _ => width,
    };
    let of_pixels = loss.positions() == Positions::Pixel;
    let columns = if of_pixels { shape.get(1) } else { shape.last() }.and_then(Dim::fixed);
    // Scores are brought to the size of masks by numbers that are made of both sizes.
    let is_open = of_pixels && loss.size().is_some() && shape.iter().skip(2).any(|dim| dim.fixed().is_none());
    if shape.len() != loss.rank() || columns.is_some_and(|columns| columns != width) || is_open {
        let sequence = if loss.rank() == 3 { "sequence, " } else { "" };
        let pixels = match (of_pixels, is_open) {
            (true, true) => ", height, width], of a size that follows from that of the picture",
            (true, false) => ", height, width]",
            _ => "]",
        };
        if let Loss::File(own) = loss {
            let ty = tail.ty(output).map_or("type unknown".into(), ToString::to_string);
            return Err(Error::OwnOutput { name: tail.value_name(output).into(), ty, file: own.file.clone(), width });
        }
        return Err(Error::Output {
            name: tail.value_name(output).into(),
            ty: tail.ty(output).map_or("type unknown".into(), ToString::to_string),
            loss: loss.name(),
            wanted: format!("[batch, {sequence}{width}{pixels}"),
        });
    }
    let rows = rows(&shape, loss);
    let mut graph = tail.clone();
    let loss = &of_one_set(&mut graph, loss)?;
    graph.name = "step".into();
    graph.outputs.clear();
    let builder = Builder::new(graph, "edgetune.step/");
    let labels = builder.input(LABELS, loss.labels_type(rows, width));
    let mut value = loss.append(&builder, builder.val(output), labels, width);
    if let Some((weight, columns)) = teacher {
        value = value + away(&builder, output, width, columns) * weight;
    }
    builder.output(LOSS, value);
    Ok(builder.finish())
}

/// T²·Σ p·(ln p − ln q) a row, with p and q the softmax at temperature T of the teacher's answers and of the output, over the first `columns`
/// (Hinton, Vinyals and Dean 2015, arXiv 1503.02531; Li and Hoiem 2017, arXiv 1606.09282).
fn away<'b>(builder: &'b Builder, output: ValueId, width: u64, columns: u64) -> Val<'b> {
    const TEMPERATURE: f64 = 2.0;
    let shape = builder.graph().ty(output).and_then(|ty| ty.shape.clone()).unwrap_or_default();
    let teacher = builder.input(TEACHER, TensorType::new(DType::Float, shape));
    // Outputs that the teacher does not have take no part.
    let absent: Vec<f32> = (0..width).map(|column| if column < columns { 0.0 } else { -1e9 }).collect();
    let absent = builder.constant(Tensor::from_f32(&[width], &absent));
    let logarithms = |scores: Val<'b>| -> Val<'b> {
        let scores = (scores.cast(DType::Float) + absent) * (1.0 / TEMPERATURE);
        builder.op("LogSoftmax", &[scores], &[("axis", Attr::Int(-1))])
    };
    let (known, now) = (logarithms(teacher), logarithms(builder.val(output)));
    let rows = now.unary("Size").cast(DType::Float) * (1.0 / width as f64);
    (known.unary("Exp") * (known - now)).sum_all() / rows * TEMPERATURE.powi(2)
}

/// The dimensions of labels: an output's without that of the scores. Open ones have names, by which they are compared.
fn rows(shape: &[Dim], loss: &Loss) -> Vec<Dim> {
    let unnamed = |name: &str| Dim::Named(format!("edgetune.{name}"));
    let named = |dim: &Dim, name: &str| if let Dim::Named(_) = dim { dim.clone() } else { unnamed(name) };
    let size = |dim: &Dim, name: &str| if dim.fixed().is_some() { dim.clone() } else { named(dim, name) };
    match loss {
        Loss::PixelCrossEntropy { .. } => {
            vec![named(&shape[0], "batch"), size(&shape[2], "height"), size(&shape[3], "width")]
        }
        // A detector's cells are as many as its image size makes them, and so are the steps of a text.
        Loss::Boxes { .. } | Loss::Ctc => {
            let rows = shape[..shape.len() - 1].iter().zip(["batch", "sequence"]);
            rows.map(|(dim, name)| size(dim, name)).collect()
        }
        _ => shape[..shape.len() - 1].iter().zip(["batch", "sequence"]).map(|(dim, name)| named(dim, name)).collect(),
    }
}

/// Brings the tail and a loss of the user's own to the later of their operator sets.
fn of_one_set(tail: &mut Graph, loss: &Loss) -> Result<Loss, Error> {
    let Loss::File(own) = loss else { return Ok(loss.clone()) };
    let [of_loss, of_tail] = [own.graph().map_or(0, |graph| graph.opset), tail.opset];
    let refuse = |node| Error::Opsets { node, of_loss, of_tail };
    tail.raise(of_loss).map_err(|node| refuse(tail.nodes[node].name.clone()))?;
    Ok(Loss::File(own.raised(of_tail).map_err(refuse)?))
}

/// As [`with_loss`], with the loss in slices where it is a language model's: see [`slices`].
///
/// # Errors
/// As [`with_loss`].
pub fn with_loss_in_slices(
    tail: &Graph,
    (loss, teacher): (&Loss, Option<(f64, u64)>),
    width: u64,
    parameters: &[Parameter],
) -> Result<WithLoss, Error> {
    let whole = with_loss(tail, (loss, teacher), width)?;
    // A teacher's answers are compared with all of the output.
    if teacher.is_some() {
        return Ok(WithLoss { graph: whole, gradients: Vec::new() });
    }
    let labels = whole.find(LABELS).and_then(|id| whole.ty(id)).cloned().expect("the labels are a typed input");
    let sliced = slices::with_loss(tail, loss, &ids(tail, parameters), labels, slices::rows_of(width));
    Ok(sliced.unwrap_or(WithLoss { graph: whole, gradients: Vec::new() }))
}

fn ids(graph: &Graph, parameters: &[Parameter]) -> Vec<ValueId> {
    let id = |parameter: &Parameter| graph.find(&parameter.name).expect("a parameter is an input of the tail");
    parameters.iter().map(id).collect()
}

/// What of the forward part the gradient computes again in place of keeping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// What costs one pass over memory: see [`grad::recompute`].
    Cheap,
    /// Whole layers, too, for about a third of the time more: see [`grad::segments`].
    Layers,
}

impl Again {
    /// Whoever keeps no copies of weights wants the least memory.
    pub fn within(packed_bytes_max: u64) -> Self {
        if packed_bytes_max == 0 { Self::Layers } else { Self::Cheap }
    }
}

/// Appends the gradients to a typed graph of [`with_loss_in_slices`].
///
/// # Errors
/// An operator without a gradient, a parameter that the loss does not depend on.
pub fn with_gradients(with_loss: WithLoss, parameters: &[Parameter], again: Again) -> Result<Graph, Error> {
    let WithLoss { graph, gradients } = with_loss;
    let (loss, wanted) = (graph.outputs[0], ids(&graph, parameters));
    let builder = Builder::new(graph, BACKWARD);
    let mut cotangents: Vec<_> = gradients.iter().map(|(value, gradient)| (*value, builder.val(*gradient))).collect();
    if cotangents.is_empty() {
        cotangents.push((loss, builder.scalar(builder.val(loss).dtype(), 1.0)));
    }
    let gradients = grad::gradients_of_all(&builder, &cotangents, &wanted)?;
    for (parameter, id) in parameters.iter().zip(&wanted) {
        let unreached = || grad::Error::Unreached { value: parameter.name.clone() };
        builder.output(&gradient_name(&parameter.name), *gradients.get(id).ok_or_else(unreached)?);
    }
    let gradients: HashMap<ValueId, ValueId> =
        gradients.into_iter().map(|(id, gradient)| (id, gradient.id())).collect();
    let mut graph = grad::with_faster_nodes(builder.finish());
    grad::one_shape_each(&mut graph, BACKWARD);
    graph.prune();
    if again == Again::Layers {
        grad::segments(&mut graph, BACKWARD, &gradients);
        graph.prune();
    }
    grad::recompute(&mut graph, BACKWARD);
    graph.prune();
    order_for_memory(&mut graph);
    Ok(graph)
}

/// Puts the nodes into the order that holds the least memory, which is not that of the file: ONNX Runtime runs a graph depth
/// first from the last node that nobody reads, of a node's inputs the one written last first. So one last node, whose value
/// nobody fetches, asks for everything:
///
/// - first for the shapes of forward values that gradients will ask for, the lowest first: each is taken as soon as its value
///   is there, which need not be kept for it;
/// - then for the gradients, the head's first: it comes first, and what it needs is given back before the layers below are
///   visited. In the order of writing the lowest layer's would come first, and all others would wait with everything they
///   read: 174 MiB instead of 119 for EfficientNet-Lite0's last fourteen layers at batch 32.
///
/// It asks for their `Size`: shapes of fixed size are folded away, and fused nodes would become the last.
fn order_for_memory(graph: &mut Graph) {
    let producers = graph.producers();
    let is_backward = |index: &usize| graph.nodes[*index].name.starts_with(BACKWARD);
    let forward_shapes =
        graph.nodes.iter().enumerate().filter(|(index, node)| node.op == "Shape" && is_backward(index));
    let mut shapes: Vec<(usize, ValueId)> = forward_shapes
        .filter_map(|(_, node)| Some((*producers.get(&node.reads().next()?)?, node.writes().next()?)))
        .filter(|(producer, _)| !is_backward(producer))
        .collect();
    shapes.sort_unstable_by_key(|(producer, _)| std::cmp::Reverse(*producer));
    let gradients = graph.outputs.iter().skip(1).copied();
    let asked: Vec<ValueId> = gradients.chain(shapes.into_iter().map(|(_, shape)| shape)).collect();
    let mut sizes = Vec::with_capacity(asked.len());
    for id in asked {
        sizes.push(Some(append(graph, "Size", vec![Some(id)])));
    }
    let all = append(graph, "Max", sizes);
    graph.outputs.push(all);
}

/// Appends a node of the order, and gives its output.
fn append(graph: &mut Graph, op: &str, inputs: Vec<Option<ValueId>>) -> ValueId {
    let output = graph.add_value(&format!("{ORDER}{op}"), Some(TensorType::new(DType::Int64, Vec::new())));
    let name = graph.value_name(output).to_string();
    graph.nodes.push(Node { name, op: op.into(), inputs, outputs: vec![Some(output)], ..Node::default() });
    output
}
