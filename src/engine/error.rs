//! What can go wrong between a graph and its run, each with its remedy.

use super::Provider;
use super::elf::Version;
use super::runtime::Origin;
use super::words::{refusal, while_running};
use crate::graph::DType;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the engine. ONNX Runtime's own words, which name the node, are kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error("ONNX Runtime is not loaded yet: `engine::load` comes before the first session")]
    NotLoaded,
    #[error("ONNX Runtime is already loaded from {loaded}; {asked} needs a process of its own")]
    AlreadyLoaded { loaded: PathBuf, asked: PathBuf },
    #[error("{path}{}: {reason}", origin_words(.origin))]
    Library { path: PathBuf, origin: Option<Origin>, reason: String },
    #[error(
        "no usable ONNX Runtime library found{}; run `edgetune runtime install`, or copy libonnxruntime.so to the device \
         and pass setting `onnxruntime = <file>`",
        in_parentheses(.passed_over)
    )]
    NotFound { passed_over: Vec<(PathBuf, String)> },

    #[error(
        "no folder to install into: set HOME or XDG_DATA_HOME to an absolute path, or pass setting `onnxruntime = <file>`"
    )]
    NoDataFolder,
    #[error(
        "no pinned wheel of ONNX Runtime {version} for {arch}{}; or copy a libonnxruntime.so for {arch} to the device and \
         pass setting `onnxruntime = <file>`",
        known_versions(.known)
    )]
    NoWheel { version: String, arch: String, known: String },
    #[error(
        "neither python3 -m pip nor pip3 nor pip runs here, and edgetune downloads through pip: install python3-pip, or \
         copy libonnxruntime.so to the device and pass setting `onnxruntime = <file>`"
    )]
    NoPip,
    #[error(
        "pip could not download {requirement}: {said}; without a network, copy the wheel to the device and run \
         `edgetune runtime install --wheel <file>`, or copy libonnxruntime.so and pass setting `onnxruntime = <file>`"
    )]
    Pip { requirement: String, said: String },
    #[error(
        "{path}: its SHA-256 is {found}, not the pinned {expected}; the file is damaged or not PyPI's: fetch it again"
    )]
    Checksum { path: PathBuf, expected: String, found: String },
    #[error("{path}: not a usable wheel: {reason}")]
    Wheel { path: PathBuf, reason: String },
    #[error("{path}: {source}; check the path, its permissions and the free space")]
    File { path: PathBuf, source: io::Error },

    #[error("{model}: {}. ONNX Runtime {version} says: {message}", refusal(.message))]
    Load { model: String, version: String, message: String },
    #[error("graph `{graph}`: {}. ONNX Runtime {version} says: {message}", refusal(.message))]
    Infer { graph: String, version: String, message: String },
    #[error(
        "graph `{graph}`: {weights_bytes} bytes of weights do not fit into a model in memory; write them to a weights file \
         and load that"
    )]
    TooLarge { graph: String, weights_bytes: usize },
    #[error(
        "ONNX Runtime {version} cannot load a model in memory with weights in a file, {first} can: write the model to a file \
         beside them, or run `edgetune runtime install`"
    )]
    WeightsFolder { version: String, first: Version },
    #[error("{}", while_running(.0))]
    Ort(String),

    #[error("unknown execution provider `{name}`; known: cpu, cuda, tensorrt, xnnpack")]
    UnknownProvider { name: String },
    #[error(
        "provider `{provider}`: this edgetune was built without it; build with `cargo build --features {provider}`"
    )]
    ProviderNotBuilt { provider: Provider },
    #[error(
        "provider `{provider}`: the loaded ONNX Runtime has only {available}; pass setting `onnxruntime` <a build with \
         {provider}>, or use setting `provider = cpu`"
    )]
    ProviderAbsent { provider: Provider, available: String },
    #[error(
        "provider `{provider}` could not start: {message}; check its driver and libraries, or use setting `provider = cpu`"
    )]
    Provider { provider: Provider, message: String },

    #[error("{}: the profile of a run: {problem}; leave the model out, or name a cache with space by setting `cache = DIR`", path.display())]
    Profile { path: PathBuf, problem: String },

    #[error("input `{name}`: the model has no such input; it has {known}")]
    UnknownInput { name: String, known: String },
    #[error("output `{name}`: the model has no such output; it has {known}")]
    UnknownOutput { name: String, known: String },
    #[error("input `{name}`: no value was given for it")]
    MissingInput { name: String },
    #[error("input `{name}`: expected {expected}, got {got}")]
    InputType { name: String, expected: String, got: String },
    #[error("input `{name}`: {len} bytes do not make a {ty}")]
    BadTensor { name: String, ty: String, len: usize },
    #[error("value `{name}`: not a tensor of numbers; models with strings, sequences or maps here cannot be run")]
    NotTensor { name: String },

    #[error("value `{name}` has no buffer in this binding; name it in `Bound::new`")]
    NotBound { name: String },
    #[error("input `{name}` already has a buffer in this binding; write to it with `Bound::input_mut`")]
    OwnedInput { name: String },
    #[error("output `{name}` is an input handed through, which is never written; read the input instead")]
    PassedThrough { name: String },
    #[error("value `{name}` is declared as {declared}; a buffer of {asked} cannot hold it")]
    BufferShape { name: String, declared: String, asked: String },
    #[error("value `{name}` holds {held}, not {asked}")]
    BufferType { name: String, held: DType, asked: DType },
}

impl Error {
    /// A file or folder that could not be read or written.
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.into(), source }
    }
}

fn origin_words(origin: &Option<Origin>) -> String {
    origin.map(|origin| format!(" ({origin})")).unwrap_or_default()
}

fn known_versions(known: &str) -> String {
    if known.is_empty() { String::new() } else { format!("; there are {known}") }
}

/// What was found and why it was not taken, as a parenthesis.
fn in_parentheses(libraries: &[(PathBuf, String)]) -> String {
    if libraries.is_empty() {
        return String::new();
    }
    let each: Vec<String> = libraries.iter().map(|(path, reason)| format!("{}: {reason}", path.display())).collect();
    format!(" ({})", each.join("; "))
}
