//! The training step's session: buffers that stay where they are, written and read in place between runs.

use super::session::{check_input, fits};
use super::value::{Buffer, Fed, OrtValue, byte_len};
use super::{Error, Result, Session};
use crate::graph::{Dim, Element, Tensor, TensorType};
use ort::memory::MemoryInfo;
use ort::sys;
use std::ffi::c_char;
use std::ptr;

/// A buffer that ONNX Runtime reads or writes in place, under a name. `value` is dropped before the memory it points to.
#[derive(Debug)]
struct Place {
    value: OrtValue,
    buffer: Buffer,
    name: String,
    ty: TensorType,
}

/// A session with its inputs and outputs in place. Parameters live in buffers of its own and are updated there
/// ([`Bound::update`]); features and labels are set per step by address ([`Bound::set_input`]) and may change their batch
/// size; loss, metrics and gradients arrive in buffers of their own. A step allocates nothing on the Rust side but the
/// handle of a newly set input.
///
/// Runs go through `Run` with pre-allocated outputs rather than ONNX Runtime's I/O binding: a binding copies its inputs to
/// a GPU when they are bound, so that updates in place would not be seen.
#[derive(Debug)]
pub struct Bound {
    session: Session,
    owned: Vec<Place>,
    outputs: Vec<Place>,
    /// For each input of the session: where its value comes from.
    sources: Vec<Source>,
    arguments: Arguments,
}

#[derive(Debug)]
enum Source {
    Owned(usize),
    Set(#[expect(dead_code, reason = "held for the address in `Arguments`")] Fed),
    Unset,
}

/// The arrays that `Run` takes, made once. They point into the session's names and to the values of `Bound`.
#[derive(Debug)]
struct Arguments {
    input_names: Vec<*const c_char>,
    inputs: Vec<*const sys::OrtValue>,
    output_names: Vec<*const c_char>,
    outputs: Vec<*mut sys::OrtValue>,
}

// SAFETY: the pointers refer to heap memory owned by the `Bound` that owns them and move between threads with it.
unsafe impl Send for Arguments {}
// SAFETY: nothing is done through `&Arguments`.
unsafe impl Sync for Arguments {}

impl Bound {
    /// Gives the named `inputs` (parameters, in their full shapes) and the named `outputs` zeroed buffers of those shapes.
    /// Every other input must be set before the first run; every other output is not computed.
    ///
    /// # Errors
    /// An unknown or repeated name, a shape that the session's own declaration excludes, or [`Error::PassedThrough`] for an
    /// output that is an input.
    pub fn new(session: Session, inputs: &[(&str, &[u64])], outputs: &[(&str, &[u64])]) -> Result<Self> {
        let mut sources: Vec<Source> = session.inputs().iter().map(|_| Source::Unset).collect();
        let mut owned = Vec::with_capacity(inputs.len());
        for (name, shape) in inputs {
            let index = session.input_index(name)?;
            if let Source::Owned(_) = sources[index] {
                return Err(Error::OwnedInput { name: (*name).into() });
            }
            sources[index] = Source::Owned(owned.len());
            owned.push(Place::new(&session.inputs()[index], shape)?);
        }
        let mut arguments = Arguments {
            input_names: (0..sources.len()).map(|index| session.input_name(index)).collect(),
            inputs: vec![ptr::null(); sources.len()],
            output_names: Vec::with_capacity(outputs.len()),
            outputs: Vec::with_capacity(outputs.len()),
        };
        for (slot, source) in arguments.inputs.iter_mut().zip(&sources) {
            if let Source::Owned(place) = source {
                *slot = owned[*place].value.as_ptr();
            }
        }
        let mut places: Vec<Place> = Vec::with_capacity(outputs.len());
        for (name, shape) in outputs {
            let index = session.output_index(name)?;
            // ONNX Runtime would hand the input itself back and leave the buffer as it is.
            if session.input_index(name).is_ok() {
                return Err(Error::PassedThrough { name: (*name).into() });
            }
            let place = Place::new(&session.outputs()[index], shape)?;
            arguments.output_names.push(session.output_name(index));
            arguments.outputs.push(place.value.as_ptr());
            places.push(place);
        }
        Ok(Self { session, owned, outputs: places, sources, arguments })
    }

    /// The session's inputs and their types.
    pub fn inputs(&self) -> &[(String, TensorType)] {
        self.session.inputs()
    }

