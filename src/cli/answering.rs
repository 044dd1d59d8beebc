//! The process that predicts for the agent: one model with one adapter, loaded, and samples over a pipe.
//!
//! Speaks [`frames`] on standard input and output. What is wrong with a sample is its answer; what is wrong with the model
//! is said first, and the process ends. It ends when its input does.

use super::Done;
use super::args::{Compute, Global};
use super::predictions::scored;
use super::samples::named_types;
use crate::agent::frames::{self, Answer, Class};
use crate::data::{self, ImagePreprocessing, Limits, Preprocessing, Texts, decode_array, decode_photograph};
use crate::delta::Task;
use crate::engine;
use crate::graph::{DType, Dim, Tensor, TensorType};
use crate::train::artifact::Adapter;
use crate::train::prepare::Base;
use crate::train::single::Single;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use std::io::{self, BufReader, Write};
use std::path::Path;

/// Bytes of a sample that is fed for a first run: a model may claim any shape.
const BLANK_BYTES_MAX: u64 = 1 << 28;

/// A model with an adapter, loaded.
struct Loaded {
    adapter: Adapter,
    takes: Takes,
    single: Single,
}

/// What a sample is.
pub(super) enum Takes {
    Photograph(ImagePreprocessing),
    Text(Box<Texts>),
    /// A NumPy array of one sample.
    Array {
        dtype: DType,
        shape: Option<Vec<u64>>,
    },
}

/// Answers until standard input ends.
///
/// # Errors
/// A model or an adapter that cannot be loaded; a pipe that breaks.
pub fn answer(files: (&Path, &Path, Option<&Path>), compute: &Compute, global: &Global) -> Result<Done> {
    let (mut from, mut to) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    let mut loaded = match load(files, compute, global) {
        Ok(loaded) => loaded,
        Err(error) => {
            frames::write(&mut to, &[format!("{error:#}").as_bytes()])?;
            return Err(error);
        }
    };
    frames::write(&mut to, &[])?;
    while let Some(message) = frames::read(&mut from)? {
        let (top, sample) = message.split_first_chunk().context("a message without a number of classes")?;
        let answer = loaded.predict(u16::from_le_bytes(*top), sample);
        frames::write(&mut to, &[&serde_json::to_vec(&answer)?])?;
    }
    to.flush()?;
    Ok(Done::Fully)
}

/// Of a model's file, an adapter's and, for texts, the tokenizer's.
fn load(
    (model, adapter, tokenizer): (&Path, &Path, Option<&Path>),
    compute: &Compute,
    global: &Global,
) -> Result<Loaded> {
    let adapter = Adapter::read(adapter)?;
    engine::load(&global.choice())?;
    let base = Base::read(model)?;
    let (bundle, values) = adapter.bundle(&base, &global.bundles()?)?;
    let takes = Takes::open(adapter.preprocessing, &bundle.inputs, (model, tokenizer))?;
    let mut single = Single::new(&bundle, &values, &compute.options())?;
    // What only the first run allocates and packs is done before somebody waits.
    if let Some(blank) = takes.blank() {
        single.output(blank)?;
    }
    Ok(Loaded { adapter, takes, single })
}

impl Takes {
    /// For a model's inputs; texts need the model's tokenizer.
    pub(super) fn open(
        preprocessing: Preprocessing,
        inputs: &[(String, TensorType)],
        (model, tokenizer): (&Path, Option<&Path>),
    ) -> Result<Self> {
        match (preprocessing, inputs) {
            (Preprocessing::Text { max_length }, inputs) => {
                let options = data::Options {
                    inputs: named_types(inputs),
                    tokenizer: tokenizer.map(Into::into),
                    ..data::Options::default()
                };
                Ok(Self::Text(Box::new(Texts::open(model, max_length, &options)?)))
            }
            (Preprocessing::Image(image), [_]) => Ok(Self::Photograph(image)),
            (Preprocessing::Plain, [(_, input)]) => Ok(Self::array(input)),
            (_, inputs) => bail!("{}: it has {} inputs, and a sample is one", model.display(), inputs.len()),
        }
    }

    /// One sample for such an input, whose first axis is the batch's.
    fn array(input: &TensorType) -> Self {
        let sizes = input.shape.as_deref().and_then(|shape| shape.get(1..));
        Self::Array { dtype: input.dtype, shape: sizes.and_then(|sizes| sizes.iter().map(Dim::fixed).collect()) }
    }

    /// A sample of zeros, or a short text; none where the model leaves the shape open.
    fn blank(&self) -> Option<Vec<Tensor>> {
        let (dtype, shape) = match self {
            Self::Photograph(image) => (DType::Float, image.shape().to_vec()),
            Self::Text(texts) => return texts.tensors(b"a").ok(),
            Self::Array { dtype, shape } => (*dtype, shape.clone()?),
        };
        let bytes = shape.iter().try_fold(dtype.bits() as u64 / 8, |bytes, size| bytes.checked_mul(*size));
        let bytes = bytes.filter(|bytes| *bytes <= BLANK_BYTES_MAX)?;
        Some(vec![Tensor { dtype, shape, data: vec![0; bytes as usize].into() }])
    }

    /// What the model is fed.
    pub(super) fn decode(&self, sample: &[u8]) -> Result<Vec<Tensor>, String> {
        match self {
            Self::Photograph(image) => Ok(vec![decode_photograph(sample, image, &Limits::default())?]),
            Self::Text(texts) => texts.tensors(sample),
            Self::Array { dtype, shape } => {
                let tensor = decode_array(&Bytes::copy_from_slice(sample), *dtype)?;
                match shape {
                    Some(shape) if *shape != tensor.shape => Err(format!(
                        "an array of shape {:?}, where the model takes {shape:?}; set samples.kind to that",
                        tensor.shape
                    )),
                    _ => Ok(vec![tensor]),
                }
            }
        }
    }
}

impl Loaded {
    fn predict(&mut self, top: u16, sample: &[u8]) -> Answer {
        let input = match self.takes.decode(sample) {
            Ok(input) => input,
            Err(reason) => return Answer::Refused(reason),
        };
        match self.single.output(input) {
            Err(error) => Answer::Refused(error.to_string()),
            Ok(values) if self.adapter.task == Task::Regression => Answer::Predicted { classes: vec![], values },
            Ok(logits) => {
                let classes = scored(&self.adapter, &logits, top.into()).into_iter();
                let class =
                    |class: super::predictions::Scored| Class { name: class.name, probability: class.probability };
                Answer::Predicted { classes: classes.map(class).collect(), values: vec![] }
            }
        }
    }
}
