//! A loss of the user's own: read from its file, tried for a gradient, and run for measuring.

use super::error::Error;
use super::step::{LABELS, LOSS};
use crate::cut;
use crate::engine::{self, Options, Session};
use crate::grad;
use crate::graph::{Builder, Graph, Tensor};
use crate::onnx;
use crate::task::OwnLoss;
use std::path::Path;

/// The name of the model's output where the loss runs alone.
const OUTPUT: &str = "edgetune.output";

/// Reads a loss and makes sure that a gradient reaches its first input. ONNX Runtime must be loaded.
///
/// # Errors
/// A file that is no ONNX model, a graph that is no loss, a node without a gradient.
pub fn read(path: &Path) -> Result<OwnLoss, Error> {
    let refuse = |problem: String| Error::OwnLoss { path: path.into(), problem };
    let bytes = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.into(), source })?;
    let hash = blake3::hash(&bytes).to_hex();
    let onnx::Model { mut graph, .. } = onnx::read(path)?;
    cut::widen(&mut graph)?;
    cut::take_apart(&mut graph);
    cut::dropouts_off(&mut graph);
    engine::infer_types(&mut graph)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let loss = OwnLoss::new(&file, &hash, graph).map_err(refuse)?;
    let graph: &Graph = loss.graph().expect("just read");
    let (scores, value) = (graph.inputs[0], graph.outputs[0]);
    grad::differentiate(&Builder::new(graph.clone(), "gradient/"), value, &[scores])
        .map_err(|error| refuse(without_gradient(error)))?;
    Ok(loss)
}

/// Why no gradient reaches the model's output, with what helps for a loss.
fn without_gradient(error: grad::Error) -> String {
    match error {
        grad::Error::Refused { node, op, opset, .. } => {
            format!(
                "node `{node}` ({op}, opset {opset}) has no gradient; write the loss without it (`edgetune ops` lists what has one)"
            )
        }
        grad::Error::Unreached { value } => {
            format!(
                "it does not depend on its first input `{value}`, which is the model's output; put that input first"
            )
        }
        grad::Error::Rule { .. } => error.to_string(),
    }
}

/// A loss, loaded to be measured by.
#[derive(Debug)]
pub(super) struct Measure(Session);

impl Measure {
    /// # Errors
    /// ONNX Runtime's refusal.
    pub fn new(loss: &OwnLoss, options: &Options) -> Result<Self, Error> {
        Ok(Self(Session::from_graph(&loss.alone(LABELS, OUTPUT, LOSS), options)?))
    }

    /// The loss of a batch.
    ///
    /// # Errors
    /// ONNX Runtime's refusal.
    pub fn value(&mut self, output: &Tensor, labels: &Tensor) -> Result<f64, Error> {
        let value = self.0.run(&[(OUTPUT, output), (LABELS, labels)])?.remove(0);
        Ok(f64::from(value.to_f32().expect("a loss is a float")[0]))
    }
}
