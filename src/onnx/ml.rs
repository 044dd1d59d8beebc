//! Linear models of the domain `ai.onnx.ml`, as skl2onnx writes them, in operators of `ai.onnx`.
//!
//! So written, a classifier of scikit-learn is a linear layer like any other: it can learn on, be replaced, and a gradient passes.
//! A dictionary for each sample (`ZipMap`) becomes the array that it is made from, and the class that was picked, which is no
//! number to learn by, is left out of the outputs. Tree ensembles and all other operators stay as they are.

use crate::graph::{Attr, DType, Graph, Node, Tensor, TensorType, ValueId};
use std::collections::HashSet;

const DOMAIN: &str = "ai.onnx.ml";

/// Rewrites a graph whose `ai.onnx` operators have the form of set 13 or later.
pub fn rewrite(graph: &mut Graph) {
    if !graph.domains.contains_key(DOMAIN) {
        return;
    }
    let nodes = std::mem::take(&mut graph.nodes);
    let mut written = Written { graph, nodes: Vec::with_capacity(nodes.len()), picked: HashSet::new() };
    for node in nodes {
        written.node(node);
    }
    let Written { nodes, picked, .. } = written;
    graph.nodes = nodes;
    leave_out_picked_classes(graph, picked);
}

/// Leaves out the outputs that come from a picked class, with the nodes and constants that nobody reads then.
fn leave_out_picked_classes(graph: &mut Graph, mut picked: HashSet<ValueId>) {
    for node in &graph.nodes {
        if node.reads().any(|id| picked.contains(&id)) {
            picked.extend(node.writes());
        }
    }
    if graph.outputs.iter().all(|id| picked.contains(id)) {
        return;
    }
    graph.outputs.retain(|id| !picked.contains(id));
    // What gives a score beside the class stays.
    graph.nodes.retain(|node| !node.writes().all(|id| picked.contains(&id)));
    let read: HashSet<ValueId> =
        graph.nodes.iter().flat_map(Node::reads).chain(graph.outputs.iter().copied()).collect();
    graph.initializers.retain(|id, _| read.contains(id));
}

struct Written<'g> {
    graph: &'g mut Graph,
    nodes: Vec<Node>,
    /// Values that say which class was picked.
    picked: HashSet<ValueId>,
}

