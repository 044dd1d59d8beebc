//! A model that runs: options, creation, checked inputs, outputs without a copy.

use super::value::{Fed, OrtValue, check, dtype_of};
use super::{Error, Provider, Result, Version, residence, runtime};
use crate::graph::{Dim, Graph, Tensor, TensorType};
use crate::onnx::{self, Weights};
use ort::AsPointer;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, ValueType};
use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr;

/// Protobuf's 2 GiB less room for the nodes.
const EMBEDDED_WEIGHTS_BYTES_MAX: usize = (2 << 30) - (64 << 20);

/// The first version that looks for weights beside a model in memory anywhere but in the current folder.
const FIRST_WITH_WEIGHTS_FOLDER: Version = Version(1, 21, 0);

/// Lets products of signed 8-bit weights be exact where they would saturate, on x86 without VNNI: a language model in
/// 8 bits had a loss of 10.8 without it and of 7.3 with it, and a feature would not be what an ARM device computes.
const EXACT_INTEGERS: &str = "session.x64quantprecision";

/// What ONNX Runtime says with [`EXACT_INTEGERS`] where two nodes read the same signed weight, which it would rewrite twice: 1.32, and
/// versions up to 1.23.
const REWRITTEN_TWICE: [&str; 2] = ["Attempt to replace the existing tensor", "Initializer with same name exists"];

/// The configuration that leaves out optimisers by their names.
const WITHOUT_OPTIMISERS: &str = "optimization.disable_specified_optimizers";
/// The optimiser that unites equal nodes.
const UNITING: &str = "CommonSubexpressionElimination";

/// Keeps activations floats where weights in blocks are dequantised before a product: ONNX Runtime fuses the two, and would
/// round the activations to 8 bits on the way, which the model does not say (a LoRA gradient of a small decoder was then off
/// how its loss moved by 3 to 12 %).
const FLOAT_ACTIVATIONS: &str = "session.qdq_matmulnbits_accuracy_level";

/// How much ONNX Runtime may rewrite a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Optimisation {
    /// The nodes as they are written.
    Off,
    /// Constant folding and redundant nodes.
    Basic,
    /// Fused nodes as well.
    Extended,
    /// Layout changes as well.
    #[default]
    All,
}

/// What a session is created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Threads inside an operator; 0 takes every physical core.
    pub threads: usize,
    /// Where to compute.
    pub provider: Provider,
    /// How much the graph may be rewritten.
    pub optimisation: Optimisation,
    /// A session whose weights take at most this many bytes gets copies of them in the layout that its kernels prefer.
    /// The weights of a larger one that lie in a file beside the model stay mapped and cost no private memory; `residence.rs`
    /// has what that costs in time. 0 copies nothing, `u64::MAX` everything.
    pub packed_bytes_max: u64,
    /// Whether memory for intermediate values is kept between runs (faster) or given back (smaller).
    pub arena: bool,
    /// Whether idle threads spin for a moment before they sleep (faster steps, more energy).
    pub spinning: bool,
    /// Whether kernels must give the same bits in every run.
    pub deterministic: bool,
    /// Whether nodes that are equal stay several: one is then computed where it is needed, not kept for the other.
    pub equal_nodes: bool,
    /// Further entries of ONNX Runtime's session configuration, as its `session_options_config_keys.h` names them.
    pub entries: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 0,
            provider: Provider::Cpu,
            optimisation: Optimisation::All,
            packed_bytes_max: u64::MAX,
            arena: true,
            spinning: true,
            deterministic: true,
            equal_nodes: false,
            entries: Vec::new(),
        }
    }
}

/// A model loaded into ONNX Runtime.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    inputs: Vec<(String, TensorType)>,
    outputs: Vec<(String, TensorType)>,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
}

impl Session {
    /// Loads a model file. Weights in files beside it are mapped by ONNX Runtime itself, and shared between processes as
    /// long as [`Options::packed_bytes_max`] does not have them copied.
    ///
    /// # Errors
    /// [`Error::Load`] with ONNX Runtime's words, [`Error::NotLoaded`] before [`super::load`], or a provider's absence.
    pub fn from_file(path: &Path, options: &Options) -> Result<Self> {
        Self::from_file_profiled(path, options, None)
    }

