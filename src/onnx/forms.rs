//! Operators of other operator sets in the form that everything behind the reader knows.
//!
//! Sets 7 to 12 say with attributes what set 13 says with inputs (axes, sizes, bounds), and some of their operators were renamed or
//! changed a default since. Each such node is written in the form of set 13, by the changelog of the ONNX specification
//! (`docs/Changelog.md`); what cannot be is refused with the node's name. From set 25 on `Swish` and `SwiGLU` are taken apart, for
//! ONNX Runtime 1.32 runs `Swish` in set 24 alone (`findings/onnxruntime-swish.sh`).

use super::Error;
use crate::graph::{Attr, DType, Graph, Node, Tensor, TensorType, ValueId};

/// The oldest operator set whose forms are known behind the reader.
pub const OLDEST_FORM: i64 = 13;

/// Rewrites what has another form in the graph's operator set; afterwards that is [`OLDEST_FORM`] or a later one.
pub fn rewrite(graph: &mut Graph) -> Result<(), Error> {
    let from = graph.opset;
    let nodes = std::mem::take(&mut graph.nodes);
    let mut forms = Forms { graph, from, nodes: Vec::with_capacity(nodes.len()) };
    for node in nodes {
        let name = node.name.clone();
        let op = node.op.clone();
        let refused = |problem: String| Error::Older { node: name, op, opset: from, problem };
        match node.domain.as_str() {
            "" if from < OLDEST_FORM => forms.older(node).map_err(refused)?,
            "" if from > SWISH_RUNS => forms.fused(node),
            _ => forms.nodes.push(node),
        }
    }
    graph.nodes = forms.nodes;
    graph.opset = from.max(OLDEST_FORM);
    Ok(())
}

/// The one operator set in which ONNX Runtime runs `Swish`.
const SWISH_RUNS: i64 = 24;

struct Forms<'g> {
    graph: &'g mut Graph,
    from: i64,
    nodes: Vec<Node>,
}

