//! The graph: nodes, values, types and symbolic shapes, without a file format and without a runtime.
//!
//! Takes nothing and gives the types that every other stage works on. A graph is kept in topological order: a node's
//! inputs are graph inputs, initializers or outputs of earlier nodes. It imports no other module of the project, does
//! no I/O and never looks at a tensor's numbers except for small integer constants (axes, shapes).

mod build;
mod inline;
mod scan;
mod tensor;
mod walk;

pub use build::{Builder, Val};
pub use scan::Steps;
pub use tensor::{DType, Element, Tensor};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// A value (edge) of a graph: an index into [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One dimension of a shape. Symbolic dimensions are compared by name (ONNX `dim_param`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known before the run.
    Fixed(u64),
    /// Known only at run time; equal names are equal sizes.
    Named(String),
    /// Nothing is known; equal to no other dimension.
    Unknown,
}

impl Dim {
    /// The size, where it is known.
    pub fn fixed(&self) -> Option<u64> {
        match self {
            Dim::Fixed(size) => Some(*size),
            _ => None,
        }
    }

    /// Whether both are certain to be the same size at run time.
    pub fn same(&self, other: &Dim) -> bool {
        !matches!(self, Dim::Unknown) && self == other
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(size) => write!(f, "{size}"),
            Dim::Named(name) => f.write_str(name),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// Element type and shape of a tensor value; `shape` is `None` where not even the rank is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Option<Vec<Dim>>,
}

impl TensorType {
    /// A type with a known shape.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Self {
        Self { dtype, shape: Some(shape) }
    }

    /// The number of dimensions, where known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The shape of one row (without the first dimension) where what is left open is empty; `None` if nothing is open.
    pub fn empty_row(&self) -> Option<Vec<u64>> {
        let shape: Vec<u64> = self.shape.as_ref()?.iter().skip(1).map(|dim| dim.fixed().unwrap_or(0)).collect();
        shape.contains(&0).then_some(shape)
    }

    /// All sizes, where every one is known.
    pub fn fixed_shape(&self) -> Option<Vec<u64>> {
        self.shape.as_ref()?.iter().map(Dim::fixed).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype)?;
        match &self.shape {
            None => f.write_str("[…]"),
            Some(shape) => {
                let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
                write!(f, "[{}]", dims.join(","))
            }
        }
    }
}

/// A named value with its type, where known. Names are unique in a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The ONNX name.
    pub name: String,
    /// The type; `None` for a value nobody has declared or inferred, or that is not a tensor.
    pub ty: Option<TensorType>,
}

/// A node's attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attr {
    /// `INT`
    Int(i64),
    /// `FLOAT`
    Float(f32),
    /// `STRING`
    Str(String),
    /// `TENSOR`
    Tensor(Tensor),
    /// `INTS`
    Ints(Vec<i64>),
    /// `FLOATS`
    Floats(Vec<f32>),
    /// `STRINGS`
    Strs(Vec<String>),
    /// A sub-graph (`If`, `Loop`, `Scan`), kept as the bytes of its ONNX encoding, and the outer values it reads.
    Graph {
        /// The encoded `GraphProto`.
        encoded: bytes::Bytes,
        /// Values of the surrounding graph that the sub-graph refers to by name.
        captures: Vec<ValueId>,
    },
    /// A sub-graph that was written here and in no file, such as the steps of a gradient ([`Builder::scan`]).
    Body {
        /// Its first values stand for the captures, in their order.
        graph: Arc<Graph>,
        /// The values of the surrounding graph that it reads.
        captures: Vec<ValueId>,
    },
}

impl Attr {
    /// The values of the surrounding graph that a sub-graph reads; none for other attributes.
    pub fn captures(&self) -> &[ValueId] {
        match self {
            Attr::Graph { captures, .. } | Attr::Body { captures, .. } => captures,
            _ => &[],
        }
    }

    /// [`Attr::captures`], to be changed.
    pub fn captures_mut(&mut self) -> &mut [ValueId] {
        match self {
            Attr::Graph { captures, .. } | Attr::Body { captures, .. } => captures,
            _ => &mut [],
        }
    }
}