    /// Loads a model file as [`Session::from_file`]; with `profile`, ONNX Runtime's profiler is on and writes a file whose name
    /// begins so.
    pub(super) fn from_file_profiled(path: &Path, options: &Options, profile: Option<&Path>) -> Result<Self> {
        let model = path.display().to_string();
        let packed = residence::weights_bytes(path) <= options.packed_bytes_max;
        let create = |exact| {
            let mut builder = builder(options, packed, exact)?;
            if let Some(profile) = profile {
                builder = builder.with_profiling(profile).map_err(words)?;
            }
            builder.commit_from_file(path).map_err(|error| refused(&model, &error))
        };
        Self::new(exact_where_possible(create)?)
    }

    /// Ends the profiler and gives the file that it wrote.
    pub(super) fn end_profiling(&mut self) -> Result<PathBuf> {
        self.inner.end_profiling().map(PathBuf::from).map_err(words)
    }

    /// Loads a model from its encoded bytes. Weights outside of them are looked for in `weights_folder`, which needs ONNX
    /// Runtime 1.21 or newer; [`Session::from_file`] works everywhere.
    ///
    /// # Errors
    /// As [`Session::from_file`].
    pub fn from_bytes(model: &[u8], weights_folder: Option<&Path>, options: &Options) -> Result<Self> {
        Self::new(commit_bytes(model, weights_folder, options)?)
    }

    /// Loads a graph with its weights inside: for small graphs, since ONNX Runtime copies them.
    ///
    /// # Errors
    /// As [`Session::from_file`], and [`Error::TooLarge`] for weights of 2 GiB.
    pub fn from_graph(graph: &Graph, options: &Options) -> Result<Self> {
        Self::from_bytes(&encode(graph)?, None, options)
    }

    fn new(inner: ort::session::Session) -> Result<Self> {
        let typed = |outlets: &[Outlet]| -> Result<Vec<(String, TensorType)>> {
            let ty = |outlet: &Outlet| tensor_type(outlet.dtype());
            let not_tensor = |outlet: &Outlet| Error::NotTensor { name: outlet.name().into() };
            outlets.iter().map(|o| Ok((o.name().to_string(), ty(o).ok_or_else(|| not_tensor(o))?))).collect()
        };
        let (inputs, outputs) = (typed(inner.inputs())?, typed(inner.outputs())?);
        let names = |values: &[(String, TensorType)]| -> Result<Vec<CString>> {
            let name = |name: &str| CString::new(name).map_err(|_| Error::NotTensor { name: name.into() });
            values.iter().map(|value| name(&value.0)).collect()
        };
        let (input_names, output_names) = (names(&inputs)?, names(&outputs)?);
        Ok(Self { inner, inputs, outputs, input_names, output_names })
    }

    /// What the model wants, in its order: names and types, symbolic dimensions by their names. A value that ONNX Runtime
    /// reports without dimensions (a scalar, or one of unknown rank) has no shape here.
    pub fn inputs(&self) -> &[(String, TensorType)] {
        &self.inputs
    }

    /// What the model gives, as [`Session::inputs`].
    pub fn outputs(&self) -> &[(String, TensorType)] {
        &self.outputs
    }