    /// An input's buffer, to be written between runs. Row-major.
    ///
    /// # Errors
    /// [`Error::NotBound`] for a name without a buffer here, [`Error::BufferType`] for another element type.
    pub fn input_mut<T: Element>(&mut self, name: &str) -> Result<&mut [T]> {
        find_mut(&mut self.owned, name)?.elements_mut()
    }

    /// An input's buffer as it is.
    ///
    /// # Errors
    /// As [`Bound::input_mut`].
    pub fn input<T: Element>(&self, name: &str) -> Result<&[T]> {
        find(&self.owned, name)?.elements()
    }

    /// What the last run wrote into an output's buffer. Row-major.
    ///
    /// # Errors
    /// As [`Bound::input_mut`].
    pub fn output<T: Element>(&self, name: &str) -> Result<&[T]> {
        find(&self.outputs, name)?.elements()
    }

    /// An input to be written together with an output to be read: a parameter and its gradient.
    ///
    /// # Errors
    /// As [`Bound::input_mut`].
    pub fn update<T: Element>(&mut self, input: &str, output: &str) -> Result<(&mut [T], &[T])> {
        Ok((find_mut(&mut self.owned, input)?.elements_mut()?, find(&self.outputs, output)?.elements()?))
    }

    /// Feeds `tensor` in the following runs, by address if its bytes are aligned. Its bytes are shared until it is replaced.
    ///
    /// # Errors
    /// An unknown name, a type that does not fit, or [`Error::OwnedInput`] for an input with a buffer here.
    pub fn set_input(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let index = self.session.input_index(name)?;
        if let Source::Owned(_) = self.sources[index] {
            return Err(Error::OwnedInput { name: name.into() });
        }
        check_input(&self.session.inputs()[index], tensor)?;
        let fed = Fed::new(name, tensor)?;
        self.arguments.inputs[index] = fed.as_ptr();
        self.sources[index] = Source::Set(fed);
        Ok(())
    }

    /// Computes the outputs from the inputs as they are now.
    ///
    /// # Errors
    /// [`Error::MissingInput`] if an input was never set, [`Error::Ort`] with ONNX Runtime's words, which name the node.
    pub fn run(&mut self) -> Result<()> {
        if let Some(index) = self.sources.iter().position(|source| matches!(source, Source::Unset)) {
            return Err(Error::MissingInput { name: self.session.inputs()[index].0.clone() });
        }
        let Arguments { input_names, inputs, output_names, outputs } = &mut self.arguments;
        // SAFETY: the names belong to `self.session`, the values to `owned`, `sources` and `outputs`, all of which live in
        // `self`; `&mut self` excludes every reference into the buffers for the time of the run.
        unsafe { self.session.run_raw(input_names, inputs, output_names, outputs) }
    }
}

impl Place {
    fn new((name, declared): &(String, TensorType), shape: &[u64]) -> Result<Self> {
        let ty = TensorType::new(declared.dtype, shape.iter().map(|size| Dim::Fixed(*size)).collect());
        let mismatch =
            || Error::BufferShape { name: name.clone(), declared: declared.to_string(), asked: ty.to_string() };
        let len = byte_len(declared.dtype, shape).filter(|_| fits(declared, &ty)).ok_or_else(mismatch)?;
        let buffer = Buffer::zeroed(len);
        // SAFETY: the buffer has `len` bytes at a fixed address and is dropped after `value` (order of the fields).
        let value =
            unsafe { OrtValue::over(&MemoryInfo::default(), declared.dtype, shape, buffer.as_ptr(), buffer.len())? };
        Ok(Self { value, buffer, name: name.clone(), ty })
    }

    fn elements<T: Element>(&self) -> Result<&[T]> {
        self.check::<T>()?;
        Ok(bytemuck::cast_slice(self.buffer.bytes()))
    }

    fn elements_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        self.check::<T>()?;
        Ok(bytemuck::cast_slice_mut(self.buffer.bytes_mut()))
    }

    fn check<T: Element>(&self) -> Result<()> {
        let (name, held) = (self.name.clone(), self.ty.dtype);
        if held == T::DTYPE { Ok(()) } else { Err(Error::BufferType { name, held, asked: T::DTYPE }) }
    }
}

fn find<'p>(places: &'p [Place], name: &str) -> Result<&'p Place> {
    places.iter().find(|place| place.name == name).ok_or_else(|| Error::NotBound { name: name.into() })
}

fn find_mut<'p>(places: &'p mut [Place], name: &str) -> Result<&'p mut Place> {
    places.iter_mut().find(|place| place.name == name).ok_or_else(|| Error::NotBound { name: name.into() })
}
