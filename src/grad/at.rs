//! A node in its place: what a rule may ask.

use super::unbroadcast;
use crate::graph::{Attr, Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val, ValueId};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// A node during the reverse walk: its inputs, outputs, attributes, types, and the gradients of its outputs.
///
/// Index `i` counts the node's inputs (`x`) or outputs (`y`, `dy`) as in the ONNX specification of the operator.
pub struct At<'a, 'b> {
    builder: &'b Builder,
    graph: &'a Graph,
    node: &'a Node,
    gradients: &'a HashMap<ValueId, Val<'b>>,
    needed: &'a HashSet<ValueId>,
    opset: i64,
    again: RefCell<HashMap<usize, Val<'b>>>,
}

impl<'a, 'b> At<'a, 'b> {
    pub(super) fn new(
        builder: &'b Builder,
        graph: &'a Graph,
        node: &'a Node,
        gradients: &'a HashMap<ValueId, Val<'b>>,
        needed: &'a HashSet<ValueId>,
        opset: i64,
    ) -> Self {
        Self { builder, graph, node, gradients, needed, opset, again: RefCell::default() }
    }

    /// Where new nodes are written.
    pub fn builder(&self) -> &'b Builder {
        self.builder
    }

    /// The node itself, for its attributes.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The version of the node's operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The version of `ai.onnx` that new nodes are written in.
    pub fn opset_of_onnx(&self) -> i64 {
        self.graph.opset
    }

    /// The number of inputs, omitted optional ones in the middle included.
    pub fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// Whether input `i` is there.
    pub fn has(&self, i: usize) -> bool {
        self.node.inputs.get(i).is_some_and(Option::is_some)
    }

    /// Input `i`. Panics if it was omitted: ask [`At::has`] for optional ones.
    ///
    /// A frozen weight that a `DequantizeLinear` gives is dequantised again, so that its floats do not live from the
    /// forward pass until the gradient's.
    pub fn x(&self, i: usize) -> Val<'b> {
        let id = self.node.inputs.get(i).copied().flatten();
        let id = id.unwrap_or_else(|| panic!("{} has no input {i}", self.node.op));
        let Some(giver) = self.dequantised_weight(i) else { return self.builder.val(id) };
        *self.again.borrow_mut().entry(i).or_insert_with(|| {
            let constants: Vec<Option<Val<'b>>> =
                giver.inputs.iter().map(|id| id.map(|id| self.constant_again(id))).collect();
            let attributes: Vec<(&str, Attr)> =
                giver.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            self.builder.node_of(&giver.domain, &giver.op, &constants, 1, &attributes)[0]
        })
    }

    /// Input `i` as it is, or under another name where it is a constant. ONNX Runtime rewrites signed weights and their zero
    /// points for x86 by their names, and fails where two nodes read the same. It costs nothing: the bytes are the same.
    pub fn x_again(&self, i: usize) -> Val<'b> {
        let id = self.node.inputs.get(i).copied().flatten();
        self.constant_again(id.unwrap_or_else(|| panic!("{} has no input {i}", self.node.op)))
    }

    fn constant_again(&self, id: ValueId) -> Val<'b> {
        match self.graph.initializers.get(&id) {
            Some(tensor) => self.builder.weight(tensor.clone()),
            None => self.builder.val(id),
        }
    }

    /// The `DequantizeLinear` of constants that gives input `i`.
    pub fn dequantised_weight(&self, i: usize) -> Option<&'a Node> {
        let id = self.node.inputs.get(i).copied().flatten()?;
        let constants = |node: &&Node| node.inputs.iter().flatten().all(|id| self.graph.initializers.contains_key(id));
        let gives = |node: &&Node| node.op == "DequantizeLinear" && node.outputs.first() == Some(&Some(id));
        self.graph.nodes.iter().find(gives).filter(constants)
    }

    /// Output `i`, reused from the forward pass.
    pub fn y(&self, i: usize) -> Val<'b> {
        let id = self.node.outputs.get(i).copied().flatten();
        self.builder.val(id.unwrap_or_else(|| panic!("{} has no output {i}", self.node.op)))
    }

    /// The gradient of output `i`, where one came.
    pub fn dy_if(&self, i: usize) -> Option<Val<'b>> {
        let id = self.node.outputs.get(i).copied().flatten()?;
        self.gradients.get(&id).copied()
    }

    /// The gradient of output `i`; zeros of its shape where none came.
    pub fn dy(&self, i: usize) -> Val<'b> {
        self.dy_if(i).unwrap_or_else(|| self.zeros_like(self.y(i)))
    }

    /// Zeros of a value's shape and type.
    pub fn zeros_like(&self, value: Val<'b>) -> Val<'b> {
        let zero = Tensor { shape: vec![1], ..Tensor::float_scalar(value.dtype(), 0.0) };
        self.builder.op("ConstantOfShape", &[value.shape()], &[("value", Attr::Tensor(zero))])
    }

    /// Whether a gradient is wanted for input `i`: a rule may skip the others.
    pub fn needs(&self, i: usize) -> bool {
        self.node.inputs.get(i).copied().flatten().is_some_and(|id| self.needed.contains(&id))
    }

    /// The type of input `i`, where known.
    pub fn x_ty(&self, i: usize) -> Option<&'a TensorType> {
        self.graph.ty(self.node.inputs.get(i).copied().flatten()?)
    }

    /// The type of output `i`, where known.
    pub fn y_ty(&self, i: usize) -> Option<&'a TensorType> {
        self.graph.ty(self.node.outputs.get(i).copied().flatten()?)
    }

    /// Element type of input `i`.
    pub fn dtype(&self, i: usize) -> DType {
        self.x_ty(i).map_or(DType::Float, |ty| ty.dtype)
    }

    /// The dimensions of input `i`.
    ///
    /// # Errors
    /// Where not even the rank is known.
    pub fn x_shape(&self, i: usize) -> Result<&'a [Dim], String> {
        self.x_ty(i).and_then(|ty| ty.shape.as_deref()).ok_or_else(|| unknown_rank("input", i))
    }

    /// The dimensions of output `i`.
    ///
    /// # Errors
    /// Where not even the rank is known.
    pub fn y_shape(&self, i: usize) -> Result<&'a [Dim], String> {
        self.y_ty(i).and_then(|ty| ty.shape.as_deref()).ok_or_else(|| unknown_rank("output", i))
    }

    /// The rank of input `i`.
    ///
    /// # Errors
    /// Where it is unknown.
    pub fn rank(&self, i: usize) -> Result<usize, String> {
        Ok(self.x_shape(i)?.len())
    }

    /// The size of dimension `axis` (not negative) of input `i`.
    ///
    /// # Errors
    /// Where it is not fixed.
    pub fn fixed(&self, i: usize, axis: usize) -> Result<i64, String> {
        let dim = self.x_shape(i)?.get(axis).ok_or_else(|| format!("input {i} has no dimension {axis}"))?;
        let size = dim.fixed().ok_or_else(|| {
            format!(
                "dimension {axis} ({dim}) of input {i} must be fixed for its gradient; export the model with it fixed"
            )
        })?;
        Ok(size as i64)
    }

    /// The shape of input `i` as a vector of `i64`: a constant where every size is fixed, else read at run time.
    pub fn shape(&self, i: usize) -> Val<'b> {
        match self.x_ty(i).and_then(TensorType::fixed_shape) {
            Some(sizes) => self.builder.ints(&sizes.into_iter().map(|size| size as i64).collect::<Vec<_>>()),
            None => self.x(i).shape(),
        }
    }

    /// A gradient of output 0's shape, but for the last `trailing` dimensions, summed over what input `i` was repeated
    /// along. For rules in which only some inputs or dimensions broadcast; the walk does it for rows that say so.
    pub fn sum_to_input(&self, i: usize, gradient: Val<'b>, trailing: usize) -> Val<'b> {
        unbroadcast::to_input(self, i, gradient, trailing)
    }

    /// A float attribute, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f64 {
        self.node.float(name, default).into()
    }

    /// The constant behind input `i` as integers (axes, pads, shapes); `None` if it is computed at run time.
    pub fn constant_i64(&self, i: usize) -> Option<Vec<i64>> {
        self.constant(i)?.to_i64()
    }

    /// The constant behind input `i`, if it is one.
    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.graph.initializers.get(&self.node.inputs.get(i).copied().flatten()?)
    }

    /// An axis attribute or element, counted from the front.
    pub fn axis(&self, axis: i64, rank: usize) -> i64 {
        if axis < 0 { axis + rank as i64 } else { axis }
    }
}

fn unknown_rank(what: &str, i: usize) -> String {
    format!("the rank of {what} {i} is unknown; run the exporter's shape inference, or cut above this node")
}