    /// Runs the model. Inputs are handed over by address where their bytes are aligned; outputs come in the order of
    /// [`Session::outputs`] and own ONNX Runtime's buffers.
    ///
    /// # Errors
    /// A missing, unknown or wrongly typed input by name, or [`Error::Ort`] with ONNX Runtime's words, which name the node.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let mut fed: Vec<Option<Fed>> = self.inputs.iter().map(|_| None).collect();
        for (name, tensor) in inputs {
            let index = self.input_index(name)?;
            check_input(&self.inputs[index], tensor)?;
            fed[index] = Some(Fed::new(name, tensor)?);
        }
        let mut values = Vec::with_capacity(fed.len());
        for (input, (name, _)) in fed.iter().zip(&self.inputs) {
            values
                .push(input.as_ref().ok_or_else(|| Error::MissingInput { name: name.clone() })?.as_ptr().cast_const());
        }
        let mut outputs = vec![ptr::null_mut(); self.outputs.len()];
        let input_names: Vec<*const c_char> = self.input_names.iter().map(|name| name.as_ptr()).collect();
        let output_names: Vec<*const c_char> = self.output_names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: names and values live in `self` and `fed`; null outputs ask ONNX Runtime to allocate.
        unsafe { self.run_raw(&input_names, &values, &output_names, &mut outputs)? };
        // SAFETY: each output was allocated by the run and is released by nobody else.
        let outputs: Vec<Result<OrtValue>> =
            outputs.into_iter().map(|value| unsafe { OrtValue::from_raw(value) }).collect();
        outputs.into_iter().zip(&self.outputs).map(|(value, (name, _))| value?.into_tensor(name, &fed)).collect()
    }

    /// One run over raw handles. ONNX Runtime's `Run` is not safe to enter twice at a time, hence `&mut self`.
    ///
    /// # Safety
    /// Names and inputs must be live and as many as each other, so must be output names and outputs; a non-null output
    /// must be a tensor over memory that nothing else touches during the run.
    pub(super) unsafe fn run_raw(
        &mut self,
        input_names: &[*const c_char],
        inputs: &[*const ort::sys::OrtValue],
        output_names: &[*const c_char],
        outputs: &mut [*mut ort::sys::OrtValue],
    ) -> Result<()> {
        assert_eq!((input_names.len(), output_names.len()), (inputs.len(), outputs.len()), "a name for each value");
        // SAFETY: by this function's own conditions; the session lives in `self`, and null run options are allowed.
        check(unsafe {
            (ort::api().Run)(
                self.inner.ptr_mut(),
                ptr::null(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        })
    }

    /// The position of an input by name.
    pub(super) fn input_index(&self, name: &str) -> Result<usize> {
        position(&self.inputs, name)
            .ok_or_else(|| Error::UnknownInput { name: name.into(), known: listed(&self.inputs) })
    }

    /// The position of an output by name.
    pub(super) fn output_index(&self, name: &str) -> Result<usize> {
        position(&self.outputs, name)
            .ok_or_else(|| Error::UnknownOutput { name: name.into(), known: listed(&self.outputs) })
    }

    /// The name of an input as a C string that lives as long as the session.
    pub(super) fn input_name(&self, index: usize) -> *const c_char {
        self.input_names[index].as_ptr()
    }

    /// The name of an output as a C string that lives as long as the session.
    pub(super) fn output_name(&self, index: usize) -> *const c_char {
        self.output_names[index].as_ptr()
    }
}

fn position(values: &[(String, TensorType)], name: &str) -> Option<usize> {
    values.iter().position(|(known, _)| known == name)
}

fn listed(values: &[(String, TensorType)]) -> String {
    values.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether a tensor of that type and shape may be fed to (or taken from) a value of the declared type.
pub(super) fn fits(declared: &TensorType, given: &TensorType) -> bool {
    let same_shape = match (&declared.shape, &given.shape) {
        (Some(declared), Some(given)) => {
            declared.len() == given.len()
                && declared
                    .iter()
                    .zip(given)
                    .all(|(want, have)| want.fixed().is_none_or(|size| have.fixed() == Some(size)))
        }
        _ => true,
    };
    declared.dtype == given.dtype && same_shape
}

/// Refuses an input of the wrong type before ONNX Runtime sees it.
pub(super) fn check_input((name, declared): &(String, TensorType), tensor: &Tensor) -> Result<()> {
    if fits(declared, &tensor.ty()) {
        return Ok(());
    }
    Err(Error::InputType { name: name.clone(), expected: declared.to_string(), got: tensor.ty().to_string() })
}

/// The tensor type that ONNX Runtime reports; `None` for sequences, maps and unknown element types. Its API tells a
/// scalar from a tensor of unknown rank only since 1.24, so both have no shape here.
pub(super) fn tensor_type(ty: &ValueType) -> Option<TensorType> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = ty else { return None };
    let dims = shape.iter().zip(dimension_symbols.iter()).map(|(size, symbol)| match u64::try_from(*size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) if symbol.is_empty() => Dim::Unknown,
        Err(_) => Dim::Named(symbol.clone()),
    });
    let dims: Vec<Dim> = dims.collect();
    Some(TensorType { dtype: dtype_of(*ty)?, shape: (!dims.is_empty()).then_some(dims) })
}

/// The graph as a model with its weights inside.
///
/// # Errors
/// [`Error::TooLarge`] if they exceed what protobuf can hold.
pub(super) fn encode(graph: &Graph) -> Result<Vec<u8>> {
    let weights_bytes: usize = graph.initializers.values().map(|tensor| tensor.data.len()).sum();
    if weights_bytes > EMBEDDED_WEIGHTS_BYTES_MAX {
        return Err(Error::TooLarge { graph: graph.name.clone(), weights_bytes });
    }
    Ok(onnx::encode(graph, &Weights::Embedded))
}

