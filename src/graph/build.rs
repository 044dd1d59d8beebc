//! Writing nodes as one writes maths: [`Val`] is a `Copy` handle with operators; [`Builder`] owns the graph meanwhile.

use super::{Attr, DType, Graph, Node, Tensor, TensorType, ValueId};
use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Constants by element type, shape and bytes, to store equal ones once.
type Constants = HashMap<(DType, Vec<u64>, Vec<u8>), ValueId>;

/// Appends nodes to a graph. Every appended node reads values that exist, so the order stays topological.
#[derive(Debug)]
pub struct Builder {
    graph: RefCell<Graph>,
    constants: RefCell<Constants>,
    prefix: String,
}

/// A value of the graph under construction. Arithmetic on it appends nodes (with numpy broadcasting, as in ONNX).
#[derive(Clone, Copy)]
pub struct Val<'b> {
    builder: &'b Builder,
    id: ValueId,
}

impl Builder {
    /// Goes on writing to `graph`; new nodes and values are called `prefix` + operator.
    pub fn new(graph: Graph, prefix: &str) -> Self {
        Self { graph: RefCell::new(graph), constants: RefCell::default(), prefix: prefix.into() }
    }

    /// The graph as it is now.
    pub fn graph(&self) -> Ref<'_, Graph> {
        self.graph.borrow()
    }

    /// What the names of new nodes and values begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Changes the graph as one likes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Graph) -> T) -> T {
        change(&mut self.graph.borrow_mut())
    }

    /// Output `index` of the node that writes `of`; where the node omits it, it is asked for now.
    pub fn output_beside<'b>(&'b self, of: ValueId, index: usize) -> Val<'b> {
        let mut graph = self.graph.borrow_mut();
        let at = graph.nodes.iter().position(|node| node.writes().any(|id| id == of)).expect("a written value");
        if graph.nodes[at].outputs.get(index).copied().flatten().is_none() {
            let ty = graph.ty(of).map(|ty| TensorType { dtype: ty.dtype, shape: None });
            let name = format!("{}{}_{index}", self.prefix, graph.nodes[at].name);
            let id = graph.add_value(&name, ty);
            let outputs = &mut graph.nodes[at].outputs;
            outputs.resize(outputs.len().max(index + 1), None);
            outputs[index] = Some(id);
        }
        let id = graph.nodes[at].outputs[index].expect("asked for above");
        drop(graph);
        self.val(id)
    }

    /// Tells a value's type, where a rule will ask for more than the element type that an appended value has.
    pub fn give_type(&self, value: Val<'_>, ty: TensorType) {
        self.change(|graph| graph.values[value.id.index()].ty = Some(ty));
    }

    /// Ends the construction.
    pub fn finish(self) -> Graph {
        self.graph.into_inner()
    }

    /// A handle to a value that is in the graph.
    pub fn val(&self, id: ValueId) -> Val<'_> {
        assert!(id.index() < self.graph.borrow().values.len(), "a value of another graph");
        Val { builder: self, id }
    }

    /// Adds a value that a caller feeds.
    pub fn input(&self, name: &str, ty: TensorType) -> Val<'_> {
        let id = self.graph.borrow_mut().add_input(name, ty);
        self.val(id)
    }

    /// Makes a value an output of the graph under that name (through `Identity`, so that any value will do).
    pub fn output(&self, name: &str, value: Val<'_>) {
        let mut graph = self.graph.borrow_mut();
        let ty = graph.ty(value.id).cloned();
        let id = graph.add_value(name, ty);
        graph.nodes.push(Node {
            name: format!("{}output/{name}", self.prefix),
            op: "Identity".into(),
            inputs: vec![Some(value.id)],
            outputs: vec![Some(id)],
            ..Node::default()
        });
        graph.outputs.push(id);
    }

    /// A constant. Equal small constants are stored once.
    pub fn constant(&self, tensor: Tensor) -> Val<'_> {
        let key = (tensor.dtype, tensor.shape.clone(), tensor.data.to_vec());
        let known = self.constants.borrow().get(&key).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.graph.borrow_mut().add_initializer(&format!("{}constant", self.prefix), tensor);
            self.constants.borrow_mut().insert(key, id);
            id
        });
        self.val(id)
    }

    /// A constant of many bytes, such as a part of a weight: it is not compared with others, and its bytes are not copied.
    pub fn weight(&self, tensor: Tensor) -> Val<'_> {
        let id = self.graph.borrow_mut().add_initializer(&format!("{}weight", self.prefix), tensor);
        self.val(id)
    }

    /// A constant vector of `i64` (axes, shapes).
    pub fn ints(&self, values: &[i64]) -> Val<'_> {
        self.constant(Tensor::from_i64(&[values.len() as u64], values))
    }

    /// A constant scalar of a float type.
    pub fn scalar(&self, dtype: DType, value: f64) -> Val<'_> {
        self.constant(Tensor::float_scalar(dtype, value))
    }

    /// Appends an `ai.onnx` node with one output.
    pub fn op<'b>(&'b self, op: &str, inputs: &[Val<'b>], attributes: &[(&str, Attr)]) -> Val<'b> {
        let inputs: Vec<_> = inputs.iter().map(|value| Some(*value)).collect();
        self.node(op, &inputs, 1, attributes)[0]
    }

    /// Appends an `ai.onnx` node; `None` omits an optional input.
    pub fn node<'b>(
        &'b self,
        op: &str,
        inputs: &[Option<Val<'b>>],
        outputs: usize,
        attributes: &[(&str, Attr)],
    ) -> Vec<Val<'b>> {
        self.node_of("", op, inputs, outputs, attributes)
    }

    /// Appends a node of the first version of another domain's operator set, or of the version that the graph has.
    pub fn node_of<'b>(
        &'b self,
        domain: &str,
        op: &str,
        inputs: &[Option<Val<'b>>],
        outputs: usize,
        attributes: &[(&str, Attr)],
    ) -> Vec<Val<'b>> {
        let mut graph = self.graph.borrow_mut();
        if !domain.is_empty() {
            graph.domains.entry(domain.into()).or_insert(1);
        }
        let attributes = attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let name = format!("{}{op}_{}", self.prefix, graph.nodes.len());
        let mut node = Node { op: op.into(), domain: domain.into(), attributes, ..Node::default() };
        node.inputs = inputs.iter().map(|value| value.map(|value| value.id)).collect();
        let ids: Vec<ValueId> = (0..outputs)
            .map(|index| {
                let ty = output_dtype(&graph, &node, index).map(|dtype| TensorType { dtype, shape: None });
                graph.add_value(&name, ty)
            })
            .collect();
        node.outputs = ids.iter().map(|id| Some(*id)).collect();
        node.name = name;
        graph.nodes.push(node);
        drop(graph);
        ids.into_iter().map(|id| self.val(id)).collect()
    }
}

