//! Tensors on the border to ONNX Runtime: borrowed inputs, owned outputs, buffers with a fixed address.

use super::{Error, Result};
use crate::graph::{DType, Tensor};
use bytes::Bytes;
use ort::memory::MemoryInfo;
use ort::value::TensorElementType;
use ort::{AsPointer, sys};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// Alignment of the buffers that are made here: a cache line, and enough for every vector instruction.
const ALIGNMENT: usize = 64;

/// The element type that ONNX Runtime calls `ty`; `None` for those no stage of the project works with.
pub(super) fn dtype_of(ty: TensorElementType) -> Option<DType> {
    Some(match ty {
        TensorElementType::Float32 => DType::Float,
        TensorElementType::Float64 => DType::Double,
        TensorElementType::Float16 => DType::Float16,
        TensorElementType::Bfloat16 => DType::Bfloat16,
        TensorElementType::Int8 => DType::Int8,
        TensorElementType::Int16 => DType::Int16,
        TensorElementType::Int32 => DType::Int32,
        TensorElementType::Int64 => DType::Int64,
        TensorElementType::Uint8 => DType::Uint8,
        TensorElementType::Uint16 => DType::Uint16,
        TensorElementType::Uint32 => DType::Uint32,
        TensorElementType::Uint64 => DType::Uint64,
        TensorElementType::Int4 => DType::Int4,
        TensorElementType::Uint4 => DType::Uint4,
        TensorElementType::Bool => DType::Bool,
        TensorElementType::String => DType::String,
        _ => return None,
    })
}

/// ONNX Runtime's name for an element type.
fn element_type(dtype: DType) -> TensorElementType {
    match dtype {
        DType::Float => TensorElementType::Float32,
        DType::Double => TensorElementType::Float64,
        DType::Float16 => TensorElementType::Float16,
        DType::Bfloat16 => TensorElementType::Bfloat16,
        DType::Int8 => TensorElementType::Int8,
        DType::Int16 => TensorElementType::Int16,
        DType::Int32 => TensorElementType::Int32,
        DType::Int64 => TensorElementType::Int64,
        DType::Uint8 => TensorElementType::Uint8,
        DType::Uint16 => TensorElementType::Uint16,
        DType::Uint32 => TensorElementType::Uint32,
        DType::Uint64 => TensorElementType::Uint64,
        DType::Int4 => TensorElementType::Int4,
        DType::Uint4 => TensorElementType::Uint4,
        DType::Bool => TensorElementType::Bool,
        DType::String => TensorElementType::String,
    }
}

/// Bytes of a dense tensor; `None` for strings and for sizes beyond the address space.
pub(super) fn byte_len(dtype: DType, shape: &[u64]) -> Option<usize> {
    let elements = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size))?;
    let bits = elements.checked_mul(u64::try_from(dtype.bits()).ok()?)?;
    let len = usize::try_from(bits.div_ceil(8)).ok()?;
    (dtype != DType::String && isize::try_from(len).is_ok()).then_some(len)
}

/// Zeroed memory that never moves and is aligned for every element type. References into it are only made for the time
/// of a borrow; ONNX Runtime holds the raw address meanwhile but touches it only inside `Run`.
#[derive(Debug)]
pub(super) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: `Buffer` is the only owner of its memory and hands out references only through its own borrow.
unsafe impl Send for Buffer {}
// SAFETY: `&Buffer` only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` bytes of zeros.
    pub fn zeroed(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), ALIGNMENT).expect("`byte_len` keeps sizes below isize::MAX");
        // SAFETY: the layout's size is at least 1.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout: Layout::from_size_align(len, ALIGNMENT).expect("smaller than the layout above") }
    }

    /// The address, for ONNX Runtime.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// The contents.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is initialised, `len` bytes long, and only written through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// The contents, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes every other reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.len().max(1), ALIGNMENT).expect("made in `zeroed`");
        // SAFETY: allocated in `zeroed` with this very layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), layout) }
    }
}

/// An `OrtValue` that this process owns and releases.
#[derive(Debug)]
pub(super) struct OrtValue(NonNull<sys::OrtValue>);