impl Written<'_> {
    fn node(&mut self, node: Node) {
        let input = node.inputs.first().copied().flatten();
        let output = node.outputs.first().copied().flatten();
        let (Some(input), Some(output), DOMAIN) = (input, output, node.domain.as_str()) else {
            return self.nodes.push(node);
        };
        let done = match node.op.as_str() {
            "ZipMap" => self.array_of(input, output),
            "ArrayFeatureExtractor" | "LabelEncoder" | "SVMClassifier" | "TreeEnsembleClassifier" => {
                self.picked.insert(output);
                None
            }
            "Scaler" => self.scaler(&node, input, output),
            "Normalizer" => self.normalizer(&node, input, output),
            "LinearClassifier" => self.classifier(&node, input),
            "LinearRegressor" => self.regressor(&node, input, output),
            _ => None,
        };
        if done.is_none() {
            self.nodes.push(node);
        }
    }

    /// The output of a `ZipMap` becomes the array that it reads.
    fn array_of(&mut self, input: ValueId, output: ValueId) -> Option<()> {
        for id in &mut self.graph.outputs {
            if *id == output {
                *id = input;
            }
        }
        Some(())
    }

    /// y = (x − offset) · scale
    fn scaler(&mut self, node: &Node, input: ValueId, output: ValueId) -> Option<()> {
        let [offset, scale] = ["offset", "scale"].map(|name| floats(node, name));
        let row = |values: Vec<f32>| Tensor::from_vec(&[values.len() as u64], values);
        let x = self.as_float(node, input);
        let offset = self.graph.add_initializer(&format!("{}/offset", node.name), row(offset?));
        let scale = self.graph.add_initializer(&format!("{}/scale", node.name), row(scale?));
        self.graph.settings.extend([offset, scale]);
        let moved = self.push(node, "Sub", &[x, offset], &[], None);
        self.push(node, "Mul", &[moved, scale], &[], Some(output));
        Some(())
    }

    /// y = x / ‖x‖ of each row. Shares that a softmax gave sum to 1 already.
    fn normalizer(&mut self, node: &Node, input: ValueId, output: ValueId) -> Option<()> {
        let p = match node.str("norm", "MAX") {
            "L1" => 1,
            "L2" => 2,
            _ => return None,
        };
        let maker = self.nodes.iter().find(|node| node.writes().any(|id| id == input));
        if p == 1 && maker.is_some_and(|node| node.op == "Softmax") {
            self.push(node, "Identity", &[input], &[], Some(output));
            return Some(());
        }
        let x = self.as_float(node, input);
        self.push(node, "LpNormalization", &[x], &[("axis", Attr::Int(-1)), ("p", Attr::Int(p))], Some(output));
        Some(())
    }

    /// scores = x Wᵀ + b, then what turns them into shares.
    fn classifier(&mut self, node: &Node, input: ValueId) -> Option<()> {
        let scores = node.outputs.get(1).copied().flatten()?;
        let count = node.class_labels()?;
        let (mut weight, mut bias) = (floats(node, "coefficients")?, floats(node, "intercepts")?);
        if bias.len() != count || weight.is_empty() || weight.len() % count != 0 {
            return None;
        }
        let ending = match node.str("post_transform", "NONE") {
            "NONE" => None,
            "SOFTMAX" => Some("Softmax"),
            // The shares σ(−s) and σ(s) of two classes are softmax's of −s/2 and s/2.
            "LOGISTIC" if is_two_sided(&weight) && is_two_sided(&bias) => {
                weight.iter_mut().chain(&mut bias).for_each(|value| *value *= 0.5);
                Some("Softmax")
            }
            "LOGISTIC" => Some("Sigmoid"),
            _ => return None,
        };
        self.picked.extend(node.outputs[0]);
        let logits = self.linear(node, input, weight, bias, ending.is_none().then_some(scores));
        if let Some(op) = ending {
            let axis = [("axis", Attr::Int(-1))];
            self.push(node, op, &[logits], if op == "Softmax" { &axis } else { &[] }, Some(scores));
        }
        Some(())
    }

    fn regressor(&mut self, node: &Node, input: ValueId, output: ValueId) -> Option<()> {
        let weight = floats(node, "coefficients")?;
        let targets = usize::try_from(node.int("targets", 1)).ok().filter(|targets| *targets > 0)?;
        let bias = floats(node, "intercepts").unwrap_or_else(|| vec![0.0; targets]);
        if node.str("post_transform", "NONE") != "NONE" || bias.len() != targets || weight.len() % targets != 0 {
            return None;
        }
        self.linear(node, input, weight, bias, Some(output));
        Some(())
    }

    /// x Wᵀ + b, with a row of W for each output.
    fn linear(
        &mut self,
        node: &Node,
        input: ValueId,
        weight: Vec<f32>,
        bias: Vec<f32>,
        output: Option<ValueId>,
    ) -> ValueId {
        let x = self.as_float(node, input);
        let shape = [bias.len() as u64, (weight.len() / bias.len()) as u64];
        let weight = self.graph.add_initializer(&format!("{}.weight", node.name), Tensor::from_vec(&shape, weight));
        let bias = self.graph.add_initializer(&format!("{}.bias", node.name), Tensor::from_vec(&shape[..1], bias));
        self.push(node, "Gemm", &[x, weight, bias], &[("transB", Attr::Int(1))], output)
    }

    /// The value as `float`, in which operators of `ai.onnx.ml` compute.
    fn as_float(&mut self, node: &Node, input: ValueId) -> ValueId {
        match self.graph.ty(input).map(|ty| ty.dtype) {
            None | Some(DType::Float) => input,
            Some(_) => self.push(node, "Cast", &[input], &[("to", Attr::Int(DType::Float.onnx().into()))], None),
        }
    }

    /// Writes a node in the place of `node` and gives its output: `output`, or a new value.
    fn push(
        &mut self,
        node: &Node,
        op: &str,
        inputs: &[ValueId],
        attributes: &[(&str, Attr)],
        output: Option<ValueId>,
    ) -> ValueId {
        let float = TensorType { dtype: DType::Float, shape: None };
        let id = output.unwrap_or_else(|| self.graph.add_value(&format!("{}/{op}", node.name), Some(float)));
        let name = if output.is_some() { node.name.clone() } else { self.graph.value_name(id).to_string() };
        self.nodes.push(Node {
            name,
            op: op.into(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(id)],
            attributes: attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            ..Node::default()
        });
        id
    }
}

fn floats(node: &Node, name: &str) -> Option<Vec<f32>> {
    match node.attributes.get(name) {
        Some(Attr::Floats(values)) => Some(values.clone()),
        _ => None,
    }
}

/// Whether the second half is the first with the sign turned: two classes, one score.
fn is_two_sided(values: &[f32]) -> bool {
    let (first, second) = values.split_at(values.len() / 2);
    first.len() == second.len() && first.iter().zip(second).all(|(a, b)| *a == -*b)
}