/// Element type of an appended node's output. Covers the operators that gradients are written in.
fn output_dtype(graph: &Graph, node: &Node, output: usize) -> Option<DType> {
    let of_input = |index: usize| {
        node.inputs.get(index).copied().flatten().and_then(|id| graph.ty(id)).map(|ty: &TensorType| ty.dtype)
    };
    match node.op.as_str() {
        "MaxPool" | "TopK" if output == 1 => Some(DType::Int64),
        "LayerNormalization" if output > 0 => DType::from_onnx(node.int("stash_type", 1) as i32),
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(DType::Int64),
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or" | "Xor" | "IsNaN"
        | "IsInf" => Some(DType::Bool),
        "Cast" => DType::from_onnx(node.int("to", 0) as i32),
        "ConstantOfShape" => match node.attributes.get("value") {
            Some(Attr::Tensor(tensor)) => Some(tensor.dtype),
            _ => Some(DType::Float),
        },
        "Where" | "DequantizeLinear" => of_input(1),
        "OneHot" => of_input(2),
        _ => of_input(0),
    }
}

impl<'b> Val<'b> {
    /// The value's id in the graph.
    pub fn id(self) -> ValueId {
        self.id
    }

    /// The builder that the value belongs to.
    pub fn builder(self) -> &'b Builder {
        self.builder
    }

    /// Element type; `Float` where nothing is known.
    pub fn dtype(self) -> DType {
        self.ty().map_or(DType::Float, |ty| ty.dtype)
    }

    /// The type as declared or inferred; appended values know only their element type.
    pub fn ty(self) -> Option<TensorType> {
        self.builder.graph.borrow().ty(self.id).cloned()
    }

    /// A constant scalar of this value's element type.
    pub fn scalar_like(self, value: f64) -> Val<'b> {
        self.builder.scalar(self.dtype(), value)
    }

    /// Appends `op(self)`.
    pub fn unary(self, op: &str) -> Val<'b> {
        self.builder.op(op, &[self], &[])
    }

    /// Appends `op(self, other)`.
    pub fn binary(self, op: &str, other: Val<'b>) -> Val<'b> {
        self.builder.op(op, &[self, other], &[])
    }

    /// Matrix product over the last two dimensions.
    pub fn matmul(self, other: Val<'b>) -> Val<'b> {
        self.binary("MatMul", other)
    }

    /// Dimensions reordered: output dimension `i` is input dimension `perm[i]`.
    pub fn transpose(self, perm: &[i64]) -> Val<'b> {
        self.builder.op("Transpose", &[self], &[("perm", Attr::Ints(perm.to_vec()))])
    }

    /// The shape at run time, as a vector of `i64`.
    pub fn shape(self) -> Val<'b> {
        self.unary("Shape")
    }

    /// Viewed in another shape, given as a vector of `i64` (−1 for at most one size to be found).
    pub fn reshape(self, shape: Val<'b>) -> Val<'b> {
        self.binary("Reshape", shape)
    }

    /// [`Val::reshape`] to sizes known now; 0 keeps the size at that position.
    pub fn reshape_to(self, shape: &[i64]) -> Val<'b> {
        self.reshape(self.builder.ints(shape))
    }

    /// Broadcast to a shape given as a vector of `i64`.
    pub fn expand(self, shape: Val<'b>) -> Val<'b> {
        self.binary("Expand", shape)
    }

    /// Sum over `axes`; summed dimensions stay with size 1 if `keep` is set.
    pub fn reduce_sum(self, axes: &[i64], keep: bool) -> Val<'b> {
        let axes = self.builder.ints(axes);
        self.builder.op("ReduceSum", &[self, axes], &[("keepdims", Attr::Int(keep.into()))])
    }

    /// Sum of all elements, a scalar.
    pub fn sum_all(self) -> Val<'b> {
        self.builder.op("ReduceSum", &[self], &[("keepdims", Attr::Int(0))])
    }

    /// New dimensions of size 1 at `axes`.
    pub fn unsqueeze(self, axes: &[i64]) -> Val<'b> {
        self.binary("Unsqueeze", self.builder.ints(axes))
    }

    /// Dimensions of size 1 at `axes` taken away.
    pub fn squeeze(self, axes: &[i64]) -> Val<'b> {
        self.binary("Squeeze", self.builder.ints(axes))
    }

    /// Elements `starts[i]..ends[i]` along `axes[i]`.
    pub fn slice(self, starts: &[i64], ends: &[i64], axes: &[i64]) -> Val<'b> {
        let ints = |values| self.builder.ints(values);
        self.builder.op("Slice", &[self, ints(starts), ints(ends), ints(axes)], &[])
    }

    /// Rows picked by `indices` along `axis`.
    pub fn gather(self, indices: Val<'b>, axis: i64) -> Val<'b> {
        self.builder.op("Gather", &[self, indices], &[("axis", Attr::Int(axis))])
    }

    /// Converted to another element type; itself if it has that type.
    pub fn cast(self, to: DType) -> Val<'b> {
        if self.ty().is_some_and(|ty| ty.dtype == to) {
            return self;
        }
        self.builder.op("Cast", &[self], &[("to", Attr::Int(to.onnx().into()))])
    }

    /// `then` where this boolean value is true, `otherwise` elsewhere.
    pub fn select(self, then: Val<'b>, otherwise: Val<'b>) -> Val<'b> {
        self.builder.op("Where", &[self, then, otherwise], &[])
    }

    /// eˣ
    pub fn exp(self) -> Val<'b> {
        self.unary("Exp")
    }

    /// ln x
    pub fn log(self) -> Val<'b> {
        self.unary("Log")
    }

    /// √x
    pub fn sqrt(self) -> Val<'b> {
        self.unary("Sqrt")
    }

    /// tanh x
    pub fn tanh(self) -> Val<'b> {
        self.unary("Tanh")
    }

    /// 1 / (1 + e⁻ˣ)
    pub fn sigmoid(self) -> Val<'b> {
        self.unary("Sigmoid")
    }

    /// x > y, boolean.
    pub fn greater(self, other: Val<'b>) -> Val<'b> {
        self.binary("Greater", other)
    }

    /// x < y, boolean.
    pub fn less(self, other: Val<'b>) -> Val<'b> {
        self.binary("Less", other)
    }

    /// x = y, boolean.
    pub fn equal(self, other: Val<'b>) -> Val<'b> {
        self.binary("Equal", other)
    }
}

impl Neg for Val<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.unary("Neg")
    }
}

macro_rules! arithmetic {
    ($($trait:ident $method:ident $op:literal),*) => {$(
        impl<'b> $trait for Val<'b> {
            type Output = Val<'b>;
            fn $method(self, other: Val<'b>) -> Val<'b> {
                self.binary($op, other)
            }
        }
        impl<'b> $trait<f64> for Val<'b> {
            type Output = Val<'b>;
            fn $method(self, other: f64) -> Val<'b> {
                self.binary($op, self.scalar_like(other))
            }
        }
        impl<'b> $trait<Val<'b>> for f64 {
            type Output = Val<'b>;
            fn $method(self, other: Val<'b>) -> Val<'b> {
                other.scalar_like(self).binary($op, other)
            }
        }
    )*};
}

arithmetic!(Add add "Add", Sub sub "Sub", Mul mul "Mul", Div div "Div");