impl Forms<'_> {
    /// One node of sets 7 to 12.
    fn older(&mut self, mut node: Node) -> Result<(), String> {
        if node.attributes.values().any(|value| matches!(value, Attr::Graph { .. })) {
            return Err("control flow of this operator set is not read".into());
        }
        match node.op.as_str() {
            "Squeeze" | "Unsqueeze" | "ReduceSum" => self.ints_as_input(&mut node, "axes", 1),
            "Split" => self.ints_as_input(&mut node, "split", 1),
            "TopK" if self.from < 10 => {
                let k = node.int("k", 1);
                node.attributes.remove("k");
                self.constant_input(&mut node, 1, "k", Tensor::from_i64(&[1], &[k]));
            }
            "Slice" if self.from < 10 => {
                for (index, name) in ["starts", "ends", "axes"].into_iter().enumerate() {
                    self.ints_as_input(&mut node, name, index + 1);
                }
            }
            "Pad" if self.from < 11 => {
                let value = node.float("value", 0.0);
                node.attributes.remove("value");
                self.ints_as_input(&mut node, "pads", 1);
                self.float_input(&mut node, 2, "value", value);
            }
            "Clip" if self.from < 11 => {
                for (index, name) in ["min", "max"].into_iter().enumerate() {
                    if let Some(Attr::Float(bound)) = node.attributes.remove(name) {
                        self.float_input(&mut node, index + 1, name, bound);
                    }
                }
            }
            // The mask and the training's statistics, which nobody reads in a model for inference, changed their types.
            "Dropout" => {
                node.attributes.remove("ratio");
                node.outputs.truncate(1);
            }
            "BatchNormalization" => {
                if node.int("spatial", 1) == 0 {
                    return Err("statistics of each position (spatial = 0) are not read".into());
                }
                node.attributes.remove("spatial");
                node.outputs.truncate(1);
            }
            "Scatter" => node.op = "ScatterElements".into(),
            "Upsample" => self.upsample(&mut node)?,
            "Resize" if self.from < 11 => self.upsample(&mut node)?,
            "Softmax" | "LogSoftmax" | "Hardmax" => return self.flat_softmax(node),
            _ => {}
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Moves a list of integers from an attribute to input `index`.
    fn ints_as_input(&mut self, node: &mut Node, name: &str, index: usize) {
        if let Some(Attr::Ints(values)) = node.attributes.remove(name) {
            let tensor = Tensor::from_i64(&[values.len() as u64], &values);
            self.constant_input(node, index, name, tensor);
        }
    }

    /// A scalar of the first input's type.
    fn float_input(&mut self, node: &mut Node, index: usize, name: &str, value: f32) {
        let ty = node.inputs.first().copied().flatten().and_then(|id| self.graph.ty(id));
        let dtype = ty.map_or(DType::Float, |ty| ty.dtype);
        self.constant_input(node, index, name, Tensor::float_scalar(dtype, value.into()));
    }

    fn constant_input(&mut self, node: &mut Node, index: usize, name: &str, tensor: Tensor) {
        let id = self.graph.add_initializer(&format!("{}/{name}", node.name), tensor);
        node.inputs.resize(node.inputs.len().max(index + 1), None);
        node.inputs[index] = Some(id);
    }

    /// `Upsample` (7, 9) and `Resize` (10) are today's `Resize` with factors, the corner of a pixel as its place, and the nearest
    /// pixel found by rounding down where the picture grows, up where it shrinks (as ONNX Runtime does for these sets).
    fn upsample(&mut self, node: &mut Node) -> Result<(), String> {
        if let Some(Attr::Floats(scales)) = node.attributes.remove("scales") {
            let tensor = Tensor::from_vec(&[scales.len() as u64], scales);
            self.constant_input(node, 1, "scales", tensor);
        }
        let scales = node.inputs.get(1).copied().flatten().ok_or("it has no scales; the model is invalid")?;
        let known = self.graph.initializers.get(&scales).and_then(Tensor::to_f32);
        let known = known.ok_or("its scales are not constants")?;
        let grows = known.iter().all(|scale| *scale >= 1.0);
        if !grows && known.iter().any(|scale| *scale > 1.0) {
            return Err("it makes one dimension longer and another shorter".into());
        }
        node.op = "Resize".into();
        node.inputs = vec![node.inputs[0], None, Some(scales)];
        if node.str("mode", "nearest") == "nearest" {
            node.attributes.insert("nearest_mode".into(), Attr::Str(if grows { "floor" } else { "ceil" }.into()));
        }
        node.attributes.insert("coordinate_transformation_mode".into(), Attr::Str("asymmetric".into()));
        Ok(())
    }

    /// Until set 12 a softmax runs over all dimensions from `axis` (1 by default) on, taken for one.
    fn flat_softmax(&mut self, mut node: Node) -> Result<(), String> {
        let (input, output) = match (node.inputs.as_slice(), node.outputs.as_slice()) {
            ([Some(input)], [Some(output)]) => (*input, *output),
            _ => return Err("it has not one input and one output; the model is invalid".into()),
        };
        let axis = node.int("axis", 1);
        let rank = [input, output].iter().find_map(|id| self.graph.ty(*id).and_then(TensorType::rank));
        node.attributes.insert("axis".into(), Attr::Int(-1));
        if axis == -1 || rank.is_some_and(|rank| axis == rank as i64 - 1) {
            self.nodes.push(node);
            return Ok(());
        }
        let sizes = self.written(&node, "Shape", &[input], &[]);
        let flat = self.written(&node, "Flatten", &[input], &[("axis", Attr::Int(axis))]);
        let shares = self.graph.add_value(&format!("{}/flat", node.name), None);
        let name = node.name.clone();
        (node.inputs, node.outputs) = (vec![Some(flat)], vec![Some(shares)]);
        self.nodes.push(node);
        let inputs = vec![Some(shares), Some(sizes)];
        let back = Node { op: "Reshape".into(), inputs, outputs: vec![Some(output)], ..Node::default() };
        self.nodes.push(Node { name: format!("{name}/Reshape"), ..back });
        Ok(())
    }

    /// One node of set 13 or later: `Swish` and `SwiGLU` become products.
    fn fused(&mut self, node: Node) {
        let (gate, value) = match (node.op.as_str(), node.inputs.as_slice()) {
            ("Swish", [Some(gate)]) => (*gate, *gate),
            ("SwiGLU", [Some(gate), Some(value)]) => (*gate, *value),
            _ => return self.nodes.push(node),
        };
        let mut inner = gate;
        let alpha = node.float("alpha", 1.0);
        if alpha != 1.0 {
            let dtype = self.graph.ty(gate).map_or(DType::Float, |ty| ty.dtype);
            let factor = Tensor::float_scalar(dtype, alpha.into());
            let factor = self.graph.add_initializer(&format!("{}/alpha", node.name), factor);
            inner = self.written(&node, "Mul", &[gate, factor], &[]);
        }
        let mut share = self.written(&node, "Sigmoid", &[inner], &[]);
        if node.op == "SwiGLU" {
            share = self.written(&node, "Mul", &[gate, share], &[]);
        }
        let inputs = vec![Some(value), Some(share)];
        self.nodes.push(Node { op: "Mul".into(), inputs, attributes: Default::default(), ..node });
    }

    /// Writes a node before `node` and gives its output.
    fn written(&mut self, node: &Node, op: &str, inputs: &[ValueId], attributes: &[(&str, Attr)]) -> ValueId {
        let output = self.graph.add_value(&format!("{}/{op}", node.name), None);
        self.nodes.push(Node {
            // Unlike the name asked for, the value's name is nobody else's.
            name: self.graph.value_name(output).into(),
            op: op.into(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
            attributes: attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            ..Node::default()
        });
        output
    }
}
