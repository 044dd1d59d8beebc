//! A training from its recipe to its delta, stage by stage, and what predictions and measurements share with it.
//!
//! Takes a [`Job`] (a recipe, and where its result goes) and a [`Context`] (folders, the runtime, who is told); gives a
//! [`Trained`]. The stages are types, each of which gives the next: [`Opened`] has read model and data, [`Planned`] knows
//! what learns, [`Prepared`] has divided the model, [`Learned`] holds the learned values, [`Encoded`] holds them as they ship,
//! and saving gives the report. What can be refused without the data is refused before they are read. Nothing here parses
//! options or prints.

mod answered;
mod budget;
mod calibrate;
mod classes;
mod compared;
mod context;
mod described;
mod division;
mod encode;
mod encoding;
mod fitting;
mod keeping;
mod forward;
mod gates;
mod guessed;
mod label_errors;
mod more_samples;
pub mod lines;
mod observer;
mod open;
mod pixels;
mod plan;
mod prepare;
mod range;
mod rates;
mod report;
mod retained;
mod retention;
pub mod samples;
mod save;
mod sets;
pub mod settings;
mod series;
mod sounds;

pub use answered::{Answered, Calibration, Confusion, Mistake};
pub use compared::BeforeAfter;
pub use context::{Clock, Computing, Context};
pub use described::adapter_of;
pub use division::{bundle, divided};
pub use encode::Encoded;
pub use encoding::increase_max;
pub use fitting::Learned;
pub use forward::{Answers, Forward};
pub use gates::Gate;
pub use guessed::loss_of;
pub use keeping::{Made, make as make_retention};
pub use label_errors::{LabelError, label_errors};
pub use more_samples::{curve_line, curve_of};
pub use observer::{Event, Observer, Progress, Told, epoch_line};
pub use open::{Opened, checkpoint_path};
pub use plan::Planned;
pub use prepare::{Prepared, output_line};
pub use report::{Energy, Report};
pub use retention::{Retention, retention_line};
pub use save::Trained;
pub use sets::{Data, Sources, scale};

use crate::data::Labels;
use crate::graph::Tensor;
use crate::recipe::{Error, Recipe};
use std::path::PathBuf;

/// What is learned, and what becomes of the result.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// Everything the training is decided by.
    pub recipe: Recipe,
    /// Samples that the caller holds, in the place of the recipe's data.
    pub given: Option<Given>,
    /// The delta's file; `None` writes neither it nor a checkpoint.
    pub out: Option<PathBuf>,
    /// Whether to go on from the checkpoint beside the delta.
    pub resume: bool,
    /// End where a sample cannot be read, instead of leaving it out.
    pub no_skip: bool,
    /// Whether to look for labels that are probably wrong among the samples, and for what more samples would give, for the report.
    pub judges_samples: bool,
    /// When the delta is written, in seconds since 1970.
    pub created_unix_s: u64,
}

/// Samples that lie in no file.
#[derive(Debug, Clone)]
pub struct Given {
    /// One tensor `[samples, …]` for each input of the model.
    pub inputs: Vec<(String, Tensor)>,
    /// What the samples are.
    pub labels: Labels,
}

/// Trains and writes the delta; `None` if it was stopped before there was anything to go on with.
///
/// # Errors
/// A recipe that does not fit the model or the data; a file that cannot be read or written; what ONNX Runtime refuses.
pub fn train(job: &Job, context: &Context<'_>) -> Result<Option<Trained>, Error> {
    let Some(planned) = Opened::open(job, context)?.plan()? else { return Ok(None) };
    let learned = planned.prepare()?.learn()?;
    Ok(Some(learned.encode()?.save()?))
}