// SAFETY: an `OrtValue` is a reference-counted handle without thread affinity.
unsafe impl Send for OrtValue {}
// SAFETY: through `&OrtValue` it is only read.
unsafe impl Sync for OrtValue {}

impl OrtValue {
    /// A tensor over memory that somebody else owns; nothing is copied.
    ///
    /// # Safety
    /// `data` must be valid for `byte_len(dtype, shape)` bytes of reads for as long as the value lives, aligned for
    /// `dtype`, and valid for writes as well if a run writes into the value.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub unsafe fn over(
        memory: &MemoryInfo<'_>,
        dtype: DType,
        shape: &[u64],
        data: *mut u8,
        len: usize,
    ) -> Result<Self> {
        let dims: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        let mut value: *mut sys::OrtValue = ptr::null_mut();
        // SAFETY: all pointers live through the call; ONNX Runtime copies the shape and keeps only `data`.
        check(unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                memory.ptr(),
                data.cast::<c_void>(),
                len,
                dims.as_ptr(),
                dims.len(),
                element_type(dtype).into(),
                &mut value,
            )
        })?;
        // SAFETY: the call succeeded and passed ownership of the value.
        unsafe { Self::from_raw(value) }
    }

    /// Takes over a value that ONNX Runtime has made.
    ///
    /// # Safety
    /// `value` must be null or a value that nobody else releases.
    pub unsafe fn from_raw(value: *mut sys::OrtValue) -> Result<Self> {
        NonNull::new(value).map(Self).ok_or_else(|| Error::Ort("no value was returned".into()))
    }

    /// The handle, for ONNX Runtime.
    pub fn as_ptr(&self) -> *mut sys::OrtValue {
        self.0.as_ptr()
    }

    /// The value as a tensor that keeps ONNX Runtime's buffer alive instead of copying it. Where a graph hands an input
    /// through, ONNX Runtime gives back the caller's own buffer, which it does not keep alive: `fed` are the run's inputs,
    /// and what lies in them is copied.
    ///
    /// # Errors
    /// [`Error::NotTensor`] if it is a sequence, a map, or holds strings or elements of an unknown type.
    pub fn into_tensor(self, name: &str, fed: &[Option<Fed>]) -> Result<Tensor> {
        let (dtype, shape) = self.ty(name)?;
        let len = byte_len(dtype, &shape).ok_or_else(|| Error::NotTensor { name: name.into() })?;
        if len == 0 {
            return Ok(Tensor { dtype, shape, data: Bytes::new() });
        }
        let mut data: *mut c_void = ptr::null_mut();
        // SAFETY: the value is a tensor (`ty` has checked) and lives.
        check(unsafe { (ort::api().GetTensorMutableData)(self.as_ptr(), &mut data) })?;
        let data = NonNull::new(data.cast::<u8>()).ok_or_else(|| Error::NotTensor { name: name.into() })?;
        let borrowed =
            fed.iter().flatten().any(|input| input.kept.bytes().as_ptr_range().contains(&data.as_ptr().cast_const()));
        let output = Output { _value: self, data, len };
        let data = if borrowed { Bytes::copy_from_slice(output.as_ref()) } else { Bytes::from_owner(output) };
        Ok(Tensor { dtype, shape, data })
    }

    /// Element type and sizes of a tensor value.
    fn ty(&self, name: &str) -> Result<(DType, Vec<u64>)> {
        let mut is_tensor = 0;
        // SAFETY: the value lives.
        check(unsafe { (ort::api().IsTensor)(self.as_ptr(), &mut is_tensor) })?;
        if is_tensor == 0 {
            return Err(Error::NotTensor { name: name.into() });
        }
        let mut info: *mut sys::OrtTensorTypeAndShapeInfo = ptr::null_mut();
        let mut element = sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let mut rank = 0;
        // SAFETY: the value is a tensor; `info` is released below on every path after it was made.
        check(unsafe { (ort::api().GetTensorTypeAndShape)(self.as_ptr(), &mut info) })?;
        // SAFETY: `info` is valid until released.
        let read = check(unsafe { (ort::api().GetTensorElementType)(info, &mut element) })
            // SAFETY: as above.
            .and_then(|()| check(unsafe { (ort::api().GetDimensionsCount)(info, &mut rank) }))
            .and_then(|()| {
                let mut dims = vec![0i64; rank];
                // SAFETY: `dims` has room for `rank` sizes.
                check(unsafe { (ort::api().GetDimensions)(info, dims.as_mut_ptr(), rank) })?;
                Ok(dims)
            });
        // SAFETY: made above, released once.
        unsafe { (ort::api().ReleaseTensorTypeAndShapeInfo)(info) };
        let shape = read?.into_iter().map(|size| u64::try_from(size).unwrap_or(0)).collect();
        let dtype = dtype_of(element.into()).ok_or_else(|| Error::NotTensor { name: name.into() })?;
        Ok((dtype, shape))
    }
}

