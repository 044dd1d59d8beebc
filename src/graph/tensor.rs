//! Element types and constant tensors. Bytes are shared, never copied: a weight is a range of a memory map.

use super::{Dim, TensorType};
use bytes::Bytes;
use std::fmt;

/// Element types, by their ONNX names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DType {
    Float,
    Uint8,
    Int8,
    Uint16,
    Int16,
    Int32,
    Int64,
    String,
    Bool,
    Float16,
    Double,
    Uint32,
    Uint64,
    Bfloat16,
    /// Two values a byte.
    Uint4,
    /// Two values a byte.
    Int4,
}

impl DType {
    /// Bits of one element; strings have none.
    pub fn bits(self) -> usize {
        match self {
            DType::String => 0,
            DType::Uint4 | DType::Int4 => 4,
            DType::Uint8 | DType::Int8 | DType::Bool => 8,
            DType::Uint16 | DType::Int16 | DType::Float16 | DType::Bfloat16 => 16,
            DType::Float | DType::Int32 | DType::Uint32 => 32,
            DType::Int64 | DType::Uint64 | DType::Double => 64,
        }
    }

    /// Whether values of this type can carry a gradient.
    pub fn is_float(self) -> bool {
        matches!(self, DType::Float | DType::Double | DType::Float16 | DType::Bfloat16)
    }

    /// The number that ONNX's `TensorProto.DataType` gives it.
    pub fn onnx(self) -> i32 {
        match self {
            DType::Float => 1,
            DType::Uint8 => 2,
            DType::Int8 => 3,
            DType::Uint16 => 4,
            DType::Int16 => 5,
            DType::Int32 => 6,
            DType::Int64 => 7,
            DType::String => 8,
            DType::Bool => 9,
            DType::Float16 => 10,
            DType::Double => 11,
            DType::Uint32 => 12,
            DType::Uint64 => 13,
            DType::Bfloat16 => 16,
            DType::Uint4 => 21,
            DType::Int4 => 22,
        }
    }

    /// The type with that ONNX number.
    pub fn from_onnx(number: i32) -> Option<Self> {
        [
            DType::Float,
            DType::Uint8,
            DType::Int8,
            DType::Uint16,
            DType::Int16,
            DType::Int32,
            DType::Int64,
            DType::String,
            DType::Bool,
            DType::Float16,
            DType::Double,
            DType::Uint32,
            DType::Uint64,
            DType::Bfloat16,
            DType::Uint4,
            DType::Int4,
        ]
        .into_iter()
        .find(|dtype| dtype.onnx() == number)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// A constant: type, shape and little-endian bytes, row-major. Cloning shares the bytes.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
    /// The elements as ONNX's `raw_data` has them.
    pub data: Bytes,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {} bytes)", self.ty(), self.data.len())
    }
}

impl Tensor {
    /// A tensor of `f32`.
    pub fn from_f32(shape: &[u64], values: &[f32]) -> Self {
        debug_assert_eq!(shape.iter().product::<u64>(), values.len() as u64);
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: DType::Float, shape: shape.to_vec(), data }
    }

    /// A tensor of a float type, rounded from `f32`.
    pub fn from_floats(dtype: DType, shape: &[u64], values: &[f32]) -> Self {
        let data: Vec<u8> = match dtype {
            DType::Float16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            DType::Bfloat16 => values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(),
            DType::Double => values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect(),
            _ => return Self::from_f32(shape, values),
        };
        Self { dtype, shape: shape.to_vec(), data: data.into() }
    }

    /// A tensor of `i64`.
    pub fn from_i64(shape: &[u64], values: &[i64]) -> Self {
        debug_assert_eq!(shape.iter().product::<u64>(), values.len() as u64);
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: DType::Int64, shape: shape.to_vec(), data }
    }

    /// A tensor over a buffer that already holds the elements; no copy.
    pub fn from_vec<T: Element>(shape: &[u64], values: Vec<T>) -> Self {
        debug_assert_eq!(shape.iter().product::<u64>(), values.len() as u64);
        Self { dtype: T::DTYPE, shape: shape.to_vec(), data: Bytes::from_owner(Owner(values)) }
    }

    /// The elements, if they are of type `T` and lie aligned for it.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        (self.dtype == T::DTYPE).then(|| bytemuck::try_cast_slice(&self.data).ok()).flatten()
    }

    /// A scalar of a float type.
    pub fn float_scalar(dtype: DType, value: f64) -> Self {
        let data = match dtype {
            DType::Double => Bytes::copy_from_slice(&value.to_le_bytes()),
            DType::Float16 => Bytes::copy_from_slice(&half::f16::from_f64(value).to_le_bytes()),
            DType::Bfloat16 => Bytes::copy_from_slice(&half::bf16::from_f64(value).to_le_bytes()),
            _ => return Self::from_f32(&[], &[value as f32]),
        };
        Self { dtype, shape: vec![], data }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product::<u64>() as usize
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type with every dimension fixed.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.iter().map(|size| Dim::Fixed(*size)).collect())
    }

    /// The elements as `i64`, for the integer types that axes and shapes come in.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self.dtype {
            DType::Int64 => {
                Some(self.data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect())
            }
            DType::Int32 => {
                Some(self.data.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect())
            }
            _ => None,
        }
    }

    /// The elements as `f32`, widened or narrowed from any float type.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let bytes = &self.data;
        Some(match self.dtype {
            DType::Float => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            DType::Double => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()) as f32).collect(),
            DType::Float16 => {
                bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
            }
            DType::Bfloat16 => {
                bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
            }
            _ => return None,
        })
    }
}

/// A Rust type that is the element of some [`DType`].
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The ONNX element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),*) => {$(
        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}

elements!(f32 => Float, f64 => Double, i64 => Int64, i32 => Int32, i8 => Int8, u8 => Uint8);

/// Lets `Bytes` own a vector of any element type.
struct Owner<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Owner<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}
