//! A loss of the user's own: an ONNX graph from the model's output and the labels to a scalar.
//!
//! Its first input is the model's output, `[batch, width]`; every other input holds labels, by its name. In a step graph all
//! labels are one tensor `[batch, values]`, of which each input takes its columns.

use crate::graph::{Builder, DType, Dim, Graph, TensorType, Val};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first operator set that gradients are written for.
const OPSET: i64 = 17;
/// What the names of the loss's values begin with in a step graph.
const PREFIX: &str = "edgetune.loss/";

/// Letters of the hash that a delta holds, and bytes of the name before them: 64 with the `@` between both.
const WIRE_HASH_LETTERS: usize = 32;
const WIRE_NAME_BYTES: usize = 31;

/// A loss of the user's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnLoss {
    /// Its file's name, without folders.
    pub file: String,
    /// BLAKE3 of the file, in hexadecimal; of a loss that a delta names, its first letters.
    pub hash: String,
    /// The graph; `None` until the file has been read.
    #[serde(skip)]
    graph: Option<Arc<Graph>>,
}

/// An input of the loss that holds labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its name, which is that of an array or a column of the data.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its sizes without the batch.
    pub shape: Vec<u64>,
}

impl Part {
    /// Numbers for a sample.
    pub fn values(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl OwnLoss {
    /// A loss that is named and not read yet.
    pub fn named(file: &str, hash: &str) -> Self {
        Self { file: file.into(), hash: hash.into(), graph: None }
    }

    /// The loss of a typed graph.
    ///
    /// # Errors
    /// In words, with the remedy: a graph that is no loss.
    pub fn new(file: &str, hash: &str, mut graph: Graph) -> Result<Self, String> {
        let ty = |id| graph.ty(id).map_or("type unknown".into(), ToString::to_string);
        let [output] = graph.outputs[..] else {
            return Err(format!("{} outputs; a loss has one, a scalar", graph.outputs.len()));
        };
        let is_scalar = |shape: &Vec<Dim>| matches!(shape[..], [] | [Dim::Fixed(1)]);
        if !graph.ty(output).is_some_and(|ty| ty.dtype == DType::Float && ty.shape.as_ref().is_some_and(is_scalar)) {
            return Err(format!(
                "output `{}` is {}, not a float scalar; take the mean over the batch in the loss (reduction='mean')",
                graph.value_name(output),
                ty(output)
            ));
        }
        if graph.inputs.len() < 2 {
            let names: Vec<&str> = graph.inputs.iter().map(|id| graph.value_name(*id)).collect();
            return Err(format!(
                "inputs: {}; a loss takes the model's output first, then at least one array of the data",
                if names.is_empty() { "none".into() } else { names.join(", ") }
            ));
        }
        for (index, id) in graph.inputs.iter().enumerate() {
            input_fits(index, graph.value_name(*id), graph.ty(*id))?;
        }
        // From 13 to 17 the operators of a loss mean the same.
        graph.opset = graph.opset.max(OPSET);
        Ok(Self { graph: Some(Arc::new(graph)), ..Self::named(file, hash) })
    }

    /// The graph, once the file has been read.
    pub fn graph(&self) -> Option<&Graph> {
        self.graph.as_deref()
    }

    /// The same loss in a later operator set.
    ///
    /// # Errors
    /// The name of a node that is written in another way there.
    pub fn raised(&self, opset: i64) -> Result<Self, String> {
        let mut graph = self.graph().cloned().unwrap_or_default();
        graph.raise(opset).map_err(|node| graph.nodes[node].name.clone())?;
        Ok(Self { graph: Some(Arc::new(graph)), ..self.clone() })
    }

    /// The inputs that hold labels, in their order.
    pub fn parts(&self) -> Vec<Part> {
        let Some(graph) = self.graph() else { return Vec::new() };
        let part = |id: &_| {
            let ty = graph.ty(*id).expect("the types of inputs were looked at");
            let sizes = ty.shape.iter().flatten().skip(1).filter_map(Dim::fixed).collect();
            Part { name: graph.value_name(*id).into(), dtype: ty.dtype, shape: sizes }
        };
        graph.inputs.iter().skip(1).map(part).collect()
    }

    /// Columns of the model's output, where the loss fixes them.
    pub fn columns(&self) -> Option<u64> {
        let graph = self.graph()?;
        graph.ty(graph.inputs[0])?.shape.as_ref()?.last()?.fixed()
    }

    /// What a delta calls it: the end of its name, and the first letters of its hash.
    pub fn wire_name(&self) -> String {
        let long = self.file.len().saturating_sub(WIRE_NAME_BYTES);
        let start = (long..).find(|at| self.file.is_char_boundary(*at)).unwrap_or_default();
        format!("{}@{}", &self.file[start..], &self.hash[..self.hash.len().min(WIRE_HASH_LETTERS)])
    }

    /// Columns of the labels' tensor.
    pub fn width(&self) -> u64 {
        self.parts().iter().map(Part::values).sum()
    }

    /// Appends the loss of the model's output and the labels `[batch, values]`; gives a scalar.
    pub fn append<'b>(&self, builder: &'b Builder, output: Val<'b>, labels: Val<'b>) -> Val<'b> {
        let graph = self.graph().expect("the loss was read before a step graph is made");
        let mut fed = vec![output];
        let mut at = 0;
        for part in self.parts() {
            let end = at + part.values() as i64;
            let columns = labels.slice(&[at], &[end], &[1]);
            let shape: Vec<i64> = std::iter::once(-1).chain(part.shape.iter().map(|size| *size as i64)).collect();
            fed.push(columns.reshape_to(&shape).cast(part.dtype));
            at = end;
        }
        let loss = builder.inline(graph, PREFIX, &fed)[0];
        loss.reshape_to(&[])
    }