/// Creates a session from bytes without looking at its types.
pub(super) fn commit_bytes(
    model: &[u8],
    weights_folder: Option<&Path>,
    options: &Options,
) -> Result<ort::session::Session> {
    exact_where_possible(|exact| created_from_bytes(model, weights_folder, options, exact))
}

/// Creates a session with [`EXACT_INTEGERS`], or without where ONNX Runtime refuses the model for that setting's sake.
fn exact_where_possible<T>(create: impl Fn(bool) -> Result<T>) -> Result<T> {
    match create(true) {
        Err(Error::Load { message, .. }) if REWRITTEN_TWICE.iter().any(|words| message.contains(words)) => {
            create(false)
        }
        created => created,
    }
}

fn created_from_bytes(
    model: &[u8],
    weights_folder: Option<&Path>,
    options: &Options,
    exact: bool,
) -> Result<ort::session::Session> {
    let mut builder = builder(options, model.len() as u64 <= options.packed_bytes_max, exact)?;
    if let Some(folder) = weights_folder {
        let version = runtime::version_text();
        if Version::parse(&version).is_some_and(|version| version < FIRST_WITH_WEIGHTS_FOLDER) {
            return Err(Error::WeightsFolder { version, first: FIRST_WITH_WEIGHTS_FOLDER });
        }
        let folder = folder.to_string_lossy();
        builder =
            builder.with_config_entry("session.model_external_initializers_file_folder_path", folder).map_err(words)?;
    }
    builder.commit_from_memory(model).map_err(|error| refused("model in memory", &error))
}

fn refused(model: &str, error: &ort::Error) -> Error {
    Error::Load { model: model.into(), version: runtime::version_text(), message: error.message().to_string() }
}

/// ONNX Runtime's session options for ours; `packed` tells whether weights may be copied, `exact` whether [`EXACT_INTEGERS`] is set.
fn builder(options: &Options, packed: bool, exact: bool) -> Result<SessionBuilder> {
    let library = runtime::loaded()?;
    let provider = options.provider.registration(options.arena, &library.providers)?;
    let level = match options.optimisation {
        Optimisation::Off => GraphOptimizationLevel::Disable,
        Optimisation::Basic => GraphOptimizationLevel::Level1,
        Optimisation::All if packed => GraphOptimizationLevel::All,
        // What is beyond lays the weights of convolutions out anew.
        Optimisation::Extended | Optimisation::All => GraphOptimizationLevel::Level2,
    };
    let mut builder = SessionBuilder::new(runtime::environment()?).map_err(words)?;
    builder = builder.with_optimization_level(level).map_err(words)?;
    builder = builder.with_intra_threads(options.threads).map_err(words)?;
    builder = builder.with_inter_threads(1).map_err(words)?;
    builder = builder.with_intra_op_spinning(options.spinning).map_err(words)?;
    builder = builder.with_deterministic_compute(options.deterministic).map_err(words)?;
    let mut without: Vec<&str> = Vec::new();
    if !packed {
        builder = builder.with_config_entry(residence::MAPPED.0, residence::MAPPED.1).map_err(words)?;
        without.extend(residence::COPYING);
    }
    if options.equal_nodes {
        without.push(UNITING);
    }
    if !without.is_empty() {
        builder = builder.with_config_entry(WITHOUT_OPTIMISERS, without.join(";")).map_err(words)?;
    }
    // A memory pattern is one block for all intermediate values, planned in a first run that has filled the arena without
    // it: both stay. Without it a step over EfficientNet-Lite0's last eight layers took 104 MB instead of 211, and no longer.
    builder = builder.with_memory_pattern(false).map_err(words)?;
    // The arena doubles what it asks for; weights are allocated once and would only waste that room.
    builder = builder.with_device_allocated_initializers().map_err(words)?;
    builder = builder.with_config_entry(FLOAT_ACTIVATIONS, "1").map_err(words)?;
    if exact {
        builder = builder.with_config_entry(EXACT_INTEGERS, "1").map_err(words)?;
    }
    for (key, value) in &options.entries {
        builder = builder.with_config_entry(key, value).map_err(words)?;
    }
    let failed = |error: String| Error::Provider { provider: options.provider, message: error };
    builder.with_execution_providers([provider]).map_err(|error| failed(error.to_string()))
}

/// ONNX Runtime's own words.
fn words<R>(error: ort::Error<R>) -> Error {
    Error::Ort(error.message().to_string())
}
