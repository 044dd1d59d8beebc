//! The process that predicts for the agent: one model with one adapter, loaded, and samples over a pipe.
//!
//! Speaks [`frames`] on standard input and output. What is wrong with a sample is its answer; what is wrong with the model
//! is said first, and the process ends. It ends when its input does.

use super::Done;
use super::args::{Compute, Global};
use super::predictions::scored;
use crate::agent::frames::{self, Answer, Class};
use crate::data::{ImagePreprocessing, Limits, Preprocessing, decode_array, decode_photograph};
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

/// A model with an adapter, loaded.
struct Loaded {
    adapter: Adapter,
    takes: Takes,
    single: Single,
}

/// What a sample is.
enum Takes {
    Photograph(ImagePreprocessing),
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
pub fn answer(model: &Path, adapter: &Path, compute: &Compute, global: &Global) -> Result<Done> {
    let (mut from, mut to) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    let mut loaded = match load(model, adapter, compute, global) {
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

fn load(model: &Path, adapter: &Path, compute: &Compute, global: &Global) -> Result<Loaded> {
    let adapter = Adapter::read(adapter)?;
    engine::load(&global.choice())?;
    let base = Base::read(model)?;
    let (bundle, values) = adapter.bundle(&base, &global.bundles()?)?;
    if bundle.inputs.len() != 1 {
        bail!("{}: it has {} inputs, and a sample is one", model.display(), bundle.inputs.len());
    }
    let takes = match adapter.preprocessing {
        Preprocessing::Image(image) => Takes::Photograph(image),
        Preprocessing::Plain => Takes::array(&bundle.inputs[0].1),
        Preprocessing::Text { .. } => {
            bail!("{}: its samples are texts; use `edgetune predict`", adapter.path.display());
        }
    };
    let mut single = Single::new(&bundle, &values, &compute.options())?;
    // What only the first run allocates and packs is done before somebody waits.
    if let Some(blank) = takes.blank() {
        single.output(vec![blank])?;
    }
    Ok(Loaded { adapter, takes, single })
}

impl Takes {
    /// One sample for such an input, whose first axis is the batch's.
    fn array(input: &TensorType) -> Self {
        let sizes = input.shape.as_deref().and_then(|shape| shape.get(1..));
        Self::Array { dtype: input.dtype, shape: sizes.and_then(|sizes| sizes.iter().map(Dim::fixed).collect()) }
    }

    /// A sample of zeros; none where the model leaves its shape open.
    fn blank(&self) -> Option<Tensor> {
        let (dtype, shape) = match self {
            Self::Photograph(image) => (DType::Float, image.shape().to_vec()),
            Self::Array { dtype, shape } => (*dtype, shape.clone()?),
        };
        let bytes = shape.iter().product::<u64>() as usize * dtype.bits() / 8;
        Some(Tensor { dtype, shape, data: vec![0; bytes].into() })
    }

    /// What the model is fed.
    fn decode(&self, sample: &[u8]) -> Result<Tensor, String> {
        match self {
            Self::Photograph(image) => decode_photograph(sample, image, &Limits::default()),
            Self::Array { dtype, shape } => {
                let tensor = decode_array(&Bytes::copy_from_slice(sample), *dtype)?;
                match shape {
                    Some(shape) if *shape != tensor.shape => Err(format!(
                        "an array of shape {:?}, where the model takes {shape:?}; set samples.shape to that",
                        tensor.shape
                    )),
                    _ => Ok(tensor),
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
        match self.single.output(vec![input]) {
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
