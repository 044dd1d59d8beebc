//! What can go wrong between a base and an adapter.

use crate::{adapter, amounts, cache, cut, data, delta, engine, moments, onnx};
use std::io;
use std::path::{Path, PathBuf};

/// A number as it was typed, or nearly so.
fn short(number: f64) -> String {
    if (1e-6..1e6).contains(&number.abs()) { number.to_string() } else { format!("{number:e}") }
}

/// Why a bundle could not be made, or a run not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The base cannot be read.
    #[error(transparent)]
    Onnx(#[from] onnx::Error),
    /// What to train, or the head, does not fit the base.
    #[error(transparent)]
    Adapter(#[from] adapter::Error),
    /// The base cannot be cut there.
    #[error(transparent)]
    Cut(#[from] cut::Error),
    /// There is no step graph.
    #[error(transparent)]
    Step(#[from] super::step::Error),
    /// ONNX Runtime refused.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// ONNX Runtime refused a model as its file has it.
    #[error("{}: {source}", path.display())]
    Refused {
        /// The model's file.
        path: PathBuf,
        /// What is wrong with it.
        source: engine::Error,
    },
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The feature cache cannot be used.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// Moments that cannot be made or solved.
    #[error(transparent)]
    Moments(#[from] moments::Error),
    /// A file that was named.
    #[error("{}: cannot be read ({source}); check the path and that this user may read the file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours.
    #[error("{}: {source}; check that the folder exists, is writable and has space", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A model without the dimension that is said to be the batch.
    #[error(
        "{}: setting `batch-axis = {axis}`: no input of the model has so many dimensions, which are counted from 0; `edgetune inspect MODEL` lists \
         them", path.display()
    )]
    NoBatchAxis {
        /// The model's file.
        path: PathBuf,
        /// The dimension.
        axis: u32,
    },
    /// A model that takes one number of samples and no other.
    #[error(
        "{}: exported for a fixed batch of {}, and no other number of samples can pass: {stuck}; export it again with an open batch \
         (torch.onnx.export(…, dynamic_shapes={{'x': {{0: 'batch'}}}}), where `x` is its input)",
        path.display(), stuck.batch
    )]
    Baked {
        /// The model's file.
        path: PathBuf,
        /// What is in the way.
        stuck: cut::Baked,
    },
    /// The output has no fixed number of columns.
    #[error(
        "output `{output}` ({ty}): its last dimension must be fixed; choose another with setting `output`, or append a head with setting `classes = N`"
    )]
    Width {
        /// The output's name.
        output: String,
        /// Its type.
        ty: String,
    },
    /// A feature has another number of rows than there are samples.
    #[error(
        "feature `{feature}` has {rows} rows for a batch of {batch}: the model mixes samples below the cut; train more \
         layers (setting `train = last:N` with a larger N)"
    )]
    Rows {
        /// The feature's name.
        feature: String,
        /// Rows that came.
        rows: u64,
        /// Samples in the batch.
        batch: u64,
    },
    /// A file that cannot be a loss.
    #[error("{} as a loss: {problem}", path.display())]
    OwnLoss {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A model that gives another answer in every run.
    #[error(
        "node {node} draws random numbers, so the model's answer is another in every run and nothing can be learned from \
         its features; export the model for inference (model.eval()), or choose an output without it (setting `output`)"
    )]
    Random {
        /// The node.
        node: String,
    },
    /// A sample lacks an input of the model, or has another shape than the first.
    #[error("{sample}: input `{input}` {problem}")]
    Sample {
        /// The sample's name.
        sample: String,
        /// The model's input.
        input: String,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// What learns is not one linear layer over the features.
    #[error("setting `solver`: {problem}; {remedy}")]
    NoClosedForm {
        /// What it is instead.
        problem: String,
        /// What helps.
        remedy: &'static str,
    },
    /// A setting that does not fit.
    #[error("setting `{setting}`: {problem}")]
    Setting {
        /// Its name, and its value where that matters: `epochs`, `train = last:2`.
        setting: &'static str,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// The loss has become NaN or infinite, or a parameter more than fp16 holds.
    #[error(
        "the {what} became {} in epoch {epoch}, step {step}: lower setting `lr` (now {}; 0.001 is a good start), or bound the \
         gradients with setting `clip-norm = 1`", amounts::number(*value), short(*learning_rate)
    )]
    Diverged {
        /// Loss, gradient norm or largest parameter.
        what: &'static str,
        /// NaN, an infinity, or a value beyond ±65504.
        value: f64,
        /// Epoch, from 1.
        epoch: u32,
        /// Step in the epoch, from 1.
        step: u32,
        /// The learning rate at that step.
        learning_rate: f64,
    },
    /// The loss or its gradient is no number before anything was learned.
    #[error(
        "the {what} is {value} in the first step, before anything was learned, so no learning rate helps: look for values in the data that \
         are far outside of the model's range; `edgetune check MODEL`, with what learns named as here, tells the node if it is the model"
    )]
    Undefined {
        /// Loss or gradient norm.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
    },
    /// A delta that cannot be written or read.
    #[error("{}: {source}", path.display())]
    Delta {
        /// The file.
        path: PathBuf,
        /// What the format refuses.
        source: delta::Error,
    },
    /// A file of PEFT that cannot be imported.
    #[error("{}: {problem}", path.display())]
    Peft {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// A delta of another base.
    #[error(
        "{} was learned on base {wanted}…, but {} is {found}…: give the model that it was trained on",
        delta.display(),
        base.display()
    )]
    OtherBase {
        /// The delta's file.
        delta: PathBuf,
        /// Start of the hash it is bound to.
        wanted: String,
        /// The model's file.
        base: PathBuf,
        /// Start of the model's hash.
        found: String,
    },
    /// A retention set that cannot be used.
    #[error("{}: {problem}", path.display())]
    Retention {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// A checkpoint that cannot be used.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the remedy.
        problem: String,
    },
}

impl Error {
    /// A file of ours that the system refused.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }
}
