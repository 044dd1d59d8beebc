//! The step graph: tail + loss + gradients, as one ONNX graph.
//!
//! Features, labels and parameters in; loss, logits and one gradient a parameter out. The optimiser is not in it.

use super::loss::Loss;
use crate::adapter::Parameter;
use crate::grad;
use crate::graph::{Builder, Dim, Graph, Node, ValueId};

/// Name of the labels' input.
pub const LABELS: &str = "edgetune.labels";
/// Name of the loss's output, a scalar.
pub const LOSS: &str = "edgetune.loss";

/// What the names of the gradients' nodes begin with.
pub const BACKWARD: &str = "edgetune.backward/";

/// The name of the output that holds a parameter's gradient.
pub fn gradient_name(parameter: &str) -> String {
    format!("edgetune.gradient/{parameter}")
}

/// Why there is no step graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A gradient is missing.
    #[error(transparent)]
    Grad(#[from] grad::Error),
    /// The output has another shape.
    #[error(
        "output `{name}` ({ty}): a {loss} loss needs {wanted}; choose another with --output, or another --loss, or append a \
         head with --classes N"
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
/// be inferred before [`with_gradients`].
///
/// # Errors
/// An output of another shape than `[batch, width]`, or `[batch, sequence, width]` for the next token.
pub fn with_loss(tail: &Graph, loss: &Loss, width: u64) -> Result<Graph, Error> {
    let output = tail.outputs[0];
    let shape = tail.ty(output).and_then(|ty| ty.shape.clone()).unwrap_or_default();
    let columns = shape.last().and_then(Dim::fixed);
    if shape.len() != loss.rank() || columns.is_some_and(|columns| columns != width) {
        let sequence = if loss.rank() == 3 { "sequence, " } else { "" };
        return Err(Error::Output {
            name: tail.value_name(output).into(),
            ty: tail.ty(output).map_or("type unknown".into(), ToString::to_string),
            loss: loss.name(),
            wanted: format!("[batch, {sequence}{width}]"),
        });
    }
    let unnamed = ["edgetune.batch", "edgetune.sequence"].map(|name| Dim::Named(name.into()));
    let named = |(dim, unnamed): (&Dim, Dim)| if let Dim::Named(_) = dim { dim.clone() } else { unnamed };
    let rows = shape[..shape.len() - 1].iter().zip(unnamed).map(named).collect();
    let mut graph = tail.clone();
    graph.name = "step".into();
    graph.outputs.clear();
    let builder = Builder::new(graph, "edgetune.step/");
    let labels = builder.input(LABELS, loss.labels_type(rows, width));
    let value = loss.append(&builder, builder.val(output), labels, width);
    builder.output(LOSS, value);
    Ok(builder.finish())
}

/// Appends the gradients to a typed graph of [`with_loss`].
///
/// # Errors
/// An operator without a gradient, a parameter that the loss does not depend on.
pub fn with_gradients(graph: Graph, parameters: &[Parameter]) -> Result<Graph, Error> {
    let loss = graph.outputs[0];
    let wanted: Vec<ValueId> = parameters
        .iter()
        .map(|parameter| graph.find(&parameter.name).expect("a parameter is an input of the tail"))
        .collect();
    let builder = Builder::new(graph, BACKWARD);
    let gradients = grad::differentiate(&builder, loss, &wanted)?;
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        builder.output(&gradient_name(&parameter.name), gradient);
    }
    let mut graph = grad::with_faster_nodes(builder.finish());
    graph.prune();
    gradients_as_early_as_possible(&mut graph);
    Ok(graph)
}

/// ONNX Runtime runs a graph depth first from the last node that nobody reads. The nodes that give the gradients become
/// the last, the head's the very last: its gradient then comes first, and what it needs is given back before the layers
/// below are visited. In the order of writing the lowest layer's gradient would come first, and all others would wait with
/// everything they read: 174 MiB instead of 119 for EfficientNet-Lite0's last fourteen layers at batch 32.
fn gradients_as_early_as_possible(graph: &mut Graph) {
    let (producers, readers) = (graph.producers(), graph.consumers());
    let mut last = Vec::new();
    for output in &graph.outputs {
        let Some(identity) = producers.get(output).copied() else { continue };
        let gives = graph.nodes[identity].reads().next().filter(|id| readers.get(id).is_some_and(|all| all.len() == 1));
        last.extend(gives.and_then(|id| producers.get(&id)).copied().filter(|index| !last.contains(index)));
        last.push(identity);
    }
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    let last: Vec<Node> = last.into_iter().filter_map(|index| nodes[index].take()).collect();
    graph.nodes = nodes.into_iter().flatten().chain(last).collect();
}