/// An operator application.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// The node's name; never empty (unnamed nodes are given `op_type` + number when read).
    pub name: String,
    /// The operator, spelled as ONNX has it.
    pub op: String,
    /// The operator set's domain; empty for `ai.onnx`.
    pub domain: String,
    /// Inputs in order; `None` for an omitted optional input.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs in order; `None` for an omitted optional output.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attr>,
    /// The path of the module that the node is part of in the program that the model was exported from
    /// (`model.layers.0.self_attn.q_proj`); empty where the file does not tell.
    pub module: String,
}

impl Node {
    /// The values that the node reads, sub-graph captures included.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        let captures = self.attributes.values().flat_map(Attr::captures);
        self.inputs.iter().flatten().chain(captures).copied()
    }

    /// The values that the node writes.
    pub fn writes(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.outputs.iter().flatten().copied()
    }

    /// An integer attribute, or `default`.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(Attr::Int(value)) => *value,
            _ => default,
        }
    }

    /// A float attribute, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.attributes.get(name) {
            Some(Attr::Float(value)) => *value,
            _ => default,
        }
    }

    /// A list-of-integers attribute.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attr::Ints(values)) => Some(values),
            _ => None,
        }
    }

    /// How many classes a classifier of `ai.onnx.ml` names; the attribute's name depends on the operator and the labels' type.
    pub fn class_labels(&self) -> Option<usize> {
        let mut named = self.attributes.iter().filter(|(name, _)| name.starts_with("classlabels_"));
        let count = named.find_map(|(_, value)| match value {
            Attr::Ints(labels) => Some(labels.len()),
            Attr::Strs(labels) => Some(labels.len()),
            _ => None,
        });
        count.filter(|count| *count > 0)
    }

    /// A string attribute, or `default`.
    pub fn str<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        match self.attributes.get(name) {
            Some(Attr::Str(value)) => value,
            _ => default,
        }
    }
}

/// A graph with its weights. Nodes are in topological order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// Version of the `ai.onnx` operator set.
    pub opset: i64,
    /// Versions of other operator sets by domain.
    pub domains: BTreeMap<String, i64>,
    /// All values; a [`ValueId`] is an index into it.
    pub values: Vec<Value>,
    /// What a caller feeds. An initializer is listed here only in a graph that is about to be written, where it is the
    /// default of an input that need not be fed; a reader takes it for a constant.
    pub inputs: Vec<ValueId>,
    /// What a caller gets.
    pub outputs: Vec<ValueId>,
    /// Operator applications in topological order.
    pub nodes: Vec<Node>,
    /// Constant values: the weights.
    pub initializers: BTreeMap<ValueId, Tensor>,
    /// Initializers that are settings and no weights, such as the mean that a scaler takes away: no layer learns them.
    pub settings: HashSet<ValueId>,
    names: HashMap<String, ValueId>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str, opset: i64) -> Self {
        Self { name: name.into(), opset, ..Self::default() }
    }

    /// Adds a value. A name that is taken gets a number appended; the caller reads the final name back by id.
    pub fn add_value(&mut self, name: &str, ty: Option<TensorType>) -> ValueId {
        let mut unique = name.to_string();
        let mut suffix = 1;
        while unique.is_empty() || self.names.contains_key(&unique) {
            unique = format!("{name}_{suffix}");
            suffix += 1;
        }
        let id = ValueId(u32::try_from(self.values.len()).expect("fewer than 2^32 values"));
        self.names.insert(unique.clone(), id);
        self.values.push(Value { name: unique, ty });
        id
    }

    /// Adds a value that a caller feeds.
    pub fn add_input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let id = self.add_value(name, Some(ty));
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn add_initializer(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = self.add_value(name, Some(tensor.ty()));
        self.initializers.insert(id, tensor);
        id
    }

    /// Gives each of two values the other's name.
    pub fn exchange_names(&mut self, one: ValueId, other: ValueId) {
        let [first, second] = [one, other].map(|id| self.values[id.index()].name.clone());
        self.names.insert(first.clone(), other);
        self.names.insert(second.clone(), one);
        (self.values[one.index()].name, self.values[other.index()].name) = (second, first);
    }

    /// The value of that name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// A value's name.
    pub fn value_name(&self, id: ValueId) -> &str {
        &self.values[id.index()].name
    }

    /// A value's type, where known.
    pub fn ty(&self, id: ValueId) -> Option<&TensorType> {
        self.values[id.index()].ty.as_ref()
    }
}
