//! Values as a graph declares its inputs and outputs.

use super::proto::{Dimension, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto};
use crate::graph::{Dim, Graph, TensorType, ValueId};

/// A value's name with its type, where known.
pub fn declared(graph: &Graph, id: ValueId) -> ValueInfoProto {
    let ty = graph.ty(id).map(|ty| TypeProto { tensor_type: Some(type_proto(ty)) });
    ValueInfoProto { name: Some(graph.value_name(id).into()), r#type: ty }
}

fn type_proto(ty: &TensorType) -> TensorTypeProto {
    let dimension = |dim: &Dim| match dim {
        Dim::Fixed(size) => Dimension { dim_value: Some(*size as i64), dim_param: None },
        Dim::Named(name) => Dimension { dim_value: None, dim_param: Some(name.clone()) },
        Dim::Unknown => Dimension::default(),
    };
    let shape = ty.shape.as_ref().map(|shape| TensorShapeProto { dim: shape.iter().map(dimension).collect() });
    TensorTypeProto { elem_type: Some(ty.dtype.onnx()), shape }
}