impl Drop for OrtValue {
    fn drop(&mut self) {
        // SAFETY: this is the only owner; the library is never unloaded.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) }
    }
}

/// The bytes of an output, in the buffer that ONNX Runtime allocated for it.
struct Output {
    _value: OrtValue,
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer belongs to `_value`; nobody writes to it after the run that made it.
unsafe impl Send for Output {}
// SAFETY: only read.
unsafe impl Sync for Output {}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: ONNX Runtime allocated `byte_len` bytes for this shape and keeps them until `_value` is released; the
        // runs without pre-allocated outputs hand out every buffer once.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

/// A tensor handed to a run, with whatever keeps its bytes in place.
#[derive(Debug)]
pub(super) struct Fed {
    value: OrtValue,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Shared(Bytes),
    Copied(Buffer),
}

impl Kept {
    fn bytes(&self) -> &[u8] {
        match self {
            Kept::Shared(bytes) => bytes,
            Kept::Copied(buffer) => buffer.bytes(),
        }
    }
}

impl Fed {
    /// Hands `tensor` over: by address if its bytes are aligned for their type, else through one copy.
    ///
    /// # Errors
    /// [`Error::BadTensor`] if it holds strings or its bytes do not fit its shape.
    pub fn new(name: &str, tensor: &Tensor) -> Result<Self> {
        if byte_len(tensor.dtype, &tensor.shape) != Some(tensor.data.len()) {
            return Err(Error::BadTensor { name: name.into(), ty: tensor.ty().to_string(), len: tensor.data.len() });
        }
        let memory = MemoryInfo::default();
        let len = tensor.data.len();
        let aligned = tensor.data.as_ptr().addr().is_multiple_of(tensor.dtype.bits().div_ceil(8));
        if aligned && len > 0 {
            let data = tensor.data.as_ptr().cast_mut();
            // SAFETY: `kept` shares the bytes, whose address is the same for every clone of `Bytes`, and is dropped
            // after `value`. ONNX Runtime never writes to a run's inputs, so the `*mut` is only a matter of its C types.
            let value = unsafe { OrtValue::over(&memory, tensor.dtype, &tensor.shape, data, len)? };
            return Ok(Self { value, kept: Kept::Shared(tensor.data.clone()) });
        }
        let mut buffer = Buffer::zeroed(len);
        buffer.bytes_mut().copy_from_slice(&tensor.data);
        // SAFETY: the buffer has `len` bytes, does not move, and is dropped after `value`.
        let value = unsafe { OrtValue::over(&memory, tensor.dtype, &tensor.shape, buffer.as_ptr(), len)? };
        Ok(Self { value, kept: Kept::Copied(buffer) })
    }

    /// The handle, for ONNX Runtime.
    pub fn as_ptr(&self) -> *mut sys::OrtValue {
        self.value.as_ptr()
    }
}

/// Turns ONNX Runtime's status into a result, keeping its message.
pub(super) fn check(status: sys::OrtStatusPtr) -> Result<()> {
    // SAFETY: every status that comes here was returned by a call of ONNX Runtime's API and is looked at once.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| Error::Ort(error.message().to_string()))
}