    /// The loss as a graph of its own: output and labels in, as a step graph has them, the scalar out.
    pub fn alone(&self, labels: &str, output: &str, loss: &str) -> Graph {
        let graph = self.graph().expect("the loss was read before it is computed");
        let scores = graph.ty(graph.inputs[0]).cloned().expect("the types of inputs were looked at");
        let rows = scores.shape.as_ref().map_or(Dim::Unknown, |shape| shape[0].clone());
        let mut whole = Graph::new("loss", graph.opset);
        whole.domains.clone_from(&graph.domains);
        let builder = Builder::new(whole, PREFIX);
        let output = builder.input(output, scores);
        let labels = builder.input(labels, TensorType::new(DType::Float, vec![rows, Dim::Fixed(self.width())]));
        let value = self.append(&builder, output, labels);
        builder.output(loss, value);
        builder.finish()
    }
}

/// Whether an input is what the model's output (the first) or labels can be.
fn input_fits(index: usize, name: &str, ty: Option<&TensorType>) -> Result<(), String> {
    let Some((ty, [rows, sizes @ ..])) = ty.and_then(|ty| Some((ty, ty.shape.as_deref()?))) else {
        return Err(format!("input `{name}`: its shape must be known, with the batch as its first axis"));
    };
    if let Dim::Fixed(batch) = rows {
        return Err(format!(
            "input `{name}` ({ty}) has a fixed batch of {batch}; export the loss with that axis open \
             (dynamic_axes={{'{name}': {{0: 'batch'}}}})"
        ));
    }
    if index == 0 {
        return match (ty.dtype, sizes.len()) {
            (DType::Float, 1) => Ok(()),
            _ => Err(format!("input `{name}` ({ty}): the first input is the model's output, float32 [batch, width]")),
        };
    }
    if let Some(open) = sizes.iter().find(|size| size.fixed().is_none()) {
        return Err(format!("input `{name}` ({ty}): axis `{open}` is open; export the loss with the batch alone open"));
    }
    match ty.dtype {
        DType::Float | DType::Int64 | DType::Int32 | DType::Bool => Ok(()),
        _ => Err(format!("input `{name}` ({ty}): labels are float32, int64, int32 or bool")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_s_word_for_a_loss_fits_and_ends_with_the_hash() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(OwnLoss::named("focal.onnx", &hash).wire_name(), format!("focal.onnx@{}", &hash[..32]));
        let long = OwnLoss::named(&"ä".repeat(40), &hash).wire_name();
        assert!(long.len() <= 64 && long.starts_with("ää") && long.ends_with(&hash[..32]), "{long}");
    }
}
