//! Quantised operators (ONNX Runtime's "QOperator" format) taken apart into what they compute: `DequantizeLinear`, the
//! operator on floats, `QuantizeLinear`.
//!
//! So written a layer has a weight that can be found, factors can stand beside it, and a gradient passes. Where nothing learns
//! ONNX Runtime puts the nodes together again, and they run as integers.

use crate::graph::{Attr, DType, Graph, Node, Tensor, TensorType, ValueId};

/// How an operator reads: value, scale and zero point of each operand, then scale and zero point of the result.
struct QuantisedForm {
    /// The quantised operator.
    op: &'static str,
    /// What it computes on floats.
    floats: &'static str,
    /// Where value, scale and zero point of each operand begin.
    operands: &'static [usize],
    /// Where scale and zero point of the result begin.
    result: usize,
    /// Where the bias is, an integer of both operands' scales.
    bias: Option<usize>,
}

const fn form(op: &'static str, floats: &'static str, operands: &'static [usize], result: usize) -> QuantisedForm {
    QuantisedForm { op, floats, operands, result, bias: None }
}

#[rustfmt::skip]
static FORMS: &[QuantisedForm] = &[
    QuantisedForm { op: "QGemm", floats: "Gemm", operands: &[0, 3], result: 7, bias: Some(6) },
    form("QLinearAdd", "Add", &[0, 3], 6),
    form("QLinearAveragePool", "AveragePool", &[0], 3),
    QuantisedForm { op: "QLinearConv", floats: "Conv", operands: &[0, 3], result: 6, bias: Some(8) },
    form("QLinearGlobalAveragePool", "GlobalAveragePool", &[0], 3),
    form("QLinearLeakyRelu", "LeakyRelu", &[0], 3),
    form("QLinearMatMul", "MatMul", &[0, 3], 6),
    form("QLinearMul", "Mul", &[0, 3], 6),
    form("QLinearSigmoid", "Sigmoid", &[0], 3),
];

/// Takes every such operator apart whose scales are constants; the others stay as they are.
pub fn take_apart(graph: &mut Graph) {
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        match FORMS.iter().find(|form| form.op == node.op).and_then(|form| apart(graph, &node, form)) {
            Some(parts) => nodes.extend(parts),
            None => nodes.push(node),
        }
    }
    graph.nodes = nodes;
}

fn input(node: &Node, i: usize) -> Option<ValueId> {
    node.inputs.get(i).copied().flatten()
}

fn apart(graph: &mut Graph, node: &Node, form: &QuantisedForm) -> Option<Vec<Node>> {
    if node.int("channels_last", 0) != 0 {
        return None;
    }
    let scales: Vec<Tensor> = form.operands.iter().map(|at| scale(graph, node, at + 1)).collect::<Option<_>>()?;
    let bias_scale = match form.bias.filter(|at| input(node, *at).is_some()) {
        Some(_) => Some(product(&scales[0], &scales[1], node.float("alpha", 1.0))?),
        None => None,
    };
    let output = node.outputs[0]?;
    let result_scale = input(node, form.result);
    let mut parts = Vec::new();
    let mut floats: Vec<Option<ValueId>> = Vec::new();
    for (operand, at) in form.operands.iter().enumerate() {
        // Only weights have several scales: the last dimension of a matrix, the first of a kernel or a transposed matrix.
        let rows = form.floats == "Conv" || node.int("transB", 0) != 0;
        let axis = if operand == 1 && rows { 0 } else { -1 };
        let triple = [input(node, *at), input(node, at + 1), input(node, at + 2)];
        floats.push(Some(dequantised(graph, &mut parts, node, triple, axis)?));
    }
    if let (Some(at), Some(scale)) = (form.bias, bias_scale) {
        let name = format!("{}/bias_scale", node.name);
        let scale = graph.add_initializer(&name, scale);
        floats.push(Some(dequantised(graph, &mut parts, node, [input(node, at), Some(scale), None], 0)?));
    }
    let float_ty = graph.ty(output).map(|ty| TensorType { dtype: DType::Float, ..ty.clone() });
    let result = match result_scale {
        Some(_) => graph.add_value(&format!("{}/float", graph.value_name(output)), float_ty),
        None => output,
    };
    let kept = |name: &str| !matches!(name, "channels_last");
    parts.push(Node {
        name: node.name.clone(),
        op: form.floats.into(),
        inputs: floats,
        outputs: vec![Some(result)],
        attributes: node
            .attributes
            .iter()
            .filter(|(name, _)| kept(name))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        ..Node::default()
    });
    if result_scale.is_some() {
        parts.push(Node {
            name: format!("{}/QuantizeLinear", node.name),
            op: "QuantizeLinear".into(),
            inputs: vec![Some(result), result_scale, input(node, form.result + 1)],
            outputs: vec![Some(output)],
            ..Node::default()
        });
    }
    Some(parts)
}

/// Appends a `DequantizeLinear` of value, scale and zero point.
fn dequantised(
    graph: &mut Graph,
    parts: &mut Vec<Node>,
    node: &Node,
    triple: [Option<ValueId>; 3],
    axis: i64,
) -> Option<ValueId> {
    let value = triple[0]?;
    let name = format!("{}_DequantizeLinear_Output", graph.value_name(value));
    let output = graph.add_value(&name, None);
    parts.push(Node {
        name: format!("{}/DequantizeLinear_{}", node.name, parts.len()),
        op: "DequantizeLinear".into(),
        inputs: triple.to_vec(),
        outputs: vec![Some(output)],
        attributes: [("axis".into(), Attr::Int(axis))].into(),
        ..Node::default()
    });
    Some(output)
}

fn scale(graph: &Graph, node: &Node, at: usize) -> Option<Tensor> {
    graph.initializers.get(&input(node, at)?).filter(|tensor| tensor.dtype == DType::Float).cloned()
}

/// α·a·b, where `a` is a number.
fn product(a: &Tensor, b: &Tensor, alpha: f32) -> Option<Tensor> {
    let (a, values) = (*a.to_f32()?.first()?, b.to_f32()?);
    Some(Tensor::from_f32(&b.shape, &values.iter().map(|b| alpha * a * b).collect::<Vec<f32>>()))
}
