//! What can be wrong with a model file.

use std::io;
use std::path::PathBuf;

/// Why a model could not be read or written; each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Error {
    #[error("{}: {fault}", path.display())]
    Model { path: PathBuf, fault: Box<Error> },
    #[error("cannot be read ({source}); check the path and that this user may read the file")]
    Open { source: io::Error },
    #[error("is not a regular file; give the path of the .onnx file itself")]
    NotAFile,
    #[error("is empty; copy or download the model again")]
    Empty,
    #[error("has {found} bytes, more than a protobuf message may; save it again with external data")]
    TooLarge { found: usize },
    #[error("is not an ONNX model, or is cut off ({source}); compare its size with the original and copy it again")]
    Decode { source: prost::DecodeError },
    #[error("is not an ONNX model (it has no {field}); give a model file, not a tensor or a checkpoint")]
    Missing { field: &'static str },
    #[error(
        "IR version {found} is older than {least}; export the model again (onnx.version_converter keeps the IR version, so it \
         does not help)"
    )]
    IrVersion { found: i64, least: i64 },
    #[error(
        "ai.onnx operator set {found} is not supported ({first} to {last} are); export the model with opset_version=17, \
         or convert it with onnx.version_converter"
    )]
    Opset { found: i64, first: i64, last: i64 },
    #[error(
        "node `{node}` ({op}) of operator set {opset}: {problem}; export the model again with opset_version=17, or run \
         onnx.version_converter.convert_version(model, 17) and set model.ir_version = 8"
    )]
    Older { node: String, op: String, opset: i64, problem: String },
    #[error("the graph has no outputs; export the model again with named outputs")]
    NoOutputs,
    #[error("the graph's {role} number {index} has no name; export the model again")]
    Unnamed { role: &'static str, index: usize },
    #[error("input `{value}` is not a tensor of a supported element type; export the model with plain tensor inputs")]
    InputType { value: String },
    #[error("value `{value}` is defined twice ({second}); the file is damaged or was edited: export the model again")]
    Duplicate { value: String, second: String },
    #[error("output `{value}` is written by no node; the file is damaged or was cut apart: export the model again")]
    OutputUnwritten { value: String },
    #[error(
        "node `{node}` reads `{value}`, which nothing writes; the file is damaged or was cut apart: export it again"
    )]
    Unwritten { node: String, value: String },
    #[error(
        "node `{node}` is of domain `{domain}`, of which the model imports no operator set; the file is damaged: \
         export the model again"
    )]
    Domain { node: String, domain: String },
    #[error("node `{node}` is on a cycle; the file is damaged or was edited: export the model again")]
    Cycle { node: String },
    #[error("node `{node}` ({op}), attribute `{attribute}`: {problem}; export the model again without it")]
    Attribute { node: String, op: String, attribute: String, problem: String },
    #[error("tensor `{tensor}`: {problem}; {remedy}")]
    Tensor { tensor: String, problem: String, remedy: &'static str },
    #[error("tensor `{tensor}`: external data `{location}`: {problem}; {remedy}")]
    External { tensor: String, location: String, problem: String, remedy: &'static str },
    #[error("local function `{function}`: {problem}; inline it first with onnx.inliner.inline_local_functions(model)")]
    Function { function: String, problem: String },
    #[error("weight `{tensor}` occurs with two different contents; give the second one another name")]
    WeightsDiffer { tensor: String },
    #[error("the models name different weights files, `{first}` and `{second}`; they belong to different bundles")]
    WeightsFiles { first: String, second: String },
    #[error("cannot be written ({source}); check the free space and the folder's permissions")]
    Write { source: io::Error },
}

impl Error {
    /// What is wrong, without the path of the file.
    pub fn fault(&self) -> &Error {
        match self {
            Error::Model { fault, .. } => fault.fault(),
            other => other,
        }
    }

    pub(super) fn at(self, path: &std::path::Path) -> Self {
        Error::Model { path: path.into(), fault: Box::new(self) }
    }
}

impl From<io::Error> for Error {
    /// Only writing converts: reading says what it tried to read.
    fn from(source: io::Error) -> Self {
        Error::Write { source }
    }
}
