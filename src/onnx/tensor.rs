//! `TensorProto` ⇄ [`Tensor`]: one representation, little-endian bytes, whose number is checked against the shape.

use super::Error;
use super::external::ExternalFiles;
use super::proto::{DATA_LOCATION_EXTERNAL, TensorProto};
use crate::graph::{DType, Tensor};
use bytes::Bytes;

const AGAIN: &str = "the file is damaged: export or copy the model again";

/// Bytes that `shape` of `dtype` takes; `None` where that is no number.
pub fn size_bytes(dtype: DType, shape: &[u64]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size))?;
    Some(elements.checked_mul(dtype.bits() as u64)?.div_ceil(8))
}

/// Reads a tensor; `name` is what errors call it. Raw and external data are shared, typed fields converted.
pub fn read(proto: &TensorProto, name: &str, files: &mut ExternalFiles) -> Result<Tensor, Error> {
    let wrong = |problem: String, remedy| Error::Tensor { tensor: name.into(), problem, remedy };
    let number = proto.data_type.unwrap_or_default();
    let dtype = DType::from_onnx(number).filter(|dtype| *dtype != DType::String).ok_or_else(|| {
        let problem = format!("element type {number} is not supported as a constant");
        wrong(problem, "export the model with float, integer or boolean weights")
    })?;
    if proto.segment.is_some() {
        return Err(wrong("is stored in segments".into(), "save the model again with a current onnx package"));
    }
    let shape: Option<Vec<u64>> = proto.dims.iter().map(|size| u64::try_from(*size).ok()).collect();
    let sized = shape.and_then(|shape| size_bytes(dtype, &shape).map(|bytes| (shape, bytes)));
    let Some((shape, expected)) = sized else {
        return Err(wrong(format!("its shape {:?} is not a shape that can exist", proto.dims), AGAIN));
    };
    let data = if proto.data_location == Some(DATA_LOCATION_EXTERNAL) {
        files.bytes(proto, name, expected)?
    } else {
        match &proto.raw_data {
            Some(raw) if !raw.is_empty() => raw.clone(),
            _ => typed(proto, dtype),
        }
    };
    if data.len() as u64 != expected {
        return Err(wrong(format!("{dtype}{shape:?} takes {expected} bytes but {} are stored", data.len()), AGAIN));
    }
    Ok(Tensor { dtype, shape, data })
}

/// The typed field that `onnx.proto` names for the element type, as little-endian bytes.
fn typed(proto: &TensorProto, dtype: DType) -> Bytes {
    let ints = &proto.int32_data;
    match dtype {
        DType::Float => proto.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::Double => proto.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::Int64 => proto.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::Uint64 => proto.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::Uint32 => proto.uint64_data.iter().flat_map(|value| (*value as u32).to_le_bytes()).collect(),
        DType::Int32 => ints.iter().flat_map(|value| value.to_le_bytes()).collect(),
        // fp16 and bf16 are stored as their bit patterns.
        DType::Int16 | DType::Uint16 | DType::Float16 | DType::Bfloat16 => {
            ints.iter().flat_map(|value| (*value as u16).to_le_bytes()).collect()
        }
        DType::Bool => ints.iter().map(|value| u8::from(*value != 0)).collect(),
        // Each entry holds one byte; for 4-bit types that is two elements.
        DType::Int8 | DType::Uint8 | DType::Int4 | DType::Uint4 => ints.iter().map(|value| *value as u8).collect(),
        DType::String => Bytes::new(),
    }
}

/// The tensor with its data embedded; the bytes are shared until the message is encoded.
pub fn embedded(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto { raw_data: Some(tensor.data.clone()), ..header(name, tensor) }
}

/// Name, type and shape without data.
pub fn header(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: (!name.is_empty()).then(|| name.to_string()),
        data_type: Some(tensor.dtype.onnx()),
        dims: tensor.shape.iter().map(|size| *size as i64).collect(),
        ..TensorProto::default()
    }
}
